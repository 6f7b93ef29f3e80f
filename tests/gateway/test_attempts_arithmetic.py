"""The arithmetic of attempts: budgets, deadlines, trims, quantiles and choices hold for any numbers."""

import asyncio
import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.gateway.conftest import quick

from pilothouse.domain.errors import (
    BadRequest,
    CircuitOpen,
    ConnectFailed,
    ContentFilter,
    ContextWindow,
    CostCap,
    CutStream,
    GuardrailBlocked,
    InvalidOutput,
    PilothouseError,
    RateLimited,
    Rejected,
    ServerError,
    UpstreamTimeout,
)
from pilothouse.domain.model_ref import ModelRef
from pilothouse.domain.policy import Balance, Deployment, Fallback, Retry, Timeouts
from pilothouse.gateway.balance import Recent, Target, choose
from pilothouse.gateway.breaker import Circuit
from pilothouse.gateway.deadline import Alarm, grpc_seconds, seconds, within
from pilothouse.gateway.retry import Budget, Budgets, backoff_s
from pilothouse.gateway.steps import again, error_class, last, later_calls, matching

CLASSES: dict[str, PilothouseError] = {
    "rate_limit": RateLimited(""), "server_error": ServerError(""), "timeout": UpstreamTimeout(""),
    "connect_failed": ConnectFailed(""), "cut_stream": CutStream(""), "invalid_output": InvalidOutput(""),
    "circuit_open": CircuitOpen(""), "context_window": ContextWindow(""), "content_filter": ContentFilter(""),
    "guardrail": GuardrailBlocked("", output=True), "cost_cap": CostCap(""),
}  # fmt: skip
NAMED = {"context_window", "content_filter", "guardrail", "cost_cap"}


@given(st.lists(st.booleans(), max_size=200), st.floats(0.0, 1.0), st.integers(0, 20))
def test_in_any_stretch_there_are_at_most_hand_and_share_of_it(asks: list[bool], share: float, hand: int) -> None:
    budget, taken, total = Budget(float(hand)), [], 0
    for wants in asks:
        budget.request(share)
        total += wants and budget.take()
        taken.append(total)
    for begin in range(0, len(asks), 7):
        before = taken[begin - 1] if begin else 0
        for end in range(begin, len(asks), 5):
            assert taken[end] - before <= hand + share * (end - begin + 1) + 1e-6


def test_a_budget_for_each_route_and_old_ones_are_forgotten() -> None:
    budgets = Budgets(hand=1.0)
    assert budgets.take("a") and not budgets.take("a") and budgets.take("b") and budgets.refused == 1
    for i in range(5000):
        budgets.of(f"raw/{i}")
    assert len(budgets._of) <= 4096


@given(st.integers(1, 60), st.none() | st.floats(0.0, 600.0), st.floats(0.0, 1.0))
def test_a_wait_is_bounded_and_never_sooner_than_asked(tried: int, asked: float | None, jitter: float) -> None:
    wait = backoff_s(Retry(backoff=0.25), tried, asked, jitter)
    assert wait >= (asked or 0.0) and wait <= max(30.0, asked or 0.0)


@given(
    st.floats(0.01, 1e4),
    st.dictionaries(
        st.sampled_from(["x-pilothouse-timeout", "request-timeout", "x-stainless-timeout", "x-stainless-read-timeout"]),
        st.floats(0.001, 1e5).map(lambda s: f"{s:f}") | st.sampled_from(["nan", "-1", "soon", "inf", "0", ""]),
    ),
    st.booleans(),
)
def test_a_deadline_is_never_later_than_policy_or_client(total: float, headers: dict[str, str], stream: bool) -> None:
    deadline, begun_by = within(Timeouts(total=total), headers.get, 1000.0, stream=stream)
    assert 1000.0 <= begun_by <= deadline <= 1000.0 + total + 1e-9
    for name in ("x-pilothouse-timeout",):
        if (said := seconds(headers.get(name, ""))) is not None:
            assert deadline <= 1000.0 + said
    assert stream or begun_by == deadline


