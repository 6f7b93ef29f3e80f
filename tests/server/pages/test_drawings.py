"""The arithmetic behind the drawings: sparklines, axes, differences, waterfalls, figures."""

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.domain.alert import Alert
from pilothouse.domain.manifest import PARTS, Manifest, Template
from pilothouse.domain.model_ref import ModelRef
from pilothouse.domain.record import Payload
from pilothouse.domain.release import CanaryLook
from pilothouse.releases.guardrail import Guardrail
from pilothouse.server.pages import difference, evidence, markdown, marks, overview, quantities, trace, waterfall
from pilothouse.server.pages.context import Mark, Overview, RouteOverview, TrafficPoint
from pilothouse.server.pages.release_shown import CanaryShown
from pilothouse.telemetry.waterfall import arrange

VALUES = st.lists(st.none() | st.floats(0, 1e9), max_size=60)


@given(VALUES)
def test_a_sparkline_stays_inside_its_box_and_breaks_where_nothing_is_known(values):
    drawn = marks.spark(values)
    assert drawn.empty == (not any(v is not None for v in values))
    numbers = [int(n) for n in drawn.line.replace("M", " ").replace("L", " ").split()]
    assert all(0 <= x <= marks.WIDTH for x in numbers[::2])
    assert all(0 <= y <= marks.HEIGHT for y in numbers[1::2])
    if not drawn.empty:
        assert [bool(v) for v in drawn.values.split(",")] == [v is not None for v in values]


def test_unknown_is_a_gap_not_a_zero():
    drawn = marks.spark([1.0, 2.0, None, 3.0, None, 4.0, 4.0])
    assert drawn.line.count("M") == 2
    assert len(drawn.dots) == 1


@given(st.integers(1, 10**9), st.integers(60, 10**8))
def test_an_axis_has_at_most_seven_round_ticks_in_order(start_s, length_s):
    since, until = start_s * 1_000_000, (start_s + length_s) * 1_000_000
    ticks = marks.time_ticks(since, until)
    assert len(ticks) <= 8
    assert [t.ts_us for t in ticks] == sorted(t.ts_us for t in ticks)
    assert all(0 <= t.at <= marks.WIDTH for t in ticks)


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), max_size=20))
def test_a_bar_is_seen_wherever_there_is_a_request(pairs):
    counts, failed = [max(p) for p in pairs], [min(p) for p in pairs]
    for bar, n, bad in zip(marks.bars(counts, failed), counts, failed, strict=True):
        assert (bar.height > 0) == (n > 0)
        assert bar.failed_height <= bar.height + 0.1
        assert bad or not bar.failed_height


TEXT = st.text(st.sampled_from("ab c\n.é"), max_size=60)


@given(TEXT, TEXT)
def test_both_texts_can_be_read_out_of_the_word_difference(old, new):
    pieces = difference.words(old, new)
    if any("unchanged lines" in p.text for p in pieces):
        return
    assert "".join(p.text for p in pieces if p.kind != "added") == old
    assert "".join(p.text for p in pieces if p.kind != "removed") == new


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("xyz"), inner, max_size=3),
    max_leaves=8,
)


@given(JSON, JSON)
def test_a_path_difference_is_empty_exactly_where_the_values_are_equal(a, b):
    same = msgspec.json.encode(a, order="deterministic") == msgspec.json.encode(b, order="deterministic")
    if same:
        assert difference.paths(a, b) == ()
    elif a != b:  # Python holds 1 == True
        assert difference.paths(a, b)


def test_a_long_unchanged_stretch_is_shortened():
    body = "\n".join(f"line {i}" for i in range(40))
    pieces = difference.words(f"old\n{body}\nend", f"new\n{body}\nend")
    assert "⋯" in pieces[-1].text and len(pieces[-1].text) < 80


