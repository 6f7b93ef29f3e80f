"""The command line: `pilothouse VERB`. Each verb imports what it needs when it runs."""

import typer

from pilothouse import __version__
from pilothouse.cli import (
    alerts,
    audit,
    config,
    demo,
    drill,
    evals,
    init,
    keys,
    release,
    retention,
    review,
    store,
    trace,
    transfer,
    up,
)

app = typer.Typer(
    name="pilothouse",
    help="Serve, record, evaluate, release, roll back and review your LLM app.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _main(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Options of the command itself."""
    del version


app.command("init")(init.init)
app.command("up")(up.up)
app.command("status")(up.status)
app.add_typer(keys.app, name="keys", help="API keys: create, list, revoke.")
app.add_typer(release.app, name="release", help="Releases: create, diff, plan, promote, rollback, history, notes.")
app.command("rollback")(release.rollback)
app.add_typer(evals.app, name="eval", help="Evals: run, show.")
app.command("review")(review.review)
app.add_typer(audit.app, name="audit", help="The change log: verify, list.")
app.add_typer(trace.app, name="trace", help="Requests: list, show, replay.")
app.add_typer(config.app, name="config", help="The app's files: check.")
app.add_typer(drill.app, name="drill", help="Drills: export.")
app.command("export")(transfer.export)
app.command("import")(transfer.import_)
app.add_typer(store.app, name="store", help="The telemetry store: migrate.")
app.command("retention")(retention.retention)
app.command("demo")(demo.demo)
app.add_typer(alerts.app, name="alerts", help="Alerts: list, ack.")
app.add_typer(alerts.rules_app, name="rules", help="Rules: list, check.")
