"""`pilothouse trace`."""

from typing import Annotated, Any

import typer

from pilothouse.cli import options, show
from pilothouse.cli.control import connect

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Ident = Annotated[str, typer.Argument(metavar="ID", help="Id of a request (x-pilothouse-request-id) or of a trace.")]


@app.command("list")
@show.verb
def list_traces(
    route: Annotated[str, typer.Option("--route", help="Only this route's.")] = "",
    since: Annotated[str, typer.Option("--since", help="1h, 30m, or an ISO time.")] = "",
    limit: Annotated[int, typer.Option("--limit", help="How many.")] = 20,
    data: options.Data = options.DATA,
    folder: options.App = options.APP,
    as_json: options.Json = False,
) -> None:
    """Show the newest requests."""
    with connect(data, folder) as control:
        found = control.get("/traces.json", route=route, since=since, limit=limit)
    if as_json:
        show.json(found)
        return
    rows = [
        (row["id"], show.when(row["ts_us"]), row["route"], str(row["release"] or "-"), row["outcome"],
         f"{row['duration_ms']:.0f} ms", show.usd(row["cost_usd"]), row["preview_in"].replace("\n", " "))
        for row in found["traces"]
    ]  # fmt: skip
    show.table(("id", "when", "route", "release", "outcome", "took", "cost", "input"), rows)


@app.command("show")
@show.verb
def show_trace(
    ident: Ident, data: options.Data = options.DATA, folder: options.App = options.APP, as_json: options.Json = False
) -> None:
    """Show one request: its record, and the waterfall of its trace."""
    with connect(data, folder) as control:
        found = control.get(f"/traces/{ident}.json", payload="" if as_json else "no")
    if as_json:
        show.json(found)
        return
    record = found["record"]
    release = f"release {record['release']}" if record["release"] is not None else "no release"
    error = f"  {record['error_type']}: {record['error_message']}" if record["error_type"] else ""
    show.line(f"{record['id']}  {record['route'] or record['requested_model']}  {record['env']}  {release}")
    took, cost = f"{record['duration_ms']:.0f} ms", show.usd(record["cost_usd"])
    show.line(f"  {record['outcome']}  HTTP {record['status']}  {took}  {cost}{error}")
    parts = "  ".join(f"{part} {address[:6]}" for part, address in sorted(record["parts"].items()))
    show.line(f"  {parts}")
    show.line()
    waterfall = found["waterfall"]
    steps = waterfall["steps"] if waterfall else []
    rows = [(_name(step), f"{step['start_ms']:.1f}", f"{step['duration_ms']:.1f}", _stage(step)) for step in steps]
    show.table(("step", "from ms", "took ms", "stage"), rows)
    show.line()
    show.line(f"  in   {record['preview_in']!r}")
    show.line(f"  out  {record['preview_out']!r}")
    show.line(f"  again: {found['replay']}")


def _name(step: dict[str, Any]) -> str:
    indent: int = step["depth"]
    return "  " * indent + str(step["name"])


def _stage(step: dict[str, Any]) -> str:
    stage = str(step["stage"] or step["kind"])
    return f"{stage} ({step['error_type']})" if step["error_type"] else stage


@app.command()
@show.verb
def replay(
    ident: Ident,
    send: Annotated[bool, typer.Option("--send", help="Send it to the provider once more.")] = False,
    data: options.Data = options.DATA,
    folder: options.App = options.APP,
    as_json: options.Json = False,
) -> None:
    """Make a request's upstream body again from its record alone, and compare it with what was sent."""
    with connect(data, folder) as control:
        found = control.post(f"/api/v1/requests/{ident}/replay", send=send)
    if as_json:
        show.json(found)
    else:
        word = "PASS" if found["same"] else "FAIL"
        what = "the same body byte for byte" if found["same"] else "another body"
        redacted = ", after redaction" if found["redacted"] else ""
        hashes = f"sha256 {found['hash'][:12]}, recorded {found['recorded_hash'][:12]}"
        show.line(f"  {show.status(word)}  {what}{redacted}   {hashes}")
        show.line(found["body"])
        if found["reply"]:
            show.line()
            show.line(found["reply"]["text"] or found["reply"]["error"])
    if not found["same"]:
        raise typer.Exit(show.BLOCK)
