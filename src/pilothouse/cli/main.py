"""The command line: `pilothouse VERB`. Each verb imports what it needs when it runs."""

import typer

from pilothouse import __version__
from pilothouse.cli import (
    alerts,
    audit,
    backup,
    config,
    demo,
    drill,
    evals,
    flags,
    hosts,
    index,
    init,
    keys,
    model,
    release,
    retention,
    review,
    route,
    runbook,
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
app.add_typer(
    release.app, name="release", help="Releases: create, diff, plan, apply, promote, rollback, history, notes."
)
app.command("rollback")(release.rollback)
app.add_typer(index.app, name="index", help="Retrieval indexes: register, list.")
app.add_typer(route.app, name="route", help="Kill switches: disable, enable.")
app.add_typer(model.app, name="model", help="Alternate models: list, qualify, switch, back.")
app.add_typer(evals.app, name="eval", help="Evals: run, show.")
app.command("review")(review.review)
app.command("runbook")(runbook.runbook)
app.add_typer(audit.app, name="audit", help="The change log: verify, list.")
app.add_typer(trace.app, name="trace", help="Requests: list, show, replay.")
app.add_typer(flags.app, name="flag", help="Flags: list, show, set, enable, disable, rollout, eval, history.")
app.add_typer(config.app, name="config", help="The app's files: check.")
app.add_typer(
    drill.app, name="drill", help="Drills: rollback, provider-outage, fallback, model-switch, kill-switch, restore …"
)
app.add_typer(hosts.app, name="hosts", help="Hosts that share the state store: list, forget.")
app.command("export")(transfer.export)
app.command("import")(transfer.import_)
app.command("backup")(backup.backup)
app.command("restore")(backup.restore)
app.add_typer(store.app, name="store", help="Stores: migrate telemetry; grants of the state.")
app.command("retention")(retention.retention)
app.command("demo")(demo.demo)
app.add_typer(alerts.app, name="alerts", help="Alerts: list, ack.")
app.add_typer(alerts.rules_app, name="rules", help="Rules: list, check.")
