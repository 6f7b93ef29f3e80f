"""What the app's files say of who answers for a route, how much hangs on it and how long its records stay.

It stands in the change log whenever it differs from what stood there, since nobody else keeps it: a file is edited
without a verb. The first row of a route says what it began with.
"""

from typing import Any

import msgspec
from sqlalchemy import Connection

from pilothouse.config.app import AppConfig
from pilothouse.domain.change import Actor, ChainedChange, Change
from pilothouse.domain.clock import Clock
from pilothouse.domain.hashing import content_hash
from pilothouse.domain.trigger_facts import Event, What
from pilothouse.store.state import changes
from pilothouse.store.state.engine import StateStore

ACTION = "policy.declare"
FILES = Actor(type="policy", id="files")
_TIERS = ("lite", "standard", "high")


def sync(store: StateStore, config: AppConfig, clock: Clock) -> None:
    """Log what the files say now of each route, where it differs from what the log says."""
    wanted = {name: _said(config, name) for name in config.routes}
    with store.read() as conn:
        known = _known(conn)
    if all(known.get(name) == said for name, said in wanted.items()):
        return
    with store.write() as conn:
        known = _known(conn)
        for name, said in wanted.items():
            if known.get(name) != said:
                _log(conn, name, known.get(name), said, clock)


def _said(config: AppConfig, name: str) -> dict[str, Any]:
    route, keeps = config.routes[name], config.retention
    kept = msgspec.to_builtins(keeps.routes.get(name, keeps.general))
    return {"tier": route.tier, "owner": route.owner, "backup": route.backup, "retention": kept}


def _known(conn: Connection) -> dict[str, dict[str, Any]]:
    return {row.change.route: row.change.detail["after"] for row in changes.newest_moves(conn, (ACTION,))}


def _log(conn: Connection, name: str, before: dict[str, Any] | None, after: dict[str, Any], clock: Clock) -> None:
    made = Change(
        actor=FILES,
        action=ACTION,
        object_type="route",
        object_id=name,
        route=name,
        before_hash=content_hash(before) if before is not None else "",
        after_hash=content_hash(after),
        reason="; ".join(reason for _, reason in _differences(before, after)) if before is not None else "",
        detail={"before": before, "after": after},
    )
    changes.append(conn, made, clock)


def events(conn: Connection, route: str, since_us: int) -> tuple[Event, ...]:
    """What the files changed since then."""
    return tuple(
        Event(ts_us=row.ts_us, what=what, reason=reason)
        for row in changes.find(conn, route=route, actions=(ACTION,), since_us=since_us)
        for what, reason in _of_row(row)
    )


def _of_row(row: ChainedChange) -> list[tuple[What, str]]:
    before = row.change.detail["before"]
    return [] if before is None else _differences(before, row.change.detail["after"])


def _differences(before: dict[str, Any], after: dict[str, Any]) -> list[tuple[What, str]]:
    found: list[tuple[What, str]] = [
        ("retention", f"{kind} kept {_days(before['retention'][kind])} → {_days(days)}")
        for kind, days in after["retention"].items()
        if before["retention"].get(kind, days) != days  # a kind that the code did not know before is no change
    ]
    found += [
        ("access", f"{role} {before[role] or 'nobody'} → {after[role] or 'nobody'}")
        for role in ("owner", "backup")
        if before[role] != after[role]
    ]
    if before["tier"] != after["tier"]:
        raised = _TIERS.index(after["tier"]) > _TIERS.index(before["tier"])
        found.append(("tier" if raised else "access", f"tier {before['tier']} → {after['tier']}"))
    return found


def _days(days: int | None) -> str:
    return "for ever" if days is None else f"{days} d"
