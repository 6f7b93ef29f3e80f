"""What telemetry shows of a running canary: asked of one store, or of every host's own store and put together.

A request is one host's, so counts and sums add up. A session may meet several hosts; it is on one side at all of
them, and its requests are alike. So each host tells the sums of its sessions in buckets, by a hash of the session that
is the same everywhere; equal buckets are added over the hosts before anything is squared, and are the groups that
errors are computed over. Sessions of different buckets are drawn apart, so the sum of squares over buckets has
the same expectation as that over sessions, and comes from at most `BUCKETS` groups.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from pilothouse.config.canary import CanaryPolicy
from pilothouse.domain.release import CanaryRun
from pilothouse.releases.arms import Counts, Split, Strata
from pilothouse.stats.contrast import Moments

BUCKETS = 512
FRESH_S = 10.0  # a host that has said nothing for so long is missing; one that is well says it every second or so


class Arm(msgspec.Struct, frozen=True, kw_only=True):
    """A question to telemetry: the requests of `release` in [since, until), on the canary's side or the stable one's;
    with `run` also what was asked again for that canary run. A request counts by the table that it was served with,
    where the tables are known: from `table` on, and before `until_table`; so clocks and the way of a table do not
    matter."""

    route: str
    env: str
    release: int
    canary: bool
    since_us: int
    until_us: int = 0  # 0: now
    table: int = 0
    until_table: int = 0  # 0: any
    run: int | None = None
    slo_ms: float | None = None


class Sides(msgspec.Struct, frozen=True, kw_only=True):
    """A question to telemetry: both sides' rates and means since the canary's start, apart for each of its shares."""

    run: CanaryRun
    steps: tuple[tuple[int, int], ...]  # of each share: when it began, and the first table that had it (0: not known)
    scores: tuple[str, ...]  # the numeric ones; all others are of 0 and 1, and their bad ones are meant
    slo_ms: float | None = None


class Questions(msgspec.Struct, frozen=True, kw_only=True):
    """All that a look asks about a run. `before`: of the stable release before the canary; `beside`: since."""

    run: CanaryRun
    before: Arm
    canary: Arm
    beside: Arm
    canary_step: Arm
    stable_step: Arm
    sides: Sides


class Arms(msgspec.Struct, frozen=True, kw_only=True):
    """The counts, by question."""

    before: Counts = Counts()
    canary: Counts = Counts()
    beside: Counts = Counts()
    canary_step: Counts = Counts()
    stable_step: Counts = Counts()


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """The answers, whoever gave them."""

    arms: Arms
    strata: dict[str, Strata] = {}
    splits: tuple[Split, ...] = ()
    missing: str = ""
    fed_out: str = ""  # why nothing more is fed to it; empty where it is not fed, or more comes


class Sums(msgspec.Struct, frozen=True, array_like=True):
    """One side's observations of one mean in one share, on one host: n, Σ x and Σ x² of requests without a session, how
    many sessions there are, and (n, Σ x) of each bucket of them."""

    n: int = 0
    total: float = 0.0
    squares: float = 0.0
    sessions: int = 0
    buckets: dict[str, tuple[int, float]] = {}


Parts = dict[str, dict[int, tuple[Sums, Sums]]]  # by the mean's name and the share's place: (canary, stable)


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What the hosts must agree on before their numbers are of the same thing."""

    stepped_us: int
    slo_ms: float | None
    scores: tuple[str, ...]
    before_us: int


class HostShown(msgspec.Struct, frozen=True, kw_only=True):
    """What one host's own telemetry shows. `recent`: requests on the canary in the last minute; `last_us`: when the
    last of them began, None where there was none."""

    terms: Terms
    arms: Arms
    parts: Parts
    recent: int = 0
    last_us: int | None = None


class Word(msgspec.Struct, frozen=True, kw_only=True):
    """What a host has said. `told`: None where it has said nothing yet; `age_s`: since it was last so."""

    host: str
    told: HostShown | None = None
    age_s: float = 0.0
    listed: bool = True  # among the hosts that serve now; one that has left says no more, and is not waited for


CountArm = Callable[[Arm], Counts]
Measure = Callable[[Sides], dict[str, Strata]]
Show = Callable[[Questions], Shown]


def questions(run: CanaryRun, steps: Sequence[tuple[int, int]], policy: CanaryPolicy) -> Questions:
    """What a look at `run` asks. `steps`: of each share, when it began and its first table."""
    tables = dict(steps)
    first, present = tables.get(run.started_us, 0), tables.get(run.stepped_us, 0)

    def arm(canary: bool, since_us: int, table: int) -> Arm:
        return Arm(
            route=run.route,
            env=run.env,
            release=run.release if canary else run.baseline,
            canary=canary,
            since_us=since_us,
            table=table,
            run=run.id,
            slo_ms=policy.slo_ms,
        )

    window_us = int(policy.baseline_window_s * 1_000_000)
    before = msgspec.structs.replace(
        arm(False, run.started_us - window_us, 0), until_us=run.started_us, until_table=first, run=None
    )
    return Questions(
        run=run,
        before=before,
        canary=arm(True, run.started_us, first),
        beside=arm(False, run.started_us, first),
        canary_step=arm(True, run.stepped_us, present),
        stable_step=arm(False, run.stepped_us, present),
        sides=Sides(run=run, steps=tuple(steps), scores=tuple(policy.margins.means), slo_ms=policy.slo_ms),
    )


