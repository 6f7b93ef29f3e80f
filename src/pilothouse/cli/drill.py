"""`pilothouse drill`."""

from collections.abc import Callable
from typing import Any

import typer

from pilothouse.cli import options, show
from pilothouse.cli.control import connect

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
WHAT = {
    "export": "Send the route's newest traces out, take them in again elsewhere, and compare (T2.7).",
    "rollback": "Flip the pointer to a release of the same content and back, under traffic, and time it (T10.1).",
    "provider-outage": "Let the provider fail in every way, on a stage, and see what callers get (CR.3, T4.5).",
    "fallback": "Exercise each declared way to give less than everything, on a stage (T6.6).",
    "model-switch": "Ask every other model that the route names; outside prod, switch to one and back (T10.2).",
    "rescan": "Scan stored rows of the route again for what redaction left (T2.5); control does this daily.",
    "restore": "Back the whole state up, restore it beside, and compare every table.",
    "kill-switch": "See what a switched off route answers; outside prod, switch it off and on (T10.3).",
}


@app.callback()
def _drills() -> None:
    """Exercises whose evidence the review reads."""


def _command(kind: str) -> Callable[..., None]:
    @show.verb
    def drill(
        route: options.Route,
        env: options.Env = "prod",
        data: options.Data = options.DATA,
        folder: options.App = options.APP,
        as_json: options.Json = False,
    ) -> None:
        with connect(data, folder) as control:
            found: dict[str, Any] = {}
            for told in control.stream(f"/api/v1/routes/{route}/drills/{kind}", env=env):
                if told["type"] == "started" and not as_json:
                    show.line(f"  {kind} of {route} in {env} …")
                elif told["type"] == "progress" and not as_json:
                    show.line(f"    {told['text']}")
                elif told["type"] == "result":
                    found = {name: value for name, value in told.items() if name != "type"}
        if as_json:
            show.json(found)
        else:
            {"export": _export, "rescan": _rescan}.get(kind, _tell)(found)
        nothing = found.get("rows") == 0 and kind == "rescan"
        raise typer.Exit(show.INCONCLUSIVE if nothing else show.OK if found["ok"] else show.BLOCK)

    drill.__doc__ = WHAT[kind]
    return drill


def _export(found: dict[str, Any]) -> None:
    if not found["traces"]:
        show.line(f"  {show.status('NO DATA')} {found['route']} has no trace of more than one step in the last 7 days")
        return
    rows = f"{found['traces']} traces, {found['rows']:,} rows: {found['lost']} not as they were"
    spans = f"{found['otlp_spans']:,} spans over OTLP: {found['otlp_lost']} lost"
    show.line(f"  {show.status('PASS' if found['ok'] else 'FAIL')} {rows}; {spans}")


def _rescan(found: dict[str, Any]) -> None:
    if not found["rows"]:
        show.line(f"  {show.status('NO DATA')} {found['route']} has no stored row of the last 7 days")
        return
    share = f"{found['leaks'] / found['rows']:.2%} [{found['low']:.2%}, {found['high']:.2%}]"
    classes = "".join(f", {kind}: {n:,}" for kind, n in found["classes"].items())
    word = show.status("PASS" if found["ok"] else "FAIL")
    show.line(f"  {word} {found['leaks']:,} of {found['rows']:,} rows hold something: {share}{classes}")
    show.line(f"  {found['secrets']:,} with a credential; scanned by {found['scanner']}")


def _tell(found: dict[str, Any]) -> None:
    for one in found["evidence"]:
        detail = {name: value for name, value in one["detail"].items() if value not in ("", None)}
        show.line(f"  {show.status('PASS' if one['ok'] else 'FAIL')} {one['kind']}")
        width = max((len(name) for name in detail), default=0)
        for name, value in detail.items():
            show.line(f"       {name.replace('_', ' ').ljust(width)}  {value}")
    show.line(f"  took {found['took_ms'] / 1000:.2f} s; the review reads it: pilothouse review {found['route']}")


for _kind in WHAT:
    app.command(_kind)(_command(_kind))
