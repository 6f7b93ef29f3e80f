"""`pilothouse drill`."""

import typer

from pilothouse.cli import options, show
from pilothouse.cli.control import connect

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _drills() -> None:
    """Exercises whose evidence the review reads."""


@app.command("export")
@show.verb
def export(
    route: options.Route,
    env: options.Env = "prod",
    data: options.Data = options.DATA,
    folder: options.App = options.APP,
    as_json: options.Json = False,
) -> None:
    """Send the route's newest traces out, take them in again elsewhere, and compare (T2.7)."""
    with connect(data, folder) as control:
        found = control.post(f"/api/v1/routes/{route}/drills/export", env=env)
    if as_json:
        show.json(found)
    elif not found["traces"]:
        show.line(f"  {show.status('NO DATA')} {route} has no trace of more than one step in the last 7 days")
    else:
        rows = f"{found['traces']} traces, {found['rows']:,} rows: {found['lost']} not as they were"
        spans = f"{found['otlp_spans']:,} spans over OTLP: {found['otlp_lost']} lost"
        show.line(f"  {show.status('PASS' if found['ok'] else 'FAIL')} {rows}; {spans}")
    raise typer.Exit(show.OK if found["ok"] else show.BLOCK)


@app.command("rescan")
@show.verb
def rescan(
    route: options.Route,
    env: options.Env = "prod",
    data: options.Data = options.DATA,
    folder: options.App = options.APP,
    as_json: options.Json = False,
) -> None:
    """Scan stored rows of the route again for what redaction left (T2.5); control does this daily."""
    with connect(data, folder) as control:
        found = control.post(f"/api/v1/routes/{route}/drills/rescan", env=env)
    if as_json:
        show.json(found)
    elif not found["rows"]:
        show.line(f"  {show.status('NO DATA')} {route} has no stored row of the last 7 days")
    else:
        share = f"{found['leaks'] / found['rows']:.2%} [{found['low']:.2%}, {found['high']:.2%}]"
        classes = "".join(f", {kind}: {n:,}" for kind, n in found["classes"].items())
        word = "PASS" if found["ok"] else "FAIL"
        show.line(
            f"  {show.status(word)} {found['leaks']:,} of {found['rows']:,} rows hold something: {share}{classes}"
        )
        show.line(f"  {found['secrets']:,} with a credential; scanned by {found['scanner']}")
    raise typer.Exit(show.OK if found["ok"] else show.BLOCK if found["rows"] else show.INCONCLUSIVE)