def test_all_eight_parts_are_compared_and_equal_ones_say_so():
    a = Manifest(model=ModelRef("openai", "gpt"), prompt=Template(text="Hello there"))
    b = Manifest(model=ModelRef("openai", "gpt"), prompt=Template(text="Hello friend"), tools=[])
    parts = difference.between(a, b)
    assert tuple(p.part for p in parts) == PARTS
    assert [p.part for p in parts if p.changed] == ["prompt", "tools"]


@pytest.mark.parametrize(
    ("quantity", "text"),
    [
        (quantities.duration(0.42), "0.4\u00a0ms"),
        (quantities.duration(999.4), "999\u00a0ms"),
        (quantities.duration(999.6), "1.00\u00a0s"),
        (quantities.duration(125_000), "2 m 05\u00a0s"),
        (quantities.duration(3_700_000), "1 h 01\u00a0m"),
        (quantities.share(0.0004), "0.04\u00a0%"),
        (quantities.share(1.0), "100\u00a0%"),
        (quantities.share(0.999), "99.90\u00a0%"),
        (quantities.money(None), "–"),
        (quantities.money(0.0), "0\u00a0USD"),
        (quantities.money(0.00042), "420\u00a0µUSD"),
        (quantities.money(12.5), "12.50\u00a0USD"),
        (quantities.count(12_418), "12,418"),
        (quantities.count(1_234_567), "1.23\u00a0M"),
        (quantities.size(2_500), "2.5\u00a0KB"),
    ],
)
def test_figures_are_written_with_their_unit(quantity, text):
    assert quantities.text(quantity) == text


def test_times_are_told_in_whole_units():
    now = 10**15
    assert quantities.ago(now - 2_000_000, now) == "just now"
    assert quantities.ago(now - 90_000_000, now) == "1\u00a0min ago"
    assert quantities.ago(now - 3 * 86_400_000_000, now) == "3\u00a0d ago"
    assert quantities.span(3_700_000_000) == "1\u00a0h 01"


def test_a_request_without_spans_is_drawn_with_its_attempts():
    rest = {"kind": "attempt", "stage": "model", "status": "ok", "error_type": "", "duration_ms": 15.0}
    steps = [
        waterfall.Step(id="s", parent="", kind="request", name="a", stage="", start_ms=0.0, duration_ms=40.0,
                       status="error", error_type="", stages={"model": 30.0}),
        *(waterfall.Step(id=f"r#{n}", parent="s", name="p/m", start_ms=n * 15.0, **rest) for n in (0, 1)),
    ]  # fmt: skip
    drawn = waterfall.draw(arrange("t", 1, steps, ["r"]))
    assert [b.indent for b in drawn.bars] == [0, 1, 1]
    assert [s.name for s in drawn.stages] == ["model", "unaccounted"]
    assert sum(s.width for s in drawn.stages) == pytest.approx(waterfall.UNITS)


@given(st.floats(0.0, 1e7), st.floats(0.0, 1e7), st.floats(0.001, 1e7))
def test_a_bar_of_the_waterfall_never_leaves_it(start, length, total):
    step = waterfall.Step(
        id="a",
        parent="",
        kind="span",
        name="a",
        stage="odd",
        start_ms=start,
        duration_ms=length,
        status="ok",
        error_type="",
    )
    drawn = waterfall.draw(
        waterfall.Waterfall(trace_id="t", start_us=0, duration_ms=total, steps=[step], stages={}, request_ids=[])
    )
    (bar,) = drawn.bars
    assert bar.x >= 0 and bar.width > 0 and bar.x + bar.width <= waterfall.UNITS + 0.1
    assert len(drawn.ticks) <= 7


