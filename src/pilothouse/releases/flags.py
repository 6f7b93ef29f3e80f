"""Flags: what the files declare, what is changed at run time, and what a worker gets of both.

Each change is one transaction: the state, its change in the log, a new table revision.
"""

import difflib

import msgspec
from sqlalchemy import Connection

from pilothouse.config.app import AppConfig
from pilothouse.domain.change import Actor, ChainedChange, Change
from pilothouse.domain.clock import Clock
from pilothouse.domain.errors import BadRequest, Conflict, NotFound, Refused, StoreError
from pilothouse.domain.flag import Flag, FlagEntry, FlagRule, FlagState, Share, resolved
from pilothouse.domain.hashing import content_hash
from pilothouse.domain.table import ENVIRONMENTS
from pilothouse.releases import selection
from pilothouse.store.state import changes, flags, pointers
from pilothouse.store.state.engine import StateStore
from pilothouse.store.state.flags import StoredFlag

DECLARED, REMOVED = "flag.declare", "flag.remove"
ACTIONS = (DECLARED, REMOVED, "flag.set", "flag.rollout", "flag.rules", "flag.enable", "flag.disable", "flag.reset")
FILES = Actor(type="policy", id="files")  # who the log names where the app's files changed


class FlagOrder(msgspec.Struct, frozen=True, kw_only=True):
    """An order to change a flag in `env`; what is None stays as it is. `reset`: back to what the files say.

    `variant`: what everybody gets whom no rule meets, instead of any share. With `expected_revision` the order stands
    only if nobody changed the flag since.
    """

    key: str
    env: str
    actor: Actor
    reason: str = ""
    enabled: bool | None = None
    variant: str | None = None
    rollout: tuple[Share, ...] | None = None
    rules: tuple[FlagRule, ...] | None = None
    reset: bool = False
    expected_revision: int | None = None


class FlagChanged(msgspec.Struct, frozen=True, kw_only=True):
    """What an order did. `revision`: of the flag; `table`: of the table that must now reach the workers."""

    key: str
    env: str
    action: str
    said: str
    before: FlagEntry
    after: FlagEntry
    revision: int
    table: int


def change(store: StateStore, config: AppConfig, order: FlagOrder, clock: Clock) -> FlagChanged:
    """Change a flag; raises NotFound, BadRequest, Refused, or Conflict."""
    flag = require(config, order.key, order.env)
    with store.write() as conn:
        stored = flags.get(conn, order.key, order.env)
        if stored is None:  # the files were read after the last publish
            flags.declare(conn, order.key, order.env, _hash(flag, order.env), clock)
            stored = StoredFlag(key=order.key, env=order.env)
        _expect(stored, order)
        action, state = _ordered(flag, stored.state, order)
        before, after = resolved(flag, order.env, stored.state), resolved(flag, order.env, state)
        said = told(after)
        if msgspec.structs.replace(before, reason="") == msgspec.structs.replace(after, reason=""):
            raise Refused(f"{order.key} is so in {order.env} already: {said}", code="already_there")
        _selected(conn, config, flag, order.env, after)
        held = flags.put(conn, msgspec.structs.replace(stored, state=state), clock)
        _log(conn, flag, order, (action, said), (before, after), clock)
        return FlagChanged(
            key=order.key,
            env=order.env,
            action=action,
            said=said,
            before=before,
            after=after,
            revision=held.revision,
            table=pointers.next_revision(conn),
        )


def require(config: AppConfig, key: str, env: str) -> Flag:
    """The flag; NotFound names the nearest, BadRequest the environments."""
    if env not in ENVIRONMENTS:
        raise BadRequest(f"there is no environment {env!r}", hint=f"environments: {', '.join(ENVIRONMENTS)}")
    if key not in config.flags:
        near = difflib.get_close_matches(key, config.flags, n=1)
        known = f"did you mean {near[0]}?" if near else f"flags: {', '.join(sorted(config.flags)) or 'none'}"
        raise NotFound(f"there is no flag {key!r}", where="pilothouse.yaml", hint=known, code="unknown_flag")
    return config.flags[key]


def _expect(stored: StoredFlag, order: FlagOrder) -> None:
    if order.expected_revision is not None and order.expected_revision != stored.revision:
        raise Conflict(
            f"the flag {order.key} in {order.env} is at revision {stored.revision}, not {order.expected_revision}",
            hint="somebody changed it: read it again and decide again",
        )


def _ordered(flag: Flag, before: FlagState, order: FlagOrder) -> tuple[str, FlagState]:
    """The action and the state after it."""
    given = [order.enabled is not None, order.variant is not None, order.rollout is not None, order.rules is not None]
    if sum((*given, order.reset)) != 1:
        raise BadRequest(
            "an order changes one thing", where=order.key, hint="enabled, variant, rollout, rules or reset"
        )
    keep = msgspec.structs.replace(before, reason=order.reason)
    if order.reset:
        return "flag.reset", FlagState(reason=order.reason)
    if order.enabled is not None:
        return "flag.enable" if order.enabled else "flag.disable", msgspec.structs.replace(keep, enabled=order.enabled)
    if order.variant is not None:
        _known(flag, (Share(order.variant),))
        return "flag.set", msgspec.structs.replace(keep, default=order.variant, rollout=())
    if order.rollout is not None:
        _known(flag, order.rollout)
        return "flag.rollout", msgspec.structs.replace(keep, rollout=order.rollout)
    return "flag.rules", msgspec.structs.replace(keep, rules=order.rules)


def _known(flag: Flag, shares: tuple[Share, ...]) -> None:
    for one in shares:
        if one.variant not in flag.variants:
            raise BadRequest(f"{flag.key} has no variant {one.variant!r}", hint=f"variants: {', '.join(flag.variants)}")
    if any(not 0.0 <= one.share <= 1.0 for one in shares) or sum(one.share for one in shares) > 1.0 + 1e-9:
        raise BadRequest("shares lie between 0 and 1, together at most 1", where=flag.key)


