"""`pilothouse index`."""

from typing import Annotated

import typer

from pilothouse.cli import options, show
from pilothouse.cli.control import connect

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.command()
@show.verb
def register(
    name: Annotated[str, typer.Argument(help="Name of the index, as in a route's `index`.")],
    version: Annotated[str, typer.Argument(help="Version of this build: a date, a digest.")],
    notes: Annotated[str, typer.Option("--notes", "-m", help="What changed and why.")] = "",
    documents: Annotated[int | None, typer.Option("--documents", help="How many it holds.")] = None,
    data: options.Data = options.DATA,
    folder: options.App = options.APP,
    as_json: options.Json = False,
) -> None:
    """Register a version of an index: releases that name none take the newest."""
    with connect(data, folder) as control:
        made = control.post("/api/v1/indexes", name=name, version=version, notes=notes, documents=documents)
    if as_json:
        show.json(made)
    else:
        show.line(f"{name}  version {made['version']} is registered")


@app.command("list")
@show.verb
def list_(data: options.Data = options.DATA, folder: options.App = options.APP, as_json: options.Json = False) -> None:
    """Show every version of every index, and what serves it."""
    with connect(data, folder) as control:
        found = control.get("/api/v1/indexes")
    if as_json:
        show.json(found)
        return
    rows = []
    for one in found["versions"]:
        version = one["version"]
        documents = "-" if version["documents"] is None else f"{version['documents']:,}"
        when = show.when(version["registered_us"])
        rows.append(
            (version["name"], version["version"], documents, when, version["author"], ", ".join(one["serves"]) or "-")
        )
    show.table(("index", "version", "documents", "registered", "by", "serves"), rows)
