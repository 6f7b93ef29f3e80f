"""The verbs that move a pointer. Each is one transaction: the pointer, its changes in the log, a new table revision."""

import secrets

import msgspec
from sqlalchemy import Connection

from pilothouse.config.app import RouteConfig
from pilothouse.domain.change import Actor, Change
from pilothouse.domain.clock import Clock
from pilothouse.domain.errors import BadRequest, Conflict, Refused, StoreError
from pilothouse.domain.model_ref import ModelRef
from pilothouse.domain.release import Pointer, Release, Rollback
from pilothouse.domain.table import ENVIRONMENTS
from pilothouse.releases import admission, integrity, reopened
from pilothouse.releases.history import history, moves, require_pointer, target
from pilothouse.releases.move import Moved, Planned, What, make
from pilothouse.store.state import changes, drills, pointers, releases
from pilothouse.store.state.engine import StateStore

POLICY = "refused_by_policy"

__all__ = [
    "Moved", "Promotion", "history", "pin_model", "promote", "promote_in", "restore", "rollback", "rollback_in",
    "set_disabled", "step_in",
]  # fmt: skip


class Promotion(msgspec.Struct, frozen=True, kw_only=True):
    """An order to make `release` live in `env`: as canary for `share` of sessions (0: the shadow stage), or stable
    without it.

    `force` goes over what policy refuses, and needs a `reason`. With `expected_revision` (of the pointer, 0: none
    yet) the order stands only if nobody moved the pointer since. `objections`: what others have found against it,
    such as callers that would not survive; they too are gone over by force alone.
    """

    env: str
    release: int
    actor: Actor
    reason: str = ""
    share: float | None = None
    force: bool = False
    expected_revision: int | None = None
    objections: tuple[str, ...] = ()


def promote(store: StateStore, route: RouteConfig, order: Promotion, clock: Clock) -> Moved:
    """Make a release stable or canary. Raises NotFound, Refused with every reason, or Conflict.

    While a review is open no order gets more than a tenth of the sessions, forced or not: Refused with the code
    `review_open`. An order that policy or an open review refuses is in the change log too, as
    `release.promote_refused`.
    """
    integrity.mend(store, clock)
    try:
        with store.write() as conn:
            return promote_in(conn, route, order, clock)
    except Refused as refused:
        if refused.kind in (POLICY, reopened.REVIEW_OPEN):
            _note_refusal(store, route.name, order, refused, clock)
        raise


def _note_refusal(store: StateStore, route: str, order: Promotion, refused: Refused, clock: Clock) -> None:
    change = Change(
        actor=order.actor,
        action="release.promote_refused",
        object_type="pointer",
        object_id=f"{route}@{order.env}",
        route=route,
        env=order.env,
        reason=refused.what,
        detail={"release": order.release, "share": order.share, "said": order.reason},
    )
    with store.write() as conn:
        changes.append(conn, change, clock)


def promote_in(conn: Connection, route: RouteConfig, order: Promotion, clock: Clock) -> Moved:
    """The same inside the caller's transaction."""
    _environment(order.env)
    if order.share is not None and not 0.0 <= order.share <= 1.0:
        raise BadRequest(f"a canary's share lies between 0 and 1, not {order.share}", hint="0.05 is 5 % of sessions")
    if order.share == 0 and route.canary.shadow is None:
        raise BadRequest("a share of 0 is the shadow stage, and the route has none", hint="`canary: {shadow: …}`")
    release = releases.get(conn, route.name, order.release)
    if gone := releases.missing(conn, release):
        raise StoreError(f"release {release.number} of {route.name} misses {', '.join(gone)}", where="parts")
    before = pointers.get(conn, route.name, order.env)
    _expect(before, order)
    _possible(before, order)
    reopened.check(conn, route.name, before, order.env, order.release, order.share)
    overridden = _admit(conn, route, order, before)
    note = admission.notes(conn, route, order.env, order.release, before)
    move = _stable(release, before, order) if order.share is None else _canary(before, order, order.share, clock)
    move = msgspec.structs.replace(move, actor=order.actor, reason=order.reason, overridden=overridden, note=note)
    return make(conn, move, clock)


