"""Reviews of routes that triggers have opened again (V1–V6), as the change log has them, and what that holds back.

Which triggers wait is measured by the review; here it is kept, once for each. What is open in the log keeps rollouts
small: nothing goes above a tenth of the sessions until somebody has signed, or everything that is due was measured
anew. What takes a release back, or lowers its share, is never held.
"""

from collections.abc import Iterable, Sequence

import msgspec
from sqlalchemy import Connection

from pilothouse.domain.change import Actor, Change
from pilothouse.domain.clock import Clock
from pilothouse.domain.errors import Refused
from pilothouse.domain.release import Pointer
from pilothouse.domain.trigger_facts import Reopened, signing
from pilothouse.releases import history
from pilothouse.releases.guardrail import percent
from pilothouse.store.state import changes, waivers
from pilothouse.store.state.engine import StateStore
from pilothouse.store.state.waivers import SIGNED

CAP = 0.10  # of sessions: what a release may have while a review is open
SHARE = percent(CAP)
OPENED, CLOSED = "review.reopen", "review.close"
REVIEW_OPEN = "review_open"
BY = Actor(type="policy", id="review")
_SHOWN = 2


class _Known(msgspec.Struct, kw_only=True):
    """What the log says of a route in an environment. `told`: trigger → when the newest that was opened had fired."""

    open: dict[str, Reopened] = {}
    told: dict[str, int] = {}
    signed_us: int = 0

    def is_new(self, one: Reopened) -> bool:
        return one.ts_us > max(self.told.get(one.id, 0), self.signed_us)


def _known(conn: Connection, route: str, env: str) -> _Known:
    known = _Known()
    for row in changes.find(conn, route=route, env=env, actions=(OPENED, CLOSED, SIGNED)):
        if row.change.action == SIGNED:
            known.signed_us = waivers.measured_us(row)
            known.open = {name: one for name, one in known.open.items() if one.ts_us > known.signed_us}
            continue
        one = Reopened(id=row.change.object_id, ts_us=row.change.detail["fired_us"], sentence=row.change.reason)
        if row.change.action == CLOSED:
            known.open.pop(one.id, None)
            continue
        known.told[one.id] = max(one.ts_us, known.told.get(one.id, 0))
        if one.ts_us > known.signed_us:
            known.open[one.id] = one
    return known


def open_of(conn: Connection, route: str, env: str) -> tuple[Reopened, ...]:
    """The triggers that are open as the log has it, by name."""
    return tuple(one for _, one in sorted(_known(conn, route, env).open.items()))


def keep(store: StateStore, route: str, env: str, found: Sequence[Reopened], clock: Clock) -> tuple[Reopened, ...]:
    """Write to the log what differs from it; the triggers that nobody has heard of.

    `found` is what waits now, the newest of each trigger. One that was closed stays closed until it fires anew, so that
    a figure which comes and goes opens nothing twice. What fired before the route was live is part of what its first
    release was.
    """
    with store.read() as conn:
        if not any(_differences(conn, route, env, found)):
            return ()
    with store.write() as conn:
        opened, closed = _differences(conn, route, env, found)
        for one in opened:
            changes.append(conn, _change(OPENED, route, env, one), clock)
        for one in closed:
            changes.append(conn, _change(CLOSED, route, env, one), clock)
    return tuple(opened)


def _differences(
    conn: Connection, route: str, env: str, found: Sequence[Reopened]
) -> tuple[list[Reopened], list[Reopened]]:
    """What is to be opened, and what is to be closed."""
    known = _known(conn, route, env)
    opened = [one for one in found if known.is_new(one)]
    if opened:
        first = changes.find(conn, route=route, env=env, actions=(history.PROMOTE,))  # how a route begins
        opened = [one for one in opened if first and one.ts_us > first[0].ts_us]
    waiting = {one.id for one in found}
    return opened, [one for name, one in known.open.items() if name not in waiting]


def _change(action: str, route: str, env: str, one: Reopened) -> Change:
    return Change(
        actor=BY,
        action=action,
        object_type="trigger",
        object_id=one.id,
        route=route,
        env=env,
        reason=one.sentence,
        detail={"fired_us": one.ts_us},
    )


def said(found: Iterable[Reopened]) -> str:
    """The triggers in one clause."""
    sentences = [one.sentence for one in found]
    more = f" and {len(sentences) - _SHOWN} more" if len(sentences) > _SHOWN else ""
    return "; ".join(sentences[:_SHOWN]) + more


def held(conn: Connection, route: str, env: str) -> str:
    """Why a rollout stays small, and the command that lets it go on; empty where nothing is open."""
    found = open_of(conn, route, env)
    return f"{said(found)}; above {SHARE} after `{signing(route, env)}`" if found else ""


def check(conn: Connection, route: str, before: Pointer | None, env: str, release: int, share: float | None) -> None:
    """Refuse to give `release` more than the cap (None: all of it) while a review is open; a smaller share than it has
    is never refused, nor is a route's first release.
    """
    asked = 1.0 if share is None else share
    if before is None or asked <= CAP or (share is not None and before.canary == release and share < before.share):
        return
    if found := open_of(conn, route, env):
        raise Refused(
            f"until the open review of {route} is signed a release gets {SHARE} at most: {said(found)}",
            where=f"{route} in {env}",
            hint=f"{signing(route, env)} (a rollback needs no signature)",
            code=REVIEW_OPEN,
        )
