"""Circuit breakers: as a state machine against a plain model, between workers that share a file, and on the wire."""

from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.gateway.conftest import Stack, live, quick

from pilothouse.domain.clock import FrozenClock
from pilothouse.domain.model_ref import ModelRef
from pilothouse.domain.policy import Breaker, Fallback, Retry, Timeouts
from pilothouse.gateway.breaker import CLOSED, PROBE, Breakers

RULE = Breaker(failures=3, share=0.5, window=30.0, cooldown=10.0)
OTHER = ModelRef("fake", "other")


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
def breakers(clock: FrozenClock, tmp_path: Path) -> Iterator[Breakers]:
    made = Breakers(clock, tmp_path / "breakers")
    yield made
    made.close()


def test_failures_in_a_row_open_it_at_any_traffic(breakers: Breakers, clock: FrozenClock) -> None:
    one = breakers.circuit("fake/small ")
    for _ in range(3):
        assert breakers.enter(one, RULE, 5.0) == CLOSED
        breakers.failed(one, RULE, probe=False)
        clock.advance(600.0)  # one call in ten minutes is traffic too
    assert breakers.state(one) == "half_open"  # the pause is over meanwhile
    assert breakers.enter(one, RULE, 5.0) == PROBE
    breakers.failed(one, RULE, probe=True)
    assert breakers.enter(one, RULE, 5.0) == pytest.approx(10.0)


def test_a_success_between_them_starts_the_row_anew(breakers: Breakers) -> None:
    one = breakers.circuit("fake/small ")
    for _ in range(20):
        breakers.failed(one, RULE, probe=False)
        breakers.failed(one, RULE, probe=False)
        for _ in range(4):
            breakers.succeeded(one, RULE)
    assert breakers.state(one) == "closed"


def test_a_share_of_failures_opens_it_from_ten_calls_on(breakers: Breakers) -> None:
    one = breakers.circuit("fake/small ")
    for _ in range(4):
        breakers.failed(one, RULE, probe=False)
        breakers.succeeded(one, RULE)
    assert breakers.state(one) == "closed"
    breakers.succeeded(one, RULE)
    breakers.failed(one, RULE, probe=False)
    assert breakers.state(one) == "open"


def test_successes_that_nobody_told_count_in_the_share(breakers: Breakers, clock: FrozenClock) -> None:
    one = breakers.circuit("fake/small ")
    for _ in range(30):
        breakers.succeeded(one, RULE)
    clock.advance(10.0)
    for _ in range(10):
        breakers.failed(one, RULE, probe=False)
        breakers.succeeded(one, RULE)
    assert breakers.state(one) == "closed"
    clock.advance(120.0)  # what was good two minutes ago says nothing about now
    for _ in range(5):
        breakers.failed(one, RULE, probe=False)
        breakers.succeeded(one, RULE)
    assert breakers.state(one) == "closed"
    breakers.failed(one, RULE, probe=False)
    assert breakers.state(one) == "open"


def test_it_stays_open_as_long_as_the_provider_asked(breakers: Breakers, clock: FrozenClock) -> None:
    one = breakers.circuit("fake/small ")
    for _ in range(3):
        breakers.failed(one, RULE, 45.0, probe=False)
    assert breakers.enter(one, RULE, 5.0) == pytest.approx(45.0)
    clock.advance(44.0)
    assert breakers.enter(one, RULE, 5.0) == pytest.approx(1.0)


def test_one_probe_at_a_time_and_a_lost_one_is_forgotten(breakers: Breakers, clock: FrozenClock) -> None:
    one = breakers.circuit("fake/small ")
    for _ in range(3):
        breakers.failed(one, RULE, probe=False)
    clock.advance(10.1)
    assert breakers.enter(one, RULE, 5.0) == PROBE
    assert breakers.enter(one, RULE, 5.0) > 0.0
    clock.advance(5.1)  # its worker died
    assert breakers.enter(one, RULE, 5.0) == PROBE
    breakers.neither(one, probe=True)  # its client left
    assert breakers.enter(one, RULE, 5.0) == PROBE
    breakers.succeeded(one, RULE, probe=True)
    assert breakers.enter(one, RULE, 5.0) == CLOSED


