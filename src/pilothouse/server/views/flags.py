"""Flags: the list in one environment, and one flag with its rules, its evaluations over time and its history."""

import functools

import msgspec

from pilothouse.domain.change import Actor
from pilothouse.domain.errors import NotFound
from pilothouse.domain.flag import AllOf, AnyOf, Compare, Condition, Flag, FlagEntry, FlagState, Share, resolved
from pilothouse.domain.flag_facts import DAY_US, EXERCISED_DAYS, FlagFacts, FlagUse, facts_of
from pilothouse.domain.table import ENVIRONMENTS
from pilothouse.releases import flags, selection
from pilothouse.releases.flags import FlagOrder
from pilothouse.server.composition import Control
from pilothouse.server.pages.flag_shown import FlagAsk, FlagBoard, FlagPages, FlagRow, RuleShown
from pilothouse.server.verbs import flags as verbs
from pilothouse.store.state import flags as stored_flags
from pilothouse.store.state.flags import StoredFlag
from pilothouse.telemetry import flag_uses

BUCKET_S, WINDOW_S = 10_800, 604_800  # of the evaluations over time
HISTORY = 40


def rows(control: Control, env: str) -> tuple[FlagRow, ...]:
    """Every flag of the files in `env`, by key."""
    now = control.clock.now_us()
    uses = _uses(control, now, env)
    with control.state.read() as conn:
        known = stored_flags.every(conn)
    return tuple(
        _row(flag, env, known.get((key, env)), uses.get((key, env), {}), now)
        for key, flag in sorted(control.config.flags.items())
    )


def facts(control: Control, env: str) -> tuple[FlagFacts, ...]:
    """The facts about every flag in `env`, for the review."""
    now = control.clock.now_us()
    uses = _uses(control, now, env)
    with control.state.read() as conn:
        known = stored_flags.every(conn)
    return tuple(
        _facts(flag, env, known.get((key, env)), uses.get((key, env), {}), now)[0]
        for key, flag in sorted(control.config.flags.items())
    )


def board(control: Control, key: str, env: str) -> FlagBoard:
    """One flag; NotFound names the nearest."""
    flag = flags.require(control.config, key, env)
    now = control.clock.now_us()
    since = (now - WINDOW_S * 1_000_000) // (BUCKET_S * 1_000_000) * BUCKET_S * 1_000_000
    uses = _uses(control, now, "", key)
    with control.state.read() as conn:
        known = stored_flags.every(conn)
        problems = selection.problems(conn, control.config, flag, env)
    stored = known.get((key, env))
    entry = resolved(flag, env, stored.state if stored else FlagState())
    found = {one: _row(flag, one, known.get((key, one)), uses.get((key, one), {}), now) for one in ENVIRONMENTS}
    return FlagBoard(
        row=next(row for one, row in found.items() if one == env),
        variants=flag.variants,
        default=entry.default,
        rollout={one.variant: one.share for one in entry.rollout},
        rules=tuple(_rule(entry, at) for at in range(len(entry.rules))),
        uses=tuple(uses.get((key, env), {}).values()),
        problems=problems,
        others=tuple(row for one, row in found.items() if one != env),
        part=(flag.selects.part or "release") if flag.selects is not None else "",
        off=flag.off,
        since_us=since,
        until_us=now,
        series=_series(control, key, env, since, now),
        history=tuple(verbs.history(control, key, env)[:HISTORY]),
    )


def _uses(control: Control, now: int, env: str, key: str = "") -> dict[tuple[str, str], dict[str, FlagUse]]:
    found: dict[tuple[str, str], dict[str, FlagUse]] = {}
    for use in flag_uses.uses(control.telemetry, now - EXERCISED_DAYS * DAY_US, env, key):
        found.setdefault((use.flag, use.env), {})[use.variant] = use
    return found