def _expect(before: Pointer | None, order: Promotion) -> None:
    found = before.revision if before else 0
    if order.expected_revision is not None and order.expected_revision != found:
        raise Conflict(
            f"the pointer in {order.env} is at revision {found}, not {order.expected_revision}",
            hint="somebody moved it: read it again and decide again",
        )


def _possible(before: Pointer | None, order: Promotion) -> None:
    """Refuse what makes no sense, forced or not."""
    if before is None:
        return
    if order.release == before.stable:
        hint = "a rollback ends the canary" if before.canary is not None else ""
        raise Refused(
            f"release {order.release} is the stable one in {order.env} already", hint=hint, code="already_there"
        )
    if order.release == before.canary and order.share == before.share:
        raise Refused(f"release {order.release} is the canary at {order.share:.0%} already", code="already_there")


def _admit(conn: Connection, route: RouteConfig, order: Promotion, before: Pointer | None) -> tuple[str, ...]:
    """What `force` goes over; Refused without it."""
    if order.share is not None and before is not None and before.canary == order.release:
        return ()  # the canary is admitted already: only its share changes
    found = admission.objections(conn, route, order.env, order.release, pointer=before, canary=order.share is not None)
    found += order.objections
    if not found:
        return ()
    if not order.force:
        hint = "to go over it: force, with a reason"
        raise Refused("; ".join(found), where=f"{route.name} in {order.env}", hint=hint, code=POLICY)
    if not order.reason.strip():
        raise Refused("a forced promotion needs a reason", where=f"{route.name} in {order.env}", code=POLICY)
    return tuple(found)


def _stable(release: Release, before: Pointer | None, order: Promotion) -> Planned:
    base = before or Pointer(route=release.route, env=order.env, stable=release.number)
    after = without_canary(msgspec.structs.replace(base, stable=release.number))
    return Planned(what="promoted", before=before, after=after, actor=order.actor)


def _canary(before: Pointer | None, order: Promotion, share: float, clock: Clock) -> Planned:
    if before is None:
        raise Refused(
            f"a canary needs a stable release in {order.env} beside it", hint="promote the first one without a share"
        )
    if before.canary == order.release:
        after = msgspec.structs.replace(before, share=share)
        return Planned(what="canary_stepped", before=before, after=after, actor=order.actor)
    after = msgspec.structs.replace(
        before, canary=order.release, share=share, salt=secrets.token_hex(8), canary_started_us=clock.now_us()
    )
    return Planned(what="canary_started", before=before, after=after, actor=order.actor)


def step_in(conn: Connection, pointer: Pointer, share: float, *, actor: Actor, reason: str, clock: Clock) -> Moved:
    """Give the running canary another share, inside the caller's transaction; the salt stays."""
    after = msgspec.structs.replace(pointer, share=share)
    move = Planned(what="canary_stepped", before=pointer, after=after, actor=actor, reason=reason)
    return make(conn, move, clock)


def rollback(
    store: StateStore, route: str, env: str, *, actor: Actor, reason: str, clock: Clock, to: int | None = None
) -> Moved:
    """Take the canary away, or else go back to the release that was stable before. Refused where there is none.

    `to` names a release that was live in `env` before, or has passed its gate. It needs no config, so that a route
    whose files are broken can be rolled back too.
    """
    integrity.mend(store, clock)
    with store.write() as conn:
        return rollback_in(conn, route, env, actor=actor, reason=reason, clock=clock, to=to)