def test_a_probes_stream_lets_others_in_but_its_cut_opens_again(breakers: Breakers, clock: FrozenClock) -> None:
    one = breakers.circuit("fake/small ")
    for _ in range(3):
        breakers.failed(one, RULE, probe=False)
    clock.advance(10.1)
    assert breakers.enter(one, RULE, 5.0) == PROBE
    breakers.begun(one, RULE)
    assert breakers.enter(one, RULE, 5.0) == CLOSED
    breakers.failed(one, RULE, probe=False)
    assert breakers.state(one) == "open"


def test_a_worker_knows_at_once_what_another_learnt(clock: FrozenClock, tmp_path: Path) -> None:
    here, there = Breakers(clock, tmp_path / "b"), Breakers(clock, tmp_path / "b")
    mine, theirs = here.circuit("fake/small "), there.circuit("fake/small ")
    here.failed(mine, RULE, probe=False)
    there.failed(theirs, RULE, probe=False)
    here.failed(mine, RULE, probe=False)
    assert there.state(theirs) == "open" and there.enter(theirs, RULE, 5.0) > 0.0
    clock.advance(10.1)
    assert [here.enter(mine, RULE, 5.0) == PROBE, there.enter(theirs, RULE, 5.0) == PROBE] == [True, False]
    here.succeeded(mine, RULE, probe=True)
    assert there.enter(theirs, RULE, 5.0) == CLOSED
    assert 'pilothouse_breaker_opened_total{target="fake/small"} 1' in there.lines()
    here.close()
    there.close()


def test_a_damaged_file_shuts_nobody_out_for_good(clock: FrozenClock, tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"\xff" * 5000)
    breakers = Breakers(clock, tmp_path / "b")
    one = breakers.circuit("fake/small ")
    for _ in range(3):
        breakers.failed(one, RULE, probe=False)
    clock.advance(11.0)
    assert breakers.enter(one, RULE, 5.0) in (CLOSED, PROBE)
    breakers.close()