def _selected(conn: Connection, config: AppConfig, flag: Flag, env: str, after: FlagEntry) -> None:
    """Refuse to point at a release that could not be served."""
    found = selection.problems(conn, config, flag, env)
    for name in reached(after):
        if name in found:
            raise Refused(f"{flag.key}: the variant {name} cannot be served in {env}: {found[name]}", where=env)


def reached(flag: FlagEntry) -> set[str]:
    """The variants that somebody may get."""
    if not flag.enabled:
        return {flag.off} - {""}
    served = [*flag.rollout, *(share for rule in flag.rules for share in rule.serve)]
    rest = [flag.default] if sum(share.share for share in flag.rollout) < 1.0 else []
    return {one.variant for one in served if one.share > 0.0} | set(rest)


def told(entry: FlagEntry) -> str:
    """What a flag does now, in one clause."""
    if not entry.enabled:
        return f"disabled, gives {entry.off}" if entry.off else "disabled, gives the code's default"
    shares = ", ".join(f"{one.variant} to {one.share * 100:g} %" for one in entry.rollout)
    rest = f"{shares}, {entry.default} to the rest" if shares else entry.default
    if entry.rollout and sum(one.share for one in entry.rollout) >= 1.0:
        rest = shares
    number = len(entry.rules)
    return f"{rest}, behind {number} rule{'s' if number > 1 else ''}" if number else rest


def _log(
    conn: Connection,
    flag: Flag,
    order: FlagOrder,
    what: tuple[str, str],
    entries: tuple[FlagEntry, FlagEntry],
    clock: Clock,
) -> None:
    about = flag.selects or flag.flow
    before, after = entries
    made = Change(
        actor=order.actor,
        action=what[0],
        object_type="flag",
        object_id=f"{flag.key}@{order.env}",
        route=about.route if about is not None else "",
        env=order.env,
        before_hash=content_hash(before),
        after_hash=content_hash(after),
        reason=order.reason,
        detail={"said": what[1], "before": msgspec.to_builtins(before), "after": msgspec.to_builtins(after)},
    )
    changes.append(conn, made, clock)


# --- the files


def sync(store: StateStore, config: AppConfig, clock: Clock) -> None:
    """Note what the files say of flags now, in the change log where it differs from what they said."""
    wanted: dict[tuple[str, str], str] = {
        (key, env): _hash(flag, env) for key, flag in config.flags.items() for env in ENVIRONMENTS
    }
    with store.read() as conn:
        known = {at: stored.declared for at, stored in flags.every(conn).items()}
    if all(known.get(at) == declared for at, declared in wanted.items()) and not _gone(known, wanted):
        return
    with store.write() as conn:
        stored = flags.every(conn)
        known = {at: one.declared for at, one in stored.items()}
        for at, declared in wanted.items():
            if known.get(at) != declared:
                state = stored[at].state if at in stored else FlagState()
                now = resolved(config.flags[at[0]], at[1], state)
                _declare(conn, at, (known.get(at, ""), declared), now, clock)
        for at in _gone(known, wanted):
            _declare(conn, at, (known[at], ""), None, clock)
        pointers.next_revision(conn)


def _gone(known: dict[tuple[str, str], str], wanted: dict[tuple[str, str], str]) -> list[tuple[str, str]]:
    return [at for at, declared in known.items() if declared and at not in wanted]


def _declare(
    conn: Connection, at: tuple[str, str], hashes: tuple[str, str], now: FlagEntry | None, clock: Clock
) -> None:
    """Note new words of the files: `hashes` of what they said and say, and what the flag is with what was set here."""
    (key, env), (before, after) = at, hashes
    flags.declare(conn, key, env, after, clock)
    made = Change(
        actor=FILES,
        action=DECLARED if after else REMOVED,
        object_type="flag",
        object_id=f"{key}@{env}",
        env=env,
        before_hash=before,
        after_hash=after,
        detail={"after": msgspec.to_builtins(now)},
    )
    changes.append(conn, made, clock)


def _hash(flag: Flag, env: str) -> str:
    return content_hash(resolved(flag, env))


# --- reading


def entries(conn: Connection, config: AppConfig) -> dict[str, dict[str, FlagEntry]]:
    """Every flag of the files as it is now, by environment and key."""
    stored = flags.every(conn)
    return {
        env: {
            key: resolved(flag, env, stored[key, env].state if (key, env) in stored else FlagState())
            for key, flag in sorted(config.flags.items())
        }
        for env in ENVIRONMENTS
        if config.flags
    }


def history(conn: Connection, key: str, env: str = "", limit: int = 100) -> list[ChainedChange]:
    """What happened to a flag, newest first; an empty `env`: in every environment. A `limit` of 0: all of it."""
    rows = changes.find(conn, env=env or None, actions=ACTIONS)
    mine = [row for row in rows if row.change.object_id.rpartition("@")[0] == key]
    return mine[::-1][: limit or None]


def then(conn: Connection, key: str, env: str, ts_us: int) -> FlagEntry | None:
    """What a flag was in `env` at a time, read back from the change log; None: the files did not name it then.

    StoreError where the log of then says no more than the hash of it.
    """
    taken = [row for row in history(conn, key, env, limit=0) if row.ts_us <= ts_us]
    if not taken or taken[0].change.action == REMOVED:
        return None
    detail = taken[0].change.detail
    if "after" not in detail:
        raise StoreError(
            f"the change log does not say what {key} was in {env} then", hint="see the files of then", where=key
        )
    return msgspec.convert(detail["after"], FlagEntry)
