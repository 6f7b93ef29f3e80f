"""What a canary's arms did, asked of a real telemetry store and compared with sums taken by hand."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pilothouse.domain.clock import FrozenClock
from pilothouse.domain.ids import request_ids, uuid7
from pilothouse.domain.record import GuardHit, Record, ScoreRecord, Tokens, Validation
from pilothouse.domain.release import CanaryRun
from pilothouse.releases import shown
from pilothouse.releases.arms import Strata
from pilothouse.releases.shown import Arm, Sides
from pilothouse.server import arms
from pilothouse.stats.contrast import Moments
from pilothouse.store.telemetry import TelemetryStore
from pilothouse.telemetry.journal import Journal
from pilothouse.telemetry.loader import Loader

START = 1_750_000_000_000_000
SECOND = 1_000_000


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock(START + 3_600 * SECOND)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TelemetryStore]:
    opened = TelemetryStore(tmp_path / "telemetry.duckdb")
    yield opened
    opened.close()


def load(tmp_path: Path, store: TelemetryStore, clock: FrozenClock, lines: list[Any]) -> None:
    journal = Journal(tmp_path / "journal", "edge-0", clock, fsync="never", segment_bytes=1 << 20, reserve_bytes=0)
    for line in lines:
        journal.write(line)
    journal.close()
    Loader(tmp_path / "journal", store, clock).load_once()


def record(canary: bool, at_s: float, session: str = "", **more: Any) -> Record:
    own, trace, span = request_ids(START + int(at_s * SECOND))
    given: dict[str, Any] = {
        "id": own, "ts_us": START + int(at_s * SECOND), "trace_id": trace, "span_id": span, "env": "prod",
        "route": "answer", "release": 2 if canary else 1, "canary": canary, "outcome": "success", "status": 200,
        "session": session, "duration_ms": 100.0, "cost_usd": 0.01, "tokens": Tokens(input_uncached=10, output_text=5),
    }  # fmt: skip
    return Record(**(given | more))


def score(of: Record, name: str, value: float) -> ScoreRecord:
    return ScoreRecord(id=uuid7(of.ts_us), ts_us=of.ts_us + SECOND, request_id=of.id, name=name, value=value)


def arm(canary: bool, **more: Any) -> Arm:
    given = {"route": "answer", "env": "prod", "release": 2 if canary else 1, "canary": canary, "since_us": START}
    return Arm(**(given | more))


RUN = CanaryRun(
    id=7, route="answer", env="prod", release=2, baseline=1, state="running", started_us=START, stepped_us=START
)


def test_counts_of_an_arm(tmp_path, store, clock):
    plain = [record(True, n, session=f"s{n % 3}") for n in range(6)]
    rest = [
        record(True, 10, outcome="failed", status=502),
        record(True, 11, outcome="failed", status=499),  # its client left
        record(True, 12, outcome="refused"),
        record(True, 13, validation=Validation(first_ok=False, ok=True)),
        record(True, 14, validation=Validation(first_ok=True, ok=True)),
        record(True, 15, guards=[GuardHit(use="pii", at="output", action="flag")]),
        record(True, 16, duration_ms=900.0),
        record(True, 17, duration_ms=900.0, cache="hit"),  # no answer of this release's model
        record(True, 18, source="replay", labels={"canary_run": "7"}),
        record(True, 19, source="replay", labels={"canary_run": "8"}),
        record(True, 20, source="eval"),
        record(True, 21, route="other"),
        record(True, -1),
        record(False, 5),
        record(True, 8, flags={"beta": "on"}),  # of all these a flag had a say, so that they say nothing of the release
        record(False, 23, flags={"beta": "off"}),
        record(False, 24, flags={"beta": "on"}, release=3),
        record(True, 9, flags={"beta": "on"}, status=499),
    ]
    scores = [score(plain[0], "helpful", 0), score(plain[1], "helpful", 1), score(plain[2], "grade", 0.5)]
    again = ScoreRecord(id="x", ts_us=plain[0].ts_us + 2 * SECOND, request_id=plain[0].id, name="helpful", value=1)
    load(tmp_path, store, clock, [*plain, *rest, *scores, again])
    found = arms.counts(store, arm(True, run=7, slo_ms=500.0))
    assert found.requests == 6 + 8
    assert (found.failures, found.refusals, found.structured, found.invalid_first, found.guarded) == (1, 1, 2, 1, 1)
    assert (found.answered, found.slow, found.sessions, found.fed) == (11, 1, 3, 1)
    assert (found.flagged, arms.counts(store, arm(False)).flagged) == (1, 2)
    assert found.scores == {"helpful": (0, 2)}  # the last word counts; what is neither 0 nor 1 is no rate
    assert arms.counts(store, arm(True)).requests == 13
    assert arms.counts(store, arm(True, until_us=START + 3 * SECOND)).requests == 3
    assert arms.counts(store, arm(False)).requests == 1
    assert arms.last(store, arm(True)) == START + 17 * SECOND


def test_means_by_share_and_group(tmp_path, store, clock):
    sides = Sides(run=RUN, steps=((START, 0), (START + 100 * SECOND, 0)), scores=("grade",), slo_ms=150.0)
    first = [record(True, n, session="a", duration_ms=100.0 + n) for n in range(3)]
    first += [record(True, 3, duration_ms=200.0), record(False, 4, session="b", duration_ms=50.0)]
    first.append(record(False, 5, session="b", duration_ms=50.0, cost_usd=None, tokens=None))  # no price is no cost
    second = [record(True, 101, cost_usd=0.05), record(False, 102, cost_usd=None, outcome="failed", status=500)]
    fed = [record(side, 103, source="replay", labels={"canary_run": "7"}) for side in (True, False)]
    chosen = [record(side, 104, flags={"beta": "on"}) for side in (True, False)]
    load(
        tmp_path,
        store,
        clock,
        [*first, *second, *fed, *chosen, score(first[0], "grade", 0.7), score(first[3], "good", 0)],
    )
    found = arms.measure(store, sides)
    logs = [math.log(100.0 + n) for n in range(3)]
    replayed, before, after = found["latency"]
    assert before[0].n == 4
    assert before[0].groups == 2
    expected = Moments.of([(3, sum(logs)), (1, math.log(200.0))])
    assert [getattr(before[0], name) for name in ("total", "squares", "crossed", "sizes")] == pytest.approx(
        [expected.total, expected.squares, expected.crossed, expected.sizes]
    )
    assert (before[1].n, before[1].groups) == (2, 1)
    assert before[1].total == pytest.approx(2 * math.log(50.0))
    assert (found["cost"][1][1].n, found["tokens"][1][1].n) == (1, 1)
    assert (after[0].n, after[1].n) == (1, 0)  # what failed has no time
    assert (replayed[0].n, replayed[1].n) == (1, 1)
    assert [pair[0].total for pair in found["slow"]] == [0, 1, 0]
    assert {type(pair[0].total) for strata in found.values() for pair in strata} == {float}
    assert [pair[1].total for pair in found["failed"]] == [0, 0, 1]
    assert found["cost"][2][0].total == pytest.approx(0.05, rel=0.05)  # near the quantile that costs are cut at
    assert found["tokens"][1][0].total == pytest.approx(60)
    assert found["grade"] == ((Moments.of([(1, 0.7)]), Moments()),)
    assert found["good"] == ((Moments.of([(1, 1.0)]), Moments()),)
    assert "invalid" not in found or not found["invalid"]


def sides_of(_: TelemetryStore) -> Sides:
    return Sides(run=RUN, steps=((START, 4), (START + 100 * SECOND, 6)), scores=("grade",), slo_ms=150.0)


def test_two_hosts_tell_what_one_store_would_have_shown(tmp_path, clock):
    """Sessions that met both hosts, single requests, scores and replays, with and apart."""
    lines: list[list[Any]] = [[], []]
    for n in range(120):
        canary, table = n % 2 == 0, 6 if n > 60 else 4
        session = f"s{n % 7}-{canary}" if n % 3 else ""
        one = record(canary, n, session=session, duration_ms=90.0 + n, table_revision=table)
        lines[n % 5 % 2] += [one, score(one, "grade", n / 120), score(one, "good", n % 4 == 0)]
    lines[1].append(record(True, 5, source="replay", labels={"canary_run": "7"}, table_revision=4))
    told, stores = [], []
    for number, some in enumerate((lines[0], lines[1], lines[0] + lines[1])):
        folder = tmp_path / str(number)
        folder.mkdir()
        stores.append(TelemetryStore(folder / "telemetry.duckdb"))
        load(folder, stores[-1], clock, some)
        told.append(arms.parts(stores[-1], sides_of(stores[-1])))
    whole = arms.measure(stores[2], sides_of(stores[2]))
    hosts, one = shown.strata(told[:2]), shown.strata(told[2:])
    assert hosts.keys() == one.keys() == {name for name, strata in whole.items() if strata}
    for name, strata in one.items():
        if name not in ("cost", "tokens"):  # which each host cuts at its own quantile
            assert figures(hosts[name]) == pytest.approx(figures(strata))
        assert [pair[0].n for pair in strata] == [pair[0].n for pair in whole[name]]
        assert [pair[0].groups for pair in strata] == [pair[0].groups for pair in whole[name]]
        assert figures(strata) == pytest.approx(figures(whole[name]))  # 14 sessions are in as many buckets
    for opened in stores:
        opened.close()


def figures(strata: Strata) -> list[float]:
    names = ("n", "total", "squares", "crossed", "sizes")
    return [getattr(arm, name) for pair in strata for arm in pair for name in names]


def test_a_request_counts_by_the_table_that_it_was_served_with(tmp_path, store, clock):
    """A host whose clock is behind, and one whose workers got the table late."""
    lines = [record(True, -20, table_revision=4), record(False, -20, table_revision=4)]
    lines += [
        record(False, 30, table_revision=3),
        record(True, 150, table_revision=5),
        record(True, 90, table_revision=6),
    ]
    load(tmp_path, store, clock, lines)
    assert arms.counts(store, arm(True, table=4)).requests == 3
    assert arms.counts(store, arm(False, table=4)).requests == 1
    assert arms.counts(store, arm(True, table=6, since_us=START + 100 * SECOND)).requests == 1
    before = arm(False, since_us=START - 3_600 * SECOND, until_us=START, until_table=4)
    assert arms.counts(store, before).requests == 1
    latency = arms.measure(store, sides_of(store))["latency"]
    assert [pair[0].n for pair in latency] == [2, 1]