def _facts(
    flag: Flag, env: str, stored: StoredFlag | None, uses: dict[str, FlagUse], now: int
) -> tuple[FlagFacts, FlagEntry]:
    entry = resolved(flag, env, stored.state if stored else FlagState())
    seen = (stored.first_us, stored.changed_us) if stored else (now, now)
    return facts_of(flag, entry, env, seen, uses, now), entry


def _row(flag: Flag, env: str, stored: StoredFlag | None, uses: dict[str, FlagUse], now: int) -> FlagRow:
    found, entry = _facts(flag, env, stored, uses, now)
    plain = msgspec.structs.replace(entry, reason="")
    return FlagRow(
        key=flag.key,
        type=flag.type,
        kind=flag.kind,
        env=env,
        said=flags.told(entry),
        enabled=entry.enabled,
        owner=flag.owner,
        tags=flag.tags,
        description=flag.description,
        expires=flag.expires,
        route=found.route,
        changed_us=found.changed_us,
        changed_here=plain != resolved(flag, env),
        revision=stored.revision if stored else 0,
        evaluations=found.evaluations,
        last_us=found.last_us,
        off_us=found.off_us,
        troubles=found.troubles,
    )


def _rule(entry: FlagEntry, at: int) -> RuleShown:
    rule = entry.rules[at]
    serve = ", ".join(
        one.variant if one.share >= 1.0 else f"{one.variant} to {one.share * 100:g} %" for one in rule.serve
    )
    return RuleShown(rule.name or f"rule {at + 1}", said(rule.when), serve)


_OPS = {
    "==": "is", "!=": "is not", "in": "is one of", "not_in": "is none of", "starts_with": "starts with",
    "ends_with": "ends with", "semver": "is a version", "matches": "matches",
}  # fmt: skip


def said(condition: Condition, within: bool = False) -> str:
    """A condition as people read it."""
    match condition:
        case Compare(attribute=name, op="exists", value=value):
            return f"{name} is {'there' if value else 'not there'}"
        case Compare(attribute=name, op=op, value=value):
            return f"{name} {_OPS.get(op, op)} {value if op == 'semver' else msgspec.json.encode(value).decode()}"
        case AllOf(of=of):
            text = " and ".join(said(one, True) for one in of)
        case AnyOf(of=of):
            text = " or ".join(said(one, True) for one in of)
        case _:
            return f"not ({said(condition.of)})"
    return f"({text})" if within and len(of) > 1 else text


def _series(control: Control, key: str, env: str, since: int, now: int) -> dict[str, tuple[int, ...]]:
    buckets = (now - since) // (BUCKET_S * 1_000_000) + 1
    found: dict[str, tuple[int, ...]] = {}
    for variant, points in flag_uses.over_time(control.telemetry, key, env, since, BUCKET_S).items():
        counts = [0] * buckets
        for at_us, n in points:
            counts[min(buckets - 1, max(0, (at_us - since) // (BUCKET_S * 1_000_000)))] = n
        found[variant] = tuple(counts)
    return found


def pages(control: Control) -> FlagPages:
    """What the pages work on."""
    return FlagPages(
        rows=functools.partial(rows, control),
        board=functools.partial(board, control),
        change=functools.partial(_change, control),
    )


async def _change(control: Control, asked: FlagAsk, actor: Actor) -> str:
    order = FlagOrder(
        key=asked.key,
        env=asked.env,
        actor=actor,
        reason=asked.reason,
        enabled={"enable": True, "disable": False}.get(asked.what),
        variant=asked.variant if asked.what == "set" else None,
        rollout=(Share(asked.variant, asked.share),) if asked.what == "rollout" else None,
        reset=asked.what == "reset",
        expected_revision=asked.revision,
    )
    done = await verbs.change(control, order)
    return f"{done['flag']} in {done['env']}: {done['said']}, {done['reach']}."


def environment(name: str) -> str:
    """`name`, where it is an environment; NotFound."""
    if name not in ENVIRONMENTS:
        raise NotFound(f"there is no environment {name!r}", hint=f"environments: {', '.join(ENVIRONMENTS)}")
    return name
