"""Reading text that was kept in full: none leaves before the change log says who reads it.

Only the payloads of log mode `full` hold personal data, so this is the one door to them for pages, JSON twins, verbs
and replays. Where the entry cannot be written, the text is not read. Redacted text needs none.
"""

from collections.abc import Sequence
from typing import Any

from pilothouse.domain.change import Actor, Change
from pilothouse.domain.record import Payload
from pilothouse.server.composition import Control
from pilothouse.store.state import changes
from pilothouse.telemetry import payloads, read

READ = "text.read"  # the entry's action


def bodies(control: Control, owners: Sequence[str], actor: Actor, how: str) -> dict[str, Payload]:
    """Owner → its stored bodies, of those that have any: requests by id, spans by `trace_id/span_id`. `how` says by
    which way they leave. Raises StoreError, also where the entry cannot be written.
    """
    found = payloads.fetch(control.telemetry, list(dict.fromkeys(owners)))
    kept = {owner: Payload(**found[owner]) for owner in found}
    noted = [
        Change(
            actor=actor,
            action=READ,
            object_type="span" if "/" in one.owner else "request",
            object_id=one.owner,
            route=one.route,
            env=one.env,
            detail={"by": how},
        )
        for one in read.in_full(control.telemetry, list(kept))
    ]
    _write(control, noted)
    return kept


def note_all(control: Control, actor: Actor, how: str, window: tuple[int, int], detail: dict[str, Any]) -> None:
    """Say that all payloads of a time (µs since 1970) are read; an entry for each route that keeps some in full."""
    found = read.in_full_between(control.telemetry, *window)
    _write(
        control,
        [
            Change(
                actor=actor, action=READ, object_type="telemetry", object_id=how, route=route, env=env,
                detail={"by": how, "payloads": count, **detail},
            )
            for route, env, count in found
        ],
    )  # fmt: skip


def _write(control: Control, noted: Sequence[Change]) -> None:
    if noted:
        with control.state.write() as conn:
            for change in noted:
                changes.append(conn, change, control.clock)