@pytest.mark.parametrize(
    ("text", "value"),
    [("30", 30.0), ("30s", 30.0), ("1500ms", 1.5), ("2m", 120.0), ("1h", 3600.0), ("1e9", 86400.0), ("-3", None),
     ("nan", None), ("ten", None), ("", None), ("s", None)],
)  # fmt: skip
def test_times_as_clients_write_them(text: str, value: float | None) -> None:
    assert seconds(text) == value


def test_grpcs_own_form() -> None:
    said = [grpc_seconds(t) for t in ("250m", "2S", "1M", "1H", "500u", "", "12", "123456789S", "5x")]
    assert said == [0.25, 2.0, 60.0, 3600.0, 0.0005, None, None, None, None]


async def test_an_alarm_ends_only_its_own_wait() -> None:
    loop = asyncio.get_running_loop()
    with pytest.raises(TimeoutError), Alarm(loop.time() + 0.01, loop):
        await asyncio.Event().wait()
    with Alarm(loop.time() + 9.0, loop):
        await asyncio.sleep(0)
    with pytest.raises(TimeoutError), Alarm(loop.time() + 9.0, loop) as outer:
        with pytest.raises(TimeoutError), Alarm(loop.time() + 0.01, loop):
            await asyncio.Event().wait()
        outer.ring()
        await asyncio.Event().wait()
    task = asyncio.current_task()
    assert task is not None and task.cancelling() == 0

    async def waits() -> None:
        with Alarm(loop.time() + 9.0, loop):
            await asyncio.Event().wait()

    waiting = asyncio.ensure_future(waits())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_many_alarms_each_ring_at_their_own_time() -> None:
    loop = asyncio.get_running_loop()
    begun, ended = loop.time(), []

    async def waits(number: int, after: float, done: asyncio.Event) -> None:
        try:
            with Alarm(begun + after, loop):
                await done.wait()
        except TimeoutError:
            assert loop.time() >= begun + after - 0.002
            ended.append(number)

    never, soon = asyncio.Event(), asyncio.Event()
    late = [waits(n, 0.02 * (1 + n % 4), never) for n in (7, 2, 1, 4)]
    over = [waits(100 + n, 0.01 + n * 1e-5, soon) for n in range(2000)]  # more than are kept
    tasks = [asyncio.ensure_future(one) for one in (*over, *late)]
    await asyncio.sleep(0)
    soon.set()
    await asyncio.wait(tasks[:2000], timeout=5.0)
    for _ in range(600):  # over at once, and thrown out in time
        with Alarm(loop.time() + 9.0, loop):
            pass
    await asyncio.wait(tasks, timeout=5.0)
    assert [n for n in ended if n < 100] == [4, 1, 2, 7]


@given(st.sampled_from(sorted(CLASSES)), st.lists(st.sampled_from(["error", *sorted(CLASSES)]), max_size=4))
def test_a_step_is_for_what_it_names_and_error_for_what_may_pass(kind: str, on: list[Any]) -> None:
    step, error = Fallback(static="x", on=tuple(on)), CLASSES[kind]
    assert error_class(error) == kind
    found = list(matching([step], error, quick(invalid=("fallback",)), set()))
    assert bool(found) == (kind in on or ("error" in on and kind not in NAMED))


def test_what_nothing_can_mend_is_for_no_step() -> None:
    for error in (Rejected(""), BadRequest("")):
        assert error_class(error) is None
        assert not list(matching([Fallback(static="x")], error, quick(), set()))
        assert not again(quick(), error, 1)


def test_a_broken_off_beginning_is_retried_unless_policy_says_error() -> None:
    assert again(quick(), CutStream(""), 1) and not again(quick(cut="error"), CutStream(""), 1)
    assert not again(quick(), CutStream(""), 2)