def terms(asked: Questions) -> Terms:
    """What an answer to `asked` is of."""
    return Terms(
        stepped_us=asked.run.stepped_us,
        slo_ms=asked.sides.slo_ms,
        scores=tuple(sorted(asked.sides.scores)),
        before_us=asked.before.since_us,
    )


def counted(asked: Questions, counts: CountArm, before: Counts | None) -> Arms:
    """The counts. `before`: what is known of that time already; it does not change."""
    canary, beside = counts(asked.canary), counts(asked.beside)
    stepped = asked.canary_step.since_us != asked.canary.since_us
    return Arms(
        before=counts(asked.before) if before is None else before,
        canary=canary,
        beside=beside,
        canary_step=counts(asked.canary_step) if stepped else canary,
        stable_step=counts(asked.stable_step) if stepped else beside,
    )


def of_one_store(counts: CountArm, measure: Measure = lambda _: {}) -> Show:
    """Ask one store that has all there is; without `measure` no means are compared."""

    def show(asked: Questions) -> Shown:
        kept = asked.run.evidence.get("before")
        before = msgspec.convert(kept, Counts) if kept else None
        return Shown(arms=counted(asked, counts, before), strata=measure(asked.sides))

    return show


def together(asked: Questions, words: Sequence[Word]) -> Shown:
    """What all hosts have said. Of one that is missing its last word counts, which is true for as far as it goes.

    A word that was said before the present share began says nothing about it.
    """
    expected = terms(asked)
    told = [(word, word.told) for word in words if word.told is not None and _same(word.told.terms, expected)]
    present = [(word, one) for word, one in told if one.terms.stepped_us == expected.stepped_us]

    def total(name: str, found: Iterable[tuple[Word, HostShown]]) -> Counts:
        return sum((getattr(one.arms, name) for _, one in found), Counts())

    return Shown(
        arms=Arms(
            before=total("before", told),
            canary=total("canary", told),
            beside=total("beside", told),
            canary_step=total("canary_step", present),
            stable_step=total("stable_step", present),
        ),
        strata=strata([one.parts for _, one in told]),
        splits=tuple(
            Split(host=word.host, canary=one.arms.canary_step, stable=one.arms.stable_step) for word, one in present
        ),
        missing="; ".join(why for word in words if (why := _missing(word, expected))),
    )


def _same(a: Terms, b: Terms) -> bool:
    return msgspec.structs.replace(a, stepped_us=0) == msgspec.structs.replace(b, stepped_us=0)


def _missing(word: Word, expected: Terms) -> str:
    """Why a host's traffic is not in it as it is now; empty where it is."""
    if not word.listed:
        return ""
    if word.told is None:
        return f"{word.host} has not said yet what it has served"
    if word.age_s > FRESH_S:
        return f"{word.host} has not said for {word.age_s:,.0f} s what it serves"
    if not _same(word.told.terms, expected):
        return f"the files of {word.host} judge this canary by other terms"
    if word.told.terms.stepped_us != expected.stepped_us:
        return f"{word.host} has not said yet what it has served at this share"
    return ""


def strata(parts: Sequence[Parts]) -> dict[str, Strata]:
    """The hosts' sums as those of one store, share by share."""
    names = sorted({name for one in parts for name in one})
    return {name: _strata([one[name] for one in parts if name in one]) for name in names}


def _strata(parts: Sequence[Mapping[int, tuple[Sums, Sums]]]) -> Strata:
    places = sorted({place for one in parts for place in one})
    pairs = [[one[place] for one in parts if place in one] for place in places]
    return tuple((moments([pair[0] for pair in some]), moments([pair[1] for pair in some])) for some in pairs)


def moments(sums: Sequence[Sums]) -> Moments:
    """The hosts' sums of one side as moments over groups: single requests, and buckets of sessions."""
    buckets: dict[str, tuple[int, float]] = {}
    for one in sums:
        for key, (n, total) in one.buckets.items():
            before = buckets.get(key, (0, 0.0))
            buckets[key] = (before[0] + n, before[1] + total)
    grouped, alone = Moments.of(buckets.values()), sum(one.n for one in sums)
    single = math.fsum(one.total for one in sums)
    return Moments(
        n=grouped.n + alone,
        groups=alone + _sessions(len(buckets), [one.sessions for one in sums]),
        total=grouped.total + single,
        squares=grouped.squares + math.fsum(one.squares for one in sums),
        crossed=grouped.crossed + single,
        sizes=grouped.sizes + alone,
    )


def _sessions(buckets: int, by_host: Sequence[int]) -> int:
    """How many sessions there are over all hosts, where each is known at every host that it met.

    Between the most of one host and the sum of all; within that, what as many buckets that are not empty say:
    B ln(B/(B − m)).
    """
    least, most = max(by_host, default=0), sum(by_host)
    if buckets >= BUCKETS:
        return most
    return min(most, max(least, round(BUCKETS * math.log(BUCKETS / (BUCKETS - buckets)))))
