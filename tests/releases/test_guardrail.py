"""The canary's decision: its words, its error rate, its speed."""

import random

import pytest

from pilothouse.releases.guardrail import CanaryPolicy, Counts, Seen, decide, mismatch

POLICY = CanaryPolicy(min_seconds=0)


def seen(canary: Counts, stable: Counts | None = None, **more: object) -> Seen:
    stable = stable or Counts()
    given = {
        "share": 0.5,
        "canary": canary,
        "stable": stable,
        "canary_step": canary,
        "stable_step": stable,
        "step_s": 60.0,
    }
    return Seen(**(given | more))  # type: ignore[arg-type]


def counts(n: int, failures: int = 0, invalid: int = 0) -> Counts:
    return Counts(requests=n, failures=failures, structured=n, invalid_first=invalid)


def test_an_abort_says_the_numbers():
    decision = decide(seen(counts(11, invalid=9)), POLICY)
    assert decision.kind == "abort"
    assert decision.sentence.startswith("aborted: 9 of 11 requests invalid against 3 % allowed; evidence ")
    assert decision.sentence.endswith("≥ 200")


def test_no_request_is_no_data():
    assert decide(seen(Counts()), POLICY).kind == "no_data"


def test_too_few_requests_or_seconds_are_held():
    assert decide(seen(counts(19)), POLICY).kind == "hold"
    assert decide(seen(counts(500), counts(500), step_s=599.0), CanaryPolicy()).sentence == (
        "held: 500 of 20 requests and 599 of 600 s at 50 %"
    )


def test_enough_without_harm_may_step_and_at_last_be_promoted():
    step = decide(seen(counts(40), counts(40)), POLICY)
    assert (step.kind, step.share) == ("step", 1.0)
    assert decide(seen(counts(40), share=1.0), POLICY).kind == "promote"


def test_a_rate_above_the_limit_without_enough_evidence_is_held():
    decision = decide(seen(counts(30, failures=2), counts(29)), POLICY)
    assert decision.kind == "hold"
    assert "2 of 30 requests failed against 3 % allowed" in decision.sentence


def test_arms_out_of_proportion_are_unhealthy_and_go_nowhere():
    decision = decide(seen(counts(100), counts(300)), POLICY)
    assert (decision.kind, decision.healthy) == ("hold", False)
    assert "do not fit a share of 50 %" in decision.sentence


def test_the_sample_ratio_is_judged_by_sessions_where_they_are_known():
    by_session = Counts(requests=100, sessions=50), Counts(requests=300, sessions=52)
    p = mismatch(*by_session, 0.5)
    assert p is not None
    assert p > 0.5
    assert mismatch(Counts(requests=3), Counts(requests=4), 0.5) is None


def test_a_stable_release_that_is_as_bad_raises_the_limit_and_it_never_falls():
    first = decide(seen(counts(20, failures=2), counts(200, failures=30)), POLICY)
    assert first.kind != "abort"
    limit = first.limits["failed"]
    assert 0.17 < limit < 0.23
    later = decide(seen(counts(20, failures=2), counts(100_000), limits=first.limits), POLICY)
    assert later.limits["failed"] == limit


def simulate(rate: float, stable_rate: float, looks: int, each: int, seed: int) -> int | None:
    """Requests on the canary when it is aborted, None where it is not. One look every `each` requests."""
    rng = random.Random(seed)
    canary, stable = [0, 0], [200, sum(rng.random() < stable_rate for _ in range(200))]
    limits: dict[str, float] = {}
    for _ in range(looks):
        canary = [canary[0] + each, canary[1] + sum(rng.random() < rate for _ in range(each))]
        stable = [stable[0] + each, stable[1] + sum(rng.random() < stable_rate for _ in range(each))]
        decision = decide(seen(counts(*canary), counts(*stable), limits=limits), POLICY)
        limits = decision.limits
        if decision.kind == "abort":
            return canary[0]
    return None


@pytest.mark.parametrize("rate", [0.0, 0.02, 0.1])
def test_a_release_that_is_no_worse_is_aborted_at_most_as_often_as_stated(rate):
    runs = 300
    aborted = sum(simulate(rate, rate, looks=100, each=10, seed=seed) is not None for seed in range(runs))
    # α = 1 %; 300 runs with exactly that rate exceed 9 aborts once in 1,000.
    assert aborted <= 9


def test_a_broken_release_is_found_within_a_few_requests():
    needed = sorted(simulate(1.0, 0.0, looks=20, each=1, seed=seed) or 99 for seed in range(20))
    assert needed[-1] <= 4
    half = sorted(simulate(0.5, 0.02, looks=200, each=1, seed=seed) or 999 for seed in range(60))
    assert half[30] <= 12
    assert half[-1] <= 60
