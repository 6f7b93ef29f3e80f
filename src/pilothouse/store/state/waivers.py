"""Waivers: expiring exceptions to checklist items; and the reviews that were signed off."""

import msgspec
from sqlalchemy import Connection, delete, insert, select

from pilothouse.domain.change import Actor, ChainedChange, Change
from pilothouse.domain.clock import Clock
from pilothouse.domain.errors import NotFound, Refused
from pilothouse.domain.finding import Review
from pilothouse.domain.hashing import bytes_hash, canonical
from pilothouse.store.state import changes
from pilothouse.store.state.rows import as_struct, upsert
from pilothouse.store.state.tables import reviews, waivers

SIGNED = "review.sign"


class Waiver(msgspec.Struct, frozen=True, kw_only=True):
    """An exception to an item for a route until `until_us`. It never turns a finding into PASS, only into WAIVED."""

    item: str
    route: str
    until_us: int
    reason: str
    by: str


def grant(conn: Connection, waiver: Waiver, *, actor: Actor, clock: Clock) -> None:
    """Store and log a waiver; Refused without a reason or an end in the future."""
    if not waiver.reason.strip():
        raise Refused("a waiver needs a reason")
    if waiver.until_us <= clock.now_us():
        raise Refused("a waiver ends in the future", hint="give a later date")
    upsert(conn, waivers, msgspec.structs.asdict(waiver), (waivers.c.item, waivers.c.route))
    _log(conn, waiver, "waiver.grant", actor, clock)


def withdraw(conn: Connection, item: str, route: str, *, actor: Actor, clock: Clock) -> None:
    """End a waiver now and log it; NotFound where there is none."""
    where = (waivers.c.item == item, waivers.c.route == route)
    row = conn.execute(select(waivers).where(*where)).mappings().first()
    if row is None:
        raise NotFound(f"there is no waiver of {item} for {route!r}")
    conn.execute(delete(waivers).where(*where))
    _log(conn, as_struct(row, Waiver), "waiver.withdraw", actor, clock)


def active(conn: Connection, now_us: int) -> list[Waiver]:
    """Waivers that have not expired at `now_us`, the next to expire first."""
    query = select(waivers).where(waivers.c.until_us > now_us).order_by(waivers.c.until_us)
    return [as_struct(row, Waiver) for row in conn.execute(query).mappings()]


def put_review(conn: Connection, review: Review, *, actor: Actor, clock: Clock) -> str:
    """Keep a review under its content's hash and log that hash; the hash."""
    kept = canonical(review)
    address = bytes_hash(kept)
    if conn.execute(select(reviews.c.hash).where(reviews.c.hash == address)).first() is None:
        conn.execute(insert(reviews).values(hash=address, ts_us=clock.now_us(), review=kept.decode()))
    change = Change(actor=actor, action="review.keep", object_type="review", object_id=address[:12], after_hash=address)
    changes.append(conn, change, clock)
    return address


def sign(
    conn: Connection, review: Review, *, actor: Actor, reason: str, clock: Clock, measured_us: int | None = None
) -> str:
    """Keep a review of one route and log who signed it and why; its hash. Refused without a reason.

    `measured_us`: before its measuring began, since what came later was not seen; None: now.
    """
    if not reason.strip():
        raise Refused("a review is signed with a reason", hint="say what was looked at: --reason")
    address = put_review(conn, review, actor=actor, clock=clock)
    measured = {} if measured_us is None else {"measured_us": measured_us}
    for one in review.routes:
        change = Change(
            actor=actor,
            action=SIGNED,
            object_type="review",
            object_id=address[:12],
            route=one.route,
            env=one.env,
            after_hash=address,
            reason=reason,
            detail={"ready": one.ready, "counts": one.counts} | measured,
        )
        changes.append(conn, change, clock)
    return address


def signed(conn: Connection, route: str, env: str) -> ChainedChange | None:
    """The last signature under a review of the route; None where nobody signed one."""
    found = changes.find(conn, route=route, env=env, actions=(SIGNED,), limit=1)
    return found[0] if found else None


def measured_us(signature: ChainedChange) -> int:
    """Up to when a signature closes what fired: when its review was measured, where the log says it."""
    return int(signature.change.detail.get("measured_us", signature.ts_us))


def review(conn: Connection, address: str) -> Review:
    """The review with that hash; NotFound where it was not kept."""
    text = conn.execute(select(reviews.c.review).where(reviews.c.hash == address)).scalar()
    if text is None:
        raise NotFound(f"no review {address[:12]} was kept")
    return msgspec.json.decode(text, type=Review)


def _log(conn: Connection, waiver: Waiver, action: str, actor: Actor, clock: Clock) -> None:
    change = Change(
        actor=actor,
        action=action,
        object_type="waiver",
        object_id=waiver.item,
        route=waiver.route,
        reason=waiver.reason,
        detail={"until_us": waiver.until_us, "by": waiver.by},
    )
    changes.append(conn, change, clock)
