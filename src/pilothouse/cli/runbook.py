"""`pilothouse runbook`."""

from pilothouse.cli import options, show
from pilothouse.cli.control import connect


@show.verb
def runbook(
    route: options.Route,
    env: options.Env = "prod",
    data: options.Data = options.DATA,
    folder: options.App = options.APP,
    as_json: options.Json = False,
) -> None:
    """Print what to do when the route is in trouble, with the ids of now in every command."""
    with connect(data, folder) as control:
        found = control.get(f"/api/v1/routes/{route}/runbook", env=env)
    if as_json:
        show.json(found)
    else:
        show.line(found["markdown"])
