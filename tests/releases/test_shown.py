"""What hosts have told of a canary, put together: the same as if one store had it all, and who is missing."""

import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse.config.canary import CanaryPolicy
from pilothouse.domain.release import CanaryRun
from pilothouse.releases.arms import Counts, Seen, Split
from pilothouse.releases.decision import decide
from pilothouse.releases.shown import (
    BUCKETS,
    FRESH_S,
    Arms,
    HostShown,
    Sums,
    Word,
    moments,
    questions,
    strata,
    terms,
    together,
)
from pilothouse.stats.contrast import Moments, contrast

RUN = CanaryRun(
    id=7, route="answer", env="prod", release=2, baseline=1, state="running", started_us=10_000, stepped_us=20_000
)
ASKED = questions(RUN, [(10_000, 5), (20_000, 9)], CanaryPolicy(slo_ms=500.0))


def key(session: int) -> str:
    """The bucket of a session, as the stores find it by a hash."""
    return f"{random.Random(session).randrange(BUCKETS):03x}"


def sums(observed: list[tuple[int, float]]) -> Sums:
    """What a host tells of (session, x); session 0: none."""
    alone = [x for session, x in observed if not session]
    buckets: dict[str, tuple[int, float]] = {}
    for session, x in observed:
        if session:
            n, total = buckets.get(key(session), (0, 0.0))
            buckets[key(session)] = (n + 1, total + x)
    sessions = len({session for session, _ in observed if session})
    return Sums(n=len(alone), total=sum(alone), squares=sum(x * x for x in alone), sessions=sessions, buckets=buckets)


def told(canary: int = 100, stable: int = 100, stepped_us: int = 20_000, **more: int) -> HostShown:
    of = msgspec.structs.replace(terms(ASKED), stepped_us=stepped_us)
    both = Counts(requests=canary, sessions=canary), Counts(requests=stable, sessions=stable)
    arms = Arms(before=Counts(requests=7), canary=both[0], beside=both[1], canary_step=both[0], stable_step=both[1])
    return HostShown(terms=of, arms=arms, parts={}, **more)


observations = st.lists(st.tuples(st.integers(0, 40), st.integers(-1_000, 1_000).map(float)), max_size=80)


@given(observations, st.data())
@settings(deadline=None)
def test_however_requests_are_spread_over_hosts_the_moments_are_those_of_one_store(observed, data):
    where = data.draw(st.lists(st.integers(0, 2), min_size=len(observed), max_size=len(observed)))
    hosts = [[one for one, host in zip(observed, where, strict=True) if host == number] for number in range(3)]
    spread, whole = moments([sums(one) for one in hosts]), moments([sums(observed)])
    for name in ("n", "total", "squares", "crossed", "sizes"):
        assert getattr(spread, name) == pytest.approx(getattr(whole, name), rel=1e-9, abs=1e-6)
    alone = sum(not session for session, _ in observed)
    sessions = {session for session, _ in observed if session}
    assert alone + max((len({s for s, _ in one if s}) for one in hosts), default=0) <= spread.groups
    assert spread.groups <= alone + sum(len({s for s, _ in one if s}) for one in hosts)
    assert whole.groups == alone + len(sessions)


def test_requests_without_a_session_are_groups_of_their_own():
    observed = [(0, float(x)) for x in range(50)]
    assert moments([sums(observed[:20]), sums(observed[20:])]) == Moments.of([(1, x) for _, x in observed])


def test_errors_are_those_over_sessions_that_met_both_hosts():
    """2,000 sessions of 6 requests, alike within a session, half of them at each host."""
    chance = random.Random(3)
    arms = []
    for _ in range(2):
        observed = []
        for session in range(1, 2_001):
            own = chance.gauss(0, 1)
            observed += [(session + 10_000 * len(arms), own + chance.gauss(0, 1)) for _ in range(6)]
        arms.append(observed)
    by_session = [Moments.of([(6, sum(x for _, x in one[i : i + 6])) for i in range(0, len(one), 6)]) for one in arms]
    hosts = [[sums(one[start::2]) for start in (0, 1)] for one in arms]
    spread = [moments(one) for one in hosts]
    (pair,) = strata([{"x": {0: (hosts[0][host], hosts[1][host])}} for host in (0, 1)])["x"]
    assert pair == (spread[0], spread[1])
    true, found = contrast([(by_session[0], by_session[1])]), contrast([pair])
    assert true is not None
    assert found is not None
    assert found.difference == pytest.approx(true.difference)
    assert found.error == pytest.approx(true.error, rel=0.1)
    assert 2_000 <= spread[0].groups <= 4_000
    # Were each host's part of a session taken for a session, the error would be stated too small.
    halves = [Moments.of([(3, sum(x for _, x in one[i : i + 6][s::2])) for i in range(0, len(one), 6) for s in (0, 1)])
              for one in arms]  # fmt: skip
    naive = contrast([(halves[0], halves[1])])
    assert naive is not None
    assert naive.error < 0.85 * true.error


