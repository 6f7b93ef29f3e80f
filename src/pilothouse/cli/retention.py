"""`pilothouse retention`."""

from typing import Annotated, Any

import typer

from pilothouse.cli import options, show
from pilothouse.cli.control import connect


@show.verb
def retention(
    now: Annotated[bool, typer.Option("--now", help="Remove what is due now, not within the next minute.")] = False,
    data: options.Data = options.DATA,
    folder: options.App = options.APP,
    as_json: options.Json = False,
) -> None:
    """Show how long records stay, what they take on the disk, and what was removed."""
    with connect(data, folder) as control:
        found = control.post("/api/v1/retention") if now else control.get("/api/v1/retention")
    if as_json:
        show.json(found)
        return
    usage = found["usage"]
    cap = f" of {_size(usage['cap'])}" if usage["cap"] is not None else ", no cap"
    over = ": over it, and the rest may not go" if found["over_cap"] else ""
    show.line(f"{_size(usage['total'])} on the disk{cap}{over}")
    show.table(
        ("what", "bytes"),
        [(name, _size(usage[name])) for name in ("store", "payloads", "journal", "free")],
    )
    show.table(("route", "payloads", "spans", "requests", "floor"), _rules(found["rules"]))
    if found["removals"]:
        show.table(
            ("removed", "what", "day", "route", "rows", "why"),
            [
                (show.when(one["ts_us"]), one["what"], one["day"], one["route"], f"{one['count']:,}", one["reason"])
                for one in found["removals"][:20]
            ],
        )


def _rules(rules: dict[str, Any]) -> list[tuple[str, ...]]:
    named = [("*", rules["general"]), *sorted(rules["routes"].items())]
    return [(name, *(_days(keep[what]) for what in ("payloads", "spans", "requests", "floor"))) for name, keep in named]


def _days(days: int | None) -> str:
    return "for ever" if days is None else f"{days}d"


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count < 10**9 else f"{count / 1e9:,.2f} GB"
