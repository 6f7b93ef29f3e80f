"""`pilothouse export` and `pilothouse import`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pilothouse.cli import options, show
from pilothouse.cli.control import Control, connect

Place = Annotated[str, typer.Argument(help="A folder, or a URL such as s3://bucket/path (extra `s3`).")]


@show.verb
def export(
    to: Place,
    since: Annotated[str, typer.Option("--since", help="24h, 7d, or an ISO time; from the beginning if absent.")] = "",
    until: Annotated[str, typer.Option("--until", help="Likewise; until now if absent.")] = "",
    jsonl: Annotated[bool, typer.Option("--jsonl", help="JSON lines instead of Parquet.")] = False,
    data: options.Data = options.DATA,
    folder: options.App = options.APP,
    as_json: options.Json = False,
) -> None:
    """Write requests, spans, scores and payloads to files, as they are stored."""
    with connect(data, folder) as control:
        asked = {"to": _place(to), "since": since, "until": until, "format": "jsonl" if jsonl else "parquet"}
        result = _followed(control, "/api/v1/exports", "export", quiet=as_json, **asked)
    if as_json:
        show.json(result)
        return
    show.line(f"{sum(result['rows'].values()):,} rows in {len(result['files'])} files: {result['to']}")
    show.table(("table", "rows"), [(name, f"{rows:,}") for name, rows in result["rows"].items() if rows])


@show.verb
def import_(
    source: Place,
    data: options.Data = options.DATA,
    folder: options.App = options.APP,
    as_json: options.Json = False,
) -> None:
    """Take in what `export` wrote; rows that are there already stay as they are."""
    with connect(data, folder) as control:
        result = _followed(control, "/api/v1/imports", "import", quiet=as_json, source=_place(source))
    if as_json:
        show.json(result)
        return
    added, known = result["added"], result["known"]
    show.line(f"{sum(added.values()):,} rows added, {sum(known.values()):,} were there: {result['source']}")
    rows = [(name, f"{added[name]:,}", f"{known[name]:,}") for name in added if added[name] or known[name]]
    show.table(("table", "added", "there already"), rows)


def _place(text: str) -> str:
    """An absolute path, since control may run elsewhere; a URL as it is."""
    return text if "://" in text else str(Path(text).expanduser().absolute())


def _followed(control: Control, path: str, what: str, *, quiet: bool, **asked: Any) -> dict[str, Any]:
    result: dict[str, Any] = {}
    with show.progress(what, quiet=quiet) as advance:
        for told in control.stream(path, **asked):
            if told["type"] == "progress":
                advance(told["done"], told["total"])
            elif told["type"] == "result":
                result = told
    result.pop("type", None)
    return result