def test_counts_add_up_and_each_host_has_its_own_split():
    shown = together(ASKED, [Word(host="a", told=told(10, 90)), Word(host="b", told=told(5, 95))])
    assert (shown.arms.canary.requests, shown.arms.beside.requests, shown.arms.before.requests) == (15, 185, 14)
    assert [(one.host, one.canary.requests) for one in shown.splits] == [("a", 10), ("b", 5)]
    assert shown.missing == ""


@pytest.mark.parametrize(
    ("word", "why", "seen"),
    [
        (Word(host="b"), "b has not said yet what it has served", 10),
        (Word(host="b", told=told(), age_s=FRESH_S + 2), "b has not said for 12 s what it serves", 110),
        (Word(host="b", told=told(stepped_us=10_000)), "b has not said yet what it has served at this share", 110),
    ],
)
def test_a_host_that_is_missing_is_named_and_its_last_word_counts(word, why, seen):
    shown = together(ASKED, [Word(host="a", told=told(10, 90)), word])
    assert shown.missing == why
    assert shown.arms.canary.requests == seen
    assert shown.arms.canary_step.requests == (110 if word.age_s else 10)


def test_a_host_that_has_left_is_not_waited_for_and_what_it_served_counts():
    gone = Word(host="b", told=told(), age_s=900.0, listed=False)
    shown = together(ASKED, [Word(host="a", told=told(10, 90)), gone])
    assert (shown.missing, shown.arms.canary.requests) == ("", 110)


def test_a_host_with_other_files_is_named_and_not_counted():
    other = msgspec.structs.replace(told(), terms=msgspec.structs.replace(terms(ASKED), slo_ms=900.0))
    shown = together(ASKED, [Word(host="a", told=told(10, 90)), Word(host="b", told=other)])
    assert shown.missing == "the files of b judge this canary by other terms"
    assert shown.arms.canary.requests == 10


def seen(canary: Counts, stable: Counts, **more: object) -> Seen:
    given = {"canary_step": canary, "stable_step": stable, "step_s": 60.0}
    return Seen(share=0.5, canary=canary, stable=stable, **(given | more))  # type: ignore[arg-type]


def test_nothing_goes_forward_without_a_host_but_a_bad_canary_is_aborted():
    policy = CanaryPolicy(min_seconds=0, steps=(0.5,))
    good = seen(Counts(requests=4_000), Counts(requests=4_000))
    assert decide(good, policy).kind == "promote"
    held = decide(msgspec.structs.replace(good, missing="b has not said for 12 s what it serves"), policy)
    assert (held.kind, held.sentence) == (
        "hold",
        "held: b has not said for 12 s what it serves; nothing goes forward on a part of the traffic",
    )
    bad = seen(Counts(requests=20, failures=20), Counts(requests=100), missing="b has not said yet what it has served")
    aborted = decide(bad, policy)
    assert aborted.kind == "abort"
    assert aborted.sentence.endswith("(on a part of the traffic: b has not said yet what it has served)")


def test_a_split_that_does_not_fit_at_one_host_is_found_there():
    both = [("a", 500, 500), ("b", 80, 520)]
    splits = tuple(
        Split(host=host, canary=Counts(requests=c, sessions=c), stable=Counts(requests=s, sessions=s))
        for host, c, s in both
    )
    wrong = decide(seen(Counts(requests=580), Counts(requests=1_020), splits=splits), CanaryPolicy(min_seconds=0))
    assert not wrong.healthy
    assert "80 sessions on the canary and 520 on the stable release of b do not fit a share of 50 %" in wrong.sentence
    fits = decide(seen(Counts(requests=500), Counts(requests=500), splits=splits[:1]), CanaryPolicy(min_seconds=0))
    assert fits.healthy
    assert fits.mismatch_p == pytest.approx(1.0)