def test_calls_that_may_follow_a_timeout() -> None:
    steps = (Fallback(model=ModelRef("p", "a")), Fallback(trim=2, on=("context_window",)), Fallback(static="x"))
    policy = quick(fallback=steps)
    assert later_calls(policy, None, 1) == 2 and later_calls(policy, steps[0], 1) == 1
    assert later_calls(quick(retry=Retry(3, on=("rate_limit",))), None, 2) == 0


ROLES = st.sampled_from(["system", "developer", "user", "assistant", "call", "tool"])


@given(st.lists(ROLES, max_size=20), st.integers(0, 8))
def test_a_trim_keeps_system_and_the_last_and_no_result_without_its_call(roles: list[str], keep: int) -> None:
    messages = [
        {"role": "assistant", "n": i, "tool_calls": [{"id": "x"}]} if role == "call" else {"role": role, "n": i}
        for i, role in enumerate(roles)
    ]
    kept = last(messages, keep)
    assert [m["n"] for m in kept] == sorted(m["n"] for m in kept)
    systems = [m for m in messages if m["role"] in ("system", "developer")]
    assert [m for m in kept if m in systems] == systems
    spoken, before = [m for m in kept if m not in systems], [m for m in messages if m not in systems]
    assert len(spoken) >= min(keep, len(before)) and spoken == before[len(before) - len(spoken) :]
    if keep and spoken and len(spoken) < len(before):
        assert spoken[0]["role"] != "tool"


@given(st.lists(st.floats(0.001, 100.0), min_size=20, max_size=128), st.floats(0.0, 1.0))
def test_a_quantile_is_one_of_the_latencies_with_enough_below_it(values: list[float], at: float) -> None:
    recent = Recent()
    for value in values[:19]:
        recent.add(value)
    assert recent.quantile(at) is None
    for value in values[19:]:
        recent.add(value)
    found = recent.quantile(at)
    assert found in values and sum(v <= found for v in values) >= int(at * len(values))


def target(name: str, latency: float | None = None, pending: int = 0) -> Target:
    return Target(ModelRef("p", name), Circuit(name, 1, 0), pending, latency)


@given(st.lists(st.floats(0.0, 5.0), min_size=1, max_size=5).filter(lambda w: sum(w) > 0.1), st.integers())
def test_a_deployment_without_weight_gets_nothing(weights: list[float], seed: int) -> None:
    pairs = [(Deployment(ModelRef("p", str(i)), w), target(str(i))) for i, w in enumerate(weights)]
    rng = random.Random(seed)
    for _ in range(50):
        chosen = choose(Balance(tuple(d for d, _ in pairs)), pairs, rng)
        assert len(pairs) == 1 or weights[int(chosen.model.name)] > 0.0


def test_weights_are_the_shares_in_the_long_run() -> None:
    pairs = [(Deployment(ModelRef("p", n), w), target(n)) for n, w in (("a", 6.0), ("b", 3.0), ("c", 1.0))]
    rng = random.Random(7)
    drawn = [choose(Balance(tuple(d for d, _ in pairs)), pairs, rng).model.name for _ in range(10_000)]
    for name, expected in (("a", 6000), ("b", 3000), ("c", 1000)):
        assert abs(drawn.count(name) - expected) < 4 * (expected * (1 - expected / 1e4)) ** 0.5  # 4 σ


def test_load_takes_the_better_of_two_and_the_unknown_first() -> None:
    over = Balance((), "load")
    slow, quick_one, new = target("slow", 1.0), target("quick", 0.1), target("new")
    pairs = [(Deployment(t.model), t) for t in (slow, quick_one)]
    rng = random.Random(1)
    assert all(choose(over, pairs, rng) is quick_one for _ in range(20))
    quick_one.pending = 20
    assert all(choose(over, pairs, rng) is slow for _ in range(20))
    assert all(choose(over, [*pairs[:1], (Deployment(new.model), new)], rng) is new for _ in range(20))
    quick_one.pending = 0
    for _ in range(8):
        quick_one.failed(0.001)  # fails fast
    assert quick_one.latency is not None and quick_one.latency > 0.2
    assert msgspec.structs.asdict(slow)["latency"] == 1.0