def rollback_in(
    conn: Connection, route: str, env: str, *, actor: Actor, reason: str, clock: Clock, to: int | None = None
) -> Moved:
    """The same inside the caller's transaction."""
    before = require_pointer(conn, route, env)
    found = target(conn, before, to)
    if not found.ok or found.target is None or found.from_release is None:
        raise Refused(f"{route} cannot be rolled back: {found.reason}", where=env, code="no_target")
    after = without_canary(msgspec.structs.replace(before, stable=found.target))
    what: What = "canary_aborted" if after.stable == before.stable else "rolled_back"
    moved = make(conn, Planned(what=what, before=before, after=after, actor=actor, reason=reason), clock)
    row = Rollback(
        id=0,
        route=route,
        env=env,
        from_release=found.from_release,
        to_release=found.target,
        ts_us=clock.now_us(),
        actor=str(actor),
        reason=reason,
        t_flip_us=clock.now_us(),
    )
    rollback_id = drills.add_rollback(conn, row)
    return msgspec.structs.replace(
        moved, from_release=found.from_release, to_release=found.target, rollback_id=rollback_id, note=found.reason
    )


def restore(store: StateStore, moved: Moved, *, actor: Actor, reason: str, clock: Clock) -> Moved:
    """Put the stable release back to what it was before `moved`, because what should have followed failed.

    A canary does not come back with it: what is not known to be served everywhere is not compared either. Conflict
    where somebody has moved the pointer since; Refused where nothing was live before, or `moved` took something back.
    """
    with store.write() as conn:
        now = require_pointer(conn, moved.route, moved.env)
        if now.revision != moved.pointer.revision:
            raise Conflict(
                f"the pointer of {moved.route} in {moved.env} has moved since: it is not put back",
                hint="read it again and decide again",
            )
        last = moves(conn, moved.route, moved.env)[-1]
        if last.before is None or moved.what not in ("promoted", "canary_started", "canary_stepped"):
            raise Refused(f"nothing is put back in {moved.env}", where=moved.route, code="no_target")
        after = without_canary(msgspec.structs.replace(last.before, revision=now.revision))
        return make(conn, Planned(what="restored", before=now, after=after, actor=actor, reason=reason), clock)


def set_disabled(
    store: StateStore, route: str, env: str, disabled: bool, *, actor: Actor, reason: str, clock: Clock
) -> Moved:
    """Throw the route's kill switch in `env`, or take it back. Refused where it stands so already."""
    integrity.mend(store, clock)
    with store.write() as conn:
        before = require_pointer(conn, route, env)
        if before.disabled == disabled:
            raise Refused(f"{route} is {'disabled' if disabled else 'enabled'} in {env} already", code="already_there")
        after = msgspec.structs.replace(before, disabled=disabled, disabled_reason=reason if disabled else "")
        what: What = "disabled" if disabled else "enabled"
        return make(conn, Planned(what=what, before=before, after=after, actor=actor, reason=reason), clock)


def pin_model(store: StateStore, route: str, env: str, model: str, *, actor: Actor, reason: str, clock: Clock) -> Moved:
    """Serve the route's releases with `provider/model` instead of their own; an empty `model` ends that."""
    ref = ModelRef.parse(model)
    if model and not (ref.provider and ref.name):
        raise BadRequest(f"{model!r} is not `provider/model`")
    integrity.mend(store, clock)
    with store.write() as conn:
        before = require_pointer(conn, route, env)
        if before.pinned_model == model:
            raise Refused(f"{route} is pinned to {model or 'no model'} in {env} already", code="already_there")
        after = msgspec.structs.replace(before, pinned_model=model)
        what: What = "pinned" if model else "unpinned"
        return make(conn, Planned(what=what, before=before, after=after, actor=actor, reason=reason), clock)


def without_canary(pointer: Pointer) -> Pointer:
    """The pointer with its stable release alone."""
    return msgspec.structs.replace(pointer, canary=None, share=0.0, salt="", canary_started_us=0)


def _environment(env: str) -> None:
    if env not in ENVIRONMENTS:
        raise BadRequest(f"there is no environment {env!r}", hint=f"environments: {', '.join(ENVIRONMENTS)}")