def _canary(values: list[tuple[float, float | None]]) -> evidence.Drawn:
    """A canary of one guardrail: (evidence, difference) look by look, bounds one point to each side."""
    last_e, last_d = values[-1]
    rail = Guardrail(
        name="failed", n=9, bad=1, limit=0.1, evidence=last_e, threshold=100.0, margin=0.02, difference=last_d
    )

    def seen(i: int, e: float, d: float | None) -> list[float | None]:
        return [e, 100.0, d, None if d is None else d - 0.01, None if d is None else d + 0.01, 0.02, float(i)]

    looks = [
        CanaryLook(
            ts_us=1_000_000 * (i + 1), share=0.1, decision="hold", requests=i,
            rails={"failed": seen(i, e, d)},
        )
        for i, (e, d) in enumerate(values)
    ]  # fmt: skip
    shown = CanaryShown(
        id=1, env="prod", release=2, baseline=1, state="running", started_us=0, steps=((0, 0.1),),
        looks=tuple(looks), rails=(rail,),
    )  # fmt: skip
    return evidence.drawn(shown, 1_000_000 * len(values))


@given(st.lists(st.tuples(st.floats(0, 1e15), st.none() | st.floats(-1, 1)), min_size=1, max_size=250))
def test_evidence_is_above_its_line_exactly_where_it_takes_the_canary_back(values):
    (row,) = _canary(values).rows
    chart = row.evidence_chart
    edge = next(level.y for level in chart.levels if level.kind == "edge")
    assert (chart.end[1] <= edge) == (values[-1][0] >= 100.0) or abs(chart.end[1] - edge) <= 0.1
    assert chart.tripped == (values[-1][0] >= 100.0) == (row.word == "Boundary reached")
    for drawing in filter(None, (chart, row.difference_chart)):
        ys = [label.y for label in drawing.labels]
        assert all(0 <= y <= evidence.HEIGHT for y in ys) and all(b - a >= 12.9 for a, b in pairwise(ys))
        assert len(drawing.hovers) <= evidence.HOVERED + 1 and drawing.hovers[-1].width >= 0
        assert "nan" not in drawing.line + drawing.band


def test_a_difference_is_drawn_in_its_unit_against_what_is_allowed():
    (row,) = _canary([(0.5, None), (2.0, 0.001), (8.0, 0.013)]).rows
    assert [label.text for label in row.difference_chart.labels] == [
        "allowed 2\u00a0pp",
        "+1.3\u00a0pp",
        "half 1\u00a0pp",
        "0",
    ]
    assert row.difference_chart.said.startswith("failed worse by +1.3\u00a0pp [+0.3\u00a0pp, +2.3\u00a0pp]")
    assert row.evidence_chart.said == "evidence against failed: e = 8, taken back at 100, over 3 looks, n = 2"
    (bare,) = _canary([(0.5, None)]).rows
    assert bare.difference_chart is None and bare.evidence_chart is not None


def test_decisions_that_repeat_are_one_line_and_the_newest_comes_first():
    drawn = _canary([(1.0, None)] * 5)
    assert [(spell.word, spell.share, spell.requests) for spell in drawn.spells] == [("held", "10\u00a0%", 4)]


@given(st.text())
def test_markdown_of_any_text_ends_and_loses_no_word_outside_of_marks(text):
    found = markdown.blocks(text)
    assert all(block.lines or block.rows or block.kind == "code" for block in found)


def test_a_runbooks_markdown_becomes_blocks():
    found = markdown.blocks(
        "# R\n\none `c` **b**\ntwo\n\n- a\n- b\n\n1. x\n\n"
        "```\n# no title\n\n<b>\n```\n\n| h | k |\n|---|---|\n| 1 | 2 |\n"
    )
    assert [block.kind for block in found] == ["h1", "text", "list", "steps", "code", "table"]
    assert found[4].code == "# no title\n\n<b>" and len(found[5].rows) == 2
    assert [(span.text, span.tag) for span in found[1].lines[0]] == [("one ", ""), ("c", "code"), (" ", ""), ("b", "b")]


def test_a_long_value_is_laid_out_and_a_short_one_stays_on_its_line():
    (change,) = difference.paths(
        {"fallback": []}, {"fallback": [{"way": "model", "model": "local/smollm2", "on": ["timeout", "server_error"]}]}
    )
    assert change.path == "fallback[0]" and change.before is None and "\n  " in change.after
    assert difference.paths({"a": 1}, {"a": [1, 2]})[0].after == "[1,2]"