def test_without_its_file_a_worker_has_breakers_of_its_own(clock: FrozenClock, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    breakers = Breakers(clock, tmp_path / "file" / "breakers")
    one = breakers.circuit("fake/small ")
    for _ in range(3):
        breakers.failed(one, RULE, probe=False)
    assert breakers.state(one) == "open"
    breakers.close()


def test_no_failures_means_never(breakers: Breakers) -> None:
    one, never = breakers.circuit("fake/small "), Breaker(failures=0)
    for _ in range(50):
        breakers.failed(one, never, probe=False)
    assert breakers.enter(one, never, 5.0) == CLOSED


class BreakerMachine(RuleBasedStateMachine):
    """A breaker against a model of failures in a row alone (`share` is out of reach)."""

    rule_of = Breaker(failures=3, share=1.0, window=1e9, cooldown=10.0)

    @initialize()
    def begin(self) -> None:
        self.clock = FrozenClock()
        self.breakers = Breakers(self.clock)
        self.circuit = self.breakers.circuit("x")
        self.row = 0
        self.until = 0.0
        self.probe_until: float | None = None  # of a probe that is out

    def now(self) -> float:
        return self.clock.now_us() * 1e-6

    def _open(self, retry_after: float) -> None:
        self.until, self.probe_until = self.now() + max(10.0, retry_after), None

    @rule(good=st.booleans(), retry_after=st.sampled_from([0.0, 3.0, 40.0]))
    def call(self, good: bool, retry_after: float) -> None:
        said = self.breakers.enter(self.circuit, self.rule_of, 5.0)
        now = self.now()
        if not self.until:
            assert said == CLOSED
        elif now < self.until:
            assert said == pytest.approx(self.until - now)
            return
        elif self.probe_until is not None and now < self.probe_until:
            assert said > PROBE
            return
        else:
            assert said == PROBE
        probe = said == PROBE
        if good:
            self.breakers.succeeded(self.circuit, self.rule_of, probe=probe)
            self.row, self.until, self.probe_until = 0, 0.0, None
            return
        self.breakers.failed(self.circuit, self.rule_of, retry_after, probe=probe)
        self.row += 1
        if probe or self.row >= 3:
            self._open(retry_after)

    @rule()
    def a_probe_is_lost(self) -> None:
        if self.breakers.enter(self.circuit, self.rule_of, 5.0) == PROBE:
            self.probe_until = self.now() + 5.0

    @rule(seconds=st.sampled_from([0.5, 4.9, 5.1, 9.9, 10.1, 45.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @invariant()
    def its_state_is_the_models(self) -> None:
        expected = "closed" if not self.until else ("open" if self.now() < self.until else "half_open")
        assert self.breakers.state(self.circuit) == expected


BreakerMachine.TestCase.settings = hypothesis.settings(max_examples=60, stateful_step_count=40)
TestBreakerMachine = BreakerMachine.TestCase


# --- on the wire


async def test_an_open_breaker_is_not_called_and_says_when_to_come_again(stack: Stack) -> None:
    stack.script("rules: [{status: 500}]")
    stack.route(stable=live(policy=quick(retry=Retry(1), breaker=RULE)))
    for _ in range(3):
        assert (await stack.ask()).status == 502
    reply = await stack.ask()
    assert reply.status == 503 and (await reply.json())["error"]["code"] == "circuit_open"
    assert int(reply.get_header("retry-after") or 0) == 10
    assert len(stack.provider.received) == 3 and stack.records[-1].attempts == []
    assert any("pilothouse_breaker_state" in line and line.endswith(" 2") for line in stack.gateway.attempts.metrics())


async def test_retries_and_failed_fallbacks_count_and_the_next_request_goes_straight_on(stack: Stack) -> None:
    stack.script("rules: [{match: {model: small}, status: 500}, {match: {model: other}, reply: fine}]")
    policy = quick(retry=Retry(2, backoff=0.001), fallback=(Fallback(model=OTHER),), breaker=RULE)
    stack.route(stable=live(policy=policy))
    for _ in range(3):
        assert (await stack.ask()).status == 200
    # The fourth failure was not made: the breaker opened at the third, in the middle of the second request's retries.
    assert [len(r.attempts) for r in stack.records] == [3, 2, 1]
    assert [a.kind for a in stack.records[-1].attempts] == ["fallback"]


async def test_a_failed_fallback_opens_its_own_breaker(stack: Stack) -> None:
    stack.script("rules: [{status: 500}]")
    policy = quick(retry=Retry(1), fallback=(Fallback(model=OTHER), Fallback(static="sorry")), breaker=RULE)
    stack.route(stable=live(policy=policy))
    for _ in range(5):
        assert (await stack.ask()).status == 200
    assert [len(r.attempts) for r in stack.records] == [2, 2, 2, 0, 0]


async def test_the_clients_mistakes_open_nothing(stack: Stack) -> None:
    stack.script("rules: [{status: 422}]")
    stack.route(stable=live(policy=quick(retry=Retry(1), breaker=RULE)))
    for _ in range(6):
        assert (await stack.ask()).status == 422


async def test_a_hurried_client_opens_nothing(stack: Stack) -> None:
    stack.script("rules: [{fault: stall_head}]")
    stack.route(stable=live(policy=quick(retry=Retry(1), breaker=RULE)))
    for _ in range(4):
        reply = await stack.post(
            {"model": "answer", "messages": [{"role": "user", "content": "x"}]}, x_pilothouse_timeout="100ms"
        )
        assert reply.status == 504
    assert len(stack.provider.received) == 4


async def test_truncated_streams_open_it(stack: Stack) -> None:
    stack.script("rules: [{fault: cut, reply: 'some words to be broken off', chunk_size: 3}]")
    stack.route(stable=live(policy=quick(retry=Retry(1), breaker=RULE)))
    for _ in range(3):
        assert "cut_stream" in await (await stack.ask(stream=True)).text()
    assert (await stack.ask(stream=True)).status == 503


async def test_the_first_to_recover_is_waited_for_where_that_is_in_time(stack: Stack) -> None:
    stack.script("rules: [{times: 3, status: 500}, {reply: back again}]")
    breaker = Breaker(failures=3, cooldown=0.3)
    policy = quick(retry=Retry(1), breaker=breaker, timeout=Timeouts(first_token=0.4, total=3.0))
    stack.route(stable=live(policy=policy))
    for _ in range(3):
        assert (await stack.ask()).status == 502
    reply = await stack.ask()
    assert reply.status == 200 and (await reply.json())["choices"][0]["message"]["content"] == "back again"
    assert stack.records[-1].duration_ms >= 200 and (await stack.ask()).status == 200


async def test_credentials_that_are_refused_count(stack: Stack) -> None:
    stack.script("rules: [{status: 401}]")
    stack.route(stable=live(policy=quick(retry=Retry(1), breaker=RULE)))
    statuses = [(await stack.ask()).status for _ in range(4)]
    assert statuses == [502, 502, 502, 503]
