"""`pilothouse backup` and `pilothouse restore`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pilothouse.cli import options, show
from pilothouse.cli.control import connect


@show.verb
def backup(
    file: Annotated[Path, typer.Argument(help="File to write; one that is there is replaced.")],
    telemetry: Annotated[
        bool, typer.Option("--telemetry", help="Also what this host has recorded, which may be large.")
    ] = False,
    data: options.Data = options.DATA,
    folder: options.App = options.APP,
    as_json: options.Json = False,
) -> None:
    """Write the state into one file, checked: releases, pointers, keys, runs, alerts, reviews, the change log."""
    result: dict[str, Any] = {}
    with connect(data, folder) as control, show.progress("backup", quiet=as_json) as advance:
        asked = {"to": str(file.expanduser().absolute()), "telemetry": telemetry}
        for told in control.stream("/api/v1/backups", **asked):
            if told["type"] == "progress":
                advance(told["done"], told["total"])
            elif told["type"] == "result":
                result = told
    result.pop("type", None)
    if as_json:
        show.json(result)
        return
    holds = result["contents"]
    rows = sum(table["rows"] for table in holds["tables"].values())
    show.line(f"{rows:,} rows of {len(holds['tables'])} tables, {result['bytes'] / 1e6:,.2f} MB: {result['file']}")
    show.line(f"change log: {holds['changes']:,} rows, whole, head {holds['head'][:12]}")
    show.line("not in it: the folder `secret` of the data directory; keep a copy of it elsewhere")


@show.verb
def restore(
    file: Annotated[Path, typer.Argument(help="A file that `backup` wrote.")],
    force: Annotated[bool, typer.Option("--force", help="Put it in the place of the state that is there.")] = False,
    data: options.Data = options.DATA,
    folder: options.App = options.APP,
    as_json: options.Json = False,
) -> None:
    """Make the state what it was, proven table by table; into the store that the app's files name."""
    from pilothouse.server.datadir import DataDir
    from pilothouse.server.verbs import backups

    with show.progress("restore", quiet=as_json) as advance:
        place = DataDir(data.absolute())
        done = backups.restore(folder.absolute(), place, file.expanduser(), force=force, progress=advance)
    if as_json:
        show.json(done)
        return
    engines = f"{done['from_engine']} → {done['to_engine']}"
    show.line(f"{done['rows']:,} rows of {len(done['tables'])} tables, equal to the backup's ({engines})")
    show.line(f"change log: {done['changes']:,} rows, whole, head {done['head'][:12]}")
    if done["telemetry"] is not None:
        show.line(f"{sum(done['telemetry'].values()):,} recorded rows added")
    if done["same_secrets"] is False:
        show.line("this host has other secrets than the backup's: copy its folder `secret` here, or make new keys")