def _overview(*routes: RouteOverview, alerts: tuple[Alert, ...] = (), marked: tuple[Mark, ...] = ()) -> Overview:
    return Overview(
        window="1h",
        env="prod",
        since_us=0,
        until_us=180_000_000,
        bucket_s=60,
        routes=routes,
        alerts=alerts,
        marks=marked,
    )


def test_all_routes_together_sum_what_sums_and_take_the_worst_p95():
    a = RouteOverview(route="a", points=(TrafficPoint(ts_us=0, requests=10, errors=1, p95_ms=50.0, cost_usd=1.0),))
    b = RouteOverview(route="b", points=(TrafficPoint(ts_us=0, requests=30, errors=3, p95_ms=90.0),))
    chart = overview.chart(_overview(a, b), "")
    traffic, p95, errors, cost = (panel["v"] for panel in chart["panels"])
    assert traffic == [40.0, 0.0, 0.0]
    assert p95 == [90.0, None, None]
    assert errors == [0.1, None, None]
    assert cost == [1.0, None, None]


def test_a_chart_of_one_route_has_its_own_marks_only():
    marked = (
        Mark(ts_us=60_000_000, route="a", kind="promote", text="1 → 2"),
        Mark(ts_us=60_000_000, route="b", kind="abort", text="3"),
    )
    data = _overview(RouteOverview(route="a"), RouteOverview(route="b"), marked=marked)
    assert [m["text"] for m in overview.chart(data, "a")["marks"]] == ["1 → 2"]
    assert [m["text"] for m in overview.chart(data, "")["marks"]] == ["a: 1 → 2", "b: 3"]


def _alert(state: str, **more: str) -> Alert:
    return Alert(id="1", rule="r", route="a", env="prod", state=state, since_us=0, owner="ana", **more)


@pytest.mark.parametrize(
    ("alerts", "requests", "status"),
    [
        ((_alert("firing"), _alert("no_data")), 5, "FAIL"),
        ((_alert("acknowledged", acknowledged_by="ben"),), 5, "WARN"),
        ((_alert("pending"), _alert("acknowledged")), 5, "WARN"),
        ((_alert("no_data"),), 5, "NO_DATA"),
        ((), 0, "NO_DATA"),
        ((), 5, "PASS"),
    ],
)
def test_the_answer_of_the_overview_is_its_worst_news(alerts, requests, status):
    assert overview.verdict(_overview(RouteOverview(route="a", requests=requests), alerts=alerts))[0] == status


def test_a_payload_is_opened_as_messages_tool_calls_and_raw_text():
    ask = {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "image_url"}]}]}
    said = {
        "choices": [
            {
                "message": {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{"function": {"name": "find", "arguments": '{"q":1}'}}],
                }
            }
        ]
    }
    bodies = trace.opened(
        Payload(
            request=msgspec.json.encode(ask).decode(), response=msgspec.json.encode(said).decode(), upstream="not JSON"
        )
    )
    assert [b.name for b in bodies] == ["Request", "Upstream", "Response"]
    assert bodies[0].messages[0].text == "hi\n[image_url]"
    assert bodies[1].messages == () and bodies[1].raw == "not JSON"
    assert bodies[2].messages[0].role == "assistant calls find"


def test_a_body_that_is_too_long_says_how_much_is_left_out():
    (body,) = trace.opened(Payload(response="x" * (trace.BODY_SHOWN + 7)))
    assert body.cut == 7 and len(body.raw) == trace.BODY_SHOWN


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0412, "0.0412"), (2_140.0, "2,140"), (30_000.0, "30,000"), (0.00002, "0.00002"), (-1e-9, "-0.000000001")],
)
def test_a_number_without_a_unit_is_never_a_power_of_ten(value, text):
    assert quantities.plain(value) == text


@given(st.floats(-1e6, 1e6))
def test_a_number_without_a_unit_keeps_four_digits(value):
    said = quantities.plain(value)
    assert "e" not in said
    assert float(said.replace(",", "")) == pytest.approx(value, rel=6e-4, abs=1e-320)
