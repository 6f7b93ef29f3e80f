"""`pilothouse alerts` and `pilothouse rules`."""

from typing import Annotated, Any

import typer

from pilothouse.cli import options, show
from pilothouse.cli.control import connect

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
rules_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

QUIET = ("inactive", "resolved")


@app.command("list")
@show.verb
def list_alerts(
    route: Annotated[str, typer.Option("--route", help="Only this route's.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Quiet and resolved ones too.")] = False,
    data: options.Data = options.DATA,
    folder: options.App = options.APP,
    as_json: options.Json = False,
) -> None:
    """Show what fires, who has it, and what was done."""
    with connect(data, folder) as control:
        found = control.get("/alerts.json", route=route)["alerts"]
    shown = [alert for alert in found if everything or alert["state"] not in QUIET]
    if as_json:
        show.json({"alerts": shown})
        return
    if not shown:
        show.line("nothing fires")
        return
    rows = [
        (a["id"], a["state"], a["route"], a["rule"], show.when(a["since_us"]), a["owner"], a["message"]) for a in shown
    ]
    show.table(("id", "state", "route", "rule", "since", "owner", "message"), rows)


@app.command()
@show.verb
def ack(
    ident: Annotated[str, typer.Argument(metavar="ID", help="Id of the alert.")],
    actionable: Annotated[
        bool | None, typer.Option("--actionable/--not-actionable", help="Also say whether it was worth it.")
    ] = None,
    data: options.Data = options.DATA,
    folder: options.App = options.APP,
    as_json: options.Json = False,
) -> None:
    """Say that you have it: no more reminders."""
    with connect(data, folder) as control:
        alert = control.post(f"/api/v1/alerts/{ident}/ack")
        if actionable is not None:
            alert = control.post(f"/api/v1/alerts/{ident}/actionable", actionable=actionable)
    if as_json:
        show.json(alert)
    else:
        show.line(f"{alert['rule']} is {alert['state']}, acknowledged by {alert['acknowledged_by']}")


@rules_app.command("list")
@show.verb
def list_rules(
    data: options.Data = options.DATA, folder: options.App = options.APP, as_json: options.Json = False
) -> None:
    """Show every rule in force, and where it comes from."""
    with connect(data, folder) as control:
        found = control.get("/api/v1/rules")
    if as_json:
        show.json(found)
        return
    rows = [_row(one["rule"], one["from"]) for one in found["rules"]]
    show.table(("route", "item", "fires when", "over", "owner", "does", "from"), rows)


def _row(rule: dict[str, Any], origin: str) -> tuple[str, ...]:
    does = ", ".join(f"{one['kind']} {one['argument']}".strip() for one in rule["actions"])
    when = f"{rule['metric']} {rule['op']} {rule['threshold']:g}"
    return rule["route"], rule["item"] or "-", when, f"{rule['window_s']} s", rule["owner"], does, origin


@rules_app.command()
@show.verb
def check(data: options.Data = options.DATA, folder: options.App = options.APP, as_json: options.Json = False) -> None:
    """Check every rule: owner, threshold, action, metric. Exit code 1 where one lacks something."""
    with connect(data, folder) as control:
        found = control.get("/api/v1/rules")["rules"]
    wrong = [{"rule": one["rule"]["name"], "error": one["error"]} for one in found if one["error"]]
    if as_json:
        show.json({"ok": not wrong, "rules": len(found), "wrong": wrong})
    else:
        for one in wrong:
            show.line(f"  {show.status('FAIL')}  {one['error']}")
        show.line(f"  {len(found) - len(wrong)} of {len(found)} rules have owner, threshold and action")
    if wrong:
        raise typer.Exit(show.BLOCK)
