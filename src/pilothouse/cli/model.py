"""`pilothouse model`."""

from typing import Annotated, Any

import typer

from pilothouse.cli import options, show
from pilothouse.cli.control import connect

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
@show.verb
def list_(
    route: options.Route,
    data: options.Data = options.DATA,
    folder: options.App = options.APP,
    as_json: options.Json = False,
) -> None:
    """Show the route's alternates, and whether it may be switched to them."""
    with connect(data, folder) as control:
        found = control.get(f"/api/v1/routes/{route}/models")
    if as_json:
        show.json(found)
    else:
        _table(found)


@app.command()
@show.verb
def qualify(
    route: options.Route,
    model: Annotated[str, typer.Argument(metavar="[MODEL]", help="provider/model; all alternates if not given.")] = "",
    data: options.Data = options.DATA,
    folder: options.App = options.APP,
    as_json: options.Json = False,
) -> None:
    """Evaluate alternates with the route's gate, and probe them. Exit 1 where one is not qualified."""
    found: dict[str, Any] = {}
    with connect(data, folder) as control:
        lines = control.stream(f"/api/v1/routes/{route}/models/qualify", model=model)
        with show.progress("qualify", quiet=as_json) as advance:
            for told in lines:
                if told["type"] == "progress":
                    advance(told["done"], told["total"])
                elif told["type"] == "result":
                    found = told
    if as_json:
        show.json(found)
    else:
        _table(found)
    asked = [one for one in found["alternates"] if model in ("", one["model"])]
    raise typer.Exit(show.BLOCK if any(one["objections"] for one in asked) else show.OK)


@app.command()
@show.verb
def switch(
    route: options.Route,
    model: Annotated[
        str, typer.Argument(metavar="[MODEL]", help="provider/model; the first that is fit if none.")
    ] = "",
    env: options.Env = "prod",
    force: Annotated[bool, typer.Option("--force", help="One that is not qualified; needs --reason.")] = False,
    reason: options.Reason = "",
    data: options.Data = options.DATA,
    folder: options.App = options.APP,
    as_json: options.Json = False,
) -> None:
    """Serve the route by another model, qualified beforehand."""
    with connect(data, folder) as control:
        asked: dict[str, Any] = {"env": env, "model": model, "reason": reason, "force": force}
        _switched(control.post(f"/api/v1/routes/{route}/models/switch", **asked), route, as_json=as_json)


@app.command()
@show.verb
def back(
    route: options.Route,
    env: options.Env = "prod",
    reason: options.Reason = "",
    data: options.Data = options.DATA,
    folder: options.App = options.APP,
    as_json: options.Json = False,
) -> None:
    """Serve the route by its release's own model again."""
    with connect(data, folder) as control:
        asked: dict[str, Any] = {"env": env, "reason": reason, "back": True}
        _switched(control.post(f"/api/v1/routes/{route}/models/switch", **asked), route, as_json=as_json)


def _switched(moved: dict[str, Any], route: str, *, as_json: bool) -> None:
    if as_json:
        show.json(moved)
    else:
        reached = f"on {moved['workers']} of {moved['of']} workers in {moved['propagated_ms'] / 1000:.2f} s"
        by = moved["model"] or "its release's own model"
        show.line(f"  {route} is served by {by}, {reached if moved['of'] else 'no worker is running'}")
    if moved["late"]:
        raise typer.Exit(show.USAGE)


def _table(found: dict[str, Any]) -> None:
    show.line(f"{found['route']}  {found['model']}" + (f", pinned to {found['pinned']}" if found["pinned"] else ""))
    rows = [
        (
            one["model"],
            show.share(one["pass_rate"]),
            show.when(one["evaluated_us"]),
            show.when(one["probed_us"]),
            "-" if one["quota"] is None else f"{one['quota']:,.0f}/min",
            "; ".join(one["objections"]) or "qualified",
        )
        for one in found["alternates"]
    ]
    show.table(("alternate", "pass rate", "evaluated", "probed", "quota", ""), rows)
