"""Which log mode holds for a span, whatever its trace holds and in whatever batches it comes."""

from hypothesis import given
from hypothesis import strategies as st

from pilothouse.domain.manifest import Manifest
from pilothouse.domain.model_ref import ModelRef
from pilothouse.domain.policy import LogMode, Policy
from pilothouse.domain.table import Entry, Live, Table
from pilothouse.telemetry.modes import STRICTEST, TRACES, Modes
from pilothouse.telemetry.spans import OtlpSpan

MODES = st.sampled_from(STRICTEST)


def table(rest: LogMode, **routes: LogMode) -> Table:
    entries = {}
    for name, mode in routes.items():
        live = Live(1, Manifest(model=ModelRef("fake", "m"), policy=Policy(log=mode)), {}, mode)
        entries[f"{name}@dev"] = Entry(route=name, env="dev", app="", tier="standard", stable=live)
    return Table(1, 1, entries, {}, {}, spans_log=rest)


def span(trace: int, route: str = "") -> OtlpSpan:
    told = {"pilothouse.route": route} if route else {}
    return OtlpSpan(trace_id=f"{trace:032x}", span_id="1" * 16, start_ns=1, end_ns=2, attributes=told)


@given(MODES, MODES, MODES, st.lists(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["", "a", "b"])))))
def test_no_span_keeps_more_than_its_route_or_what_its_trace_has_named_so_far(
    rest: LogMode, a: LogMode, b: LogMode, batches: list[list[tuple[int, str]]]
) -> None:
    held = table(rest, a=a, b=b)
    modes, of = Modes(lambda: held), {"a": a, "b": b}
    named: dict[int, set[LogMode]] = {}
    for batch in batches:
        spans = [span(trace, route) for trace, route in batch]
        for trace, route in batch:
            named.setdefault(trace, set()).update({of[route]} if route else ())
        modes.learn(spans, "dev")
        for (trace, route), one in zip(batch, spans, strict=True):
            mode, said = modes.of(one, "dev")
            if route:
                assert mode == of[route] and said in (route, "")
                continue
            bounds = [STRICTEST.index(m) for m in (rest, *named[trace])]
            # `off` is for the route's own spans: the rest of its trace is kept without text.
            assert STRICTEST.index(mode) <= max(1, min(bounds)) or mode == rest == "off"
            assert (mode == "off") == (rest == "off")


def test_a_new_table_holds_at_once_and_the_oldest_traces_are_forgotten() -> None:
    now = [table("redacted", a="metadata")]
    modes = Modes(lambda: now[0])
    modes.learn([span(0, "a"), *(span(n, "a") for n in range(1, TRACES + 1))], "dev")
    assert modes.of(span(0), "dev") == ("redacted", "")
    assert modes.of(span(TRACES), "dev") == ("metadata", "")
    now[0] = table("redacted", a="full")
    modes.learn([], "dev")
    assert modes.of(span(5, "a"), "dev") == ("full", "a")
