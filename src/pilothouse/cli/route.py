"""`pilothouse route`."""

from pathlib import Path
from typing import Any

import typer

from pilothouse.cli import options, show
from pilothouse.cli.control import connect

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.command()
@show.verb
def disable(
    route: options.Route,
    env: options.Env = "prod",
    reason: options.Reason = "",
    data: options.Data = options.DATA,
    folder: options.App = options.APP,
    as_json: options.Json = False,
) -> None:
    """Throw the route's kill switch: nothing is served until it is enabled."""
    _flip("disable", route, {"env": env, "reason": reason}, (data, folder), as_json=as_json)


@app.command()
@show.verb
def enable(
    route: options.Route,
    env: options.Env = "prod",
    reason: options.Reason = "",
    data: options.Data = options.DATA,
    folder: options.App = options.APP,
    as_json: options.Json = False,
) -> None:
    """Serve the route again."""
    _flip("enable", route, {"env": env, "reason": reason}, (data, folder), as_json=as_json)


def _flip(verb: str, route: str, asked: dict[str, str], at: tuple[Path, Path], *, as_json: bool) -> None:
    with connect(*at) as control:
        moved: dict[str, Any] = control.post(f"/api/v1/routes/{route}/{verb}", **asked)
    if as_json:
        show.json(moved)
    else:
        from pilothouse.server.reach import reach

        show.line(f"  {route} is {verb}d in {moved['env']}, {reach(moved)}")
    if moved["late"]:
        raise typer.Exit(show.USAGE)
