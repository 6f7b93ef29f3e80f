"""`pilothouse hosts`."""

from typing import Annotated, Any

import typer

from pilothouse.cli import options, show
from pilothouse.cli.control import connect

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
@show.verb
def list_(
    data: options.Data = options.DATA,
    folder: options.App = options.APP,
    as_json: options.Json = False,
) -> None:
    """Show the hosts that share the state store, and what their workers hold."""
    with connect(data, folder) as control:
        found = control.get("/api/v1/hosts")
    if as_json:
        show.json(found)
        return
    if not found["hosts"]:
        show.line("this host is alone: its state is in a file of its own")
        return
    show.table(
        ("host", "heard", "leads", "table", "workers that hold it", "app's files", "version"),
        [_row(host, found["revision"]) for host in found["hosts"]],
    )
    if len({host["files"] for host in found["hosts"]}) > 1:
        show.line("the app's files differ between hosts: each serves releases with its own providers and prices")


def _row(host: dict[str, Any], revision: int) -> tuple[str, ...]:
    held = sum(has >= revision for has in host["workers"].values())
    heard = f"cut off, {host['age_s']:.0f} s ago" if host["cut_off"] else f"{host['age_s']:.1f} s ago"
    leads = "yes" if host["leads"] and not host["cut_off"] else "-"
    workers = f"{held} of {len(host['workers'])}"
    return host["host"], heard, leads, str(host["revision"]), workers, host["files"], host["version"]


@app.command()
@show.verb
def forget(
    host: Annotated[str, typer.Argument(help="Name of the host, as in `hosts list`.")],
    data: options.Data = options.DATA,
    folder: options.App = options.APP,
    as_json: options.Json = False,
) -> None:
    """Take a host off the list that will not come back; one that runs is refused."""
    with connect(data, folder) as control:
        done = control.delete(f"/api/v1/hosts/{host}")
    if as_json:
        show.json(done)
    else:
        show.line(f"{host} is no longer waited for")
