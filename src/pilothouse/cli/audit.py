"""`pilothouse audit`."""

import typer

from pilothouse.cli import options, show
from pilothouse.cli.control import connect

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.command()
@show.verb
def verify(data: options.Data = options.DATA, folder: options.App = options.APP, as_json: options.Json = False) -> None:
    """Check the hash chain of the change log from its first entry."""
    with connect(data, folder) as control:
        report = control.get("/api/v1/audit/verify")
    if as_json:
        show.json(report)
    elif report["ok"]:
        show.line(f"  {show.status('PASS')}  {report['rows']} entries, head {report['head'][:12] or '-'}")
    else:
        show.line(f"  {show.status('FAIL')}  at entry {report['first_bad_seq']}: {report['reason']}")
    if not report["ok"]:
        raise typer.Exit(show.BLOCK)


@app.command("list")
@show.verb
def list_changes(
    route: str = typer.Option("", "--route", help="Only this route's."),
    limit: int = typer.Option(20, "--limit", help="How many."),
    data: options.Data = options.DATA,
    folder: options.App = options.APP,
    as_json: options.Json = False,
) -> None:
    """Show the newest changes."""
    with connect(data, folder) as control:
        found = control.get("/api/v1/changes", route=route, limit=limit)
    if as_json:
        show.json(found)
        return
    rows = [
        (str(row["seq"]), show.when(row["ts_us"]), f"{row['change']['actor']['type']}:{row['change']['actor']['id']}",
         row["change"]["action"], row["change"]["object_id"], row["change"]["env"], row["change"]["reason"])
        for row in found["changes"]
    ]  # fmt: skip
    show.table(("entry", "when", "by", "action", "what", "env", "reason"), rows)
