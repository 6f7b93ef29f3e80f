"""Every question of the product, asked of both engines over the same rows: the answers are the same."""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from tests.store.telemetry.rows import DAY_US, HOUR_US, NOW_US, differences, loaded, loosely, shape

from pilothouse.domain.clock import FrozenClock
from pilothouse.domain.model_ref import ModelRef
from pilothouse.domain.release import CanaryRun
from pilothouse.domain.wires import MetricQuery
from pilothouse.releases import shown
from pilothouse.releases.shown import Arm, Sides
from pilothouse.server import alternates, arms, asking, drifting, timing
from pilothouse.server.evidence import reconstruct, security
from pilothouse.server.verbs import canaries
from pilothouse.server.verbs.releases import last_served
from pilothouse.server.views import overview, traces
from pilothouse.store.telemetry import TelemetryStore
from pilothouse.telemetry import (
    callers,
    evidence,
    exposition,
    flag_uses,
    listing,
    lookup,
    novelty,
    read,
    samples,
    sessions,
    steps,
    waterfall,
)
from pilothouse.telemetry.catalogue import CATALOGUE
from pilothouse.telemetry.filter import parse
from pilothouse.telemetry.loader import Loader
from pilothouse.telemetry.metrics import make_metrics

FILTERS = (
    "", "route:docs", "-route:docs", "outcome:failed", "latency>100ms", "cost>0.05", "model:m1", "model:gpt*",
    "tool:tool1", "has:documents", "has:error", "has:retry", "has:guard", "has:score", "label.team:t1", "tokens>60",
    "session:s1", "user:u1,u2", "question", "100", "release:3", "canary:true", "ttft<20ms", "source:otlp", "env:dev",
    "label.db:x", "label.team:t*", "label.team:*", "question*", '"question 4"', "provider:*", "model:*1", "name:a*nt",
    "r0004", "has:tool", "has:fallback", "has:stream", "-has:gateway", "status:500", "attempts>1", "id:r0007",
    "error:time*,b*m", "id:r00*", "id:r0007*", "session:*1", '"question 1"', "-question",
)  # fmt: skip


def _window(**more: Any) -> dict[str, Any]:
    return {"since_us": NOW_US - 9 * DAY_US, "until_us": NOW_US + 1, **more}


def _filters(store: TelemetryStore) -> Any:
    return {text: listing.find(store, listing.Asked(query=parse(text), **_window(limit=20))) for text in FILTERS}


def _pages(store: TelemetryStore) -> Any:
    first = listing.find(store, listing.Asked(limit=30))
    return [first, listing.find(store, listing.Asked(limit=30, before=first.next))]


def _metrics(store: TelemetryStore) -> Any:
    ask = make_metrics(store, FrozenClock(NOW_US))
    return {
        (name, span, by): ask(MetricQuery(metric=name, since_us=NOW_US - span, by=by, bucket_s=bucket))
        for name in CATALOGUE
        for span, by, bucket in ((5 * HOUR_US, (), 0), (9 * DAY_US, ("route", "model"), 0), (9 * DAY_US, (), 86_400))
    }


def _rounded(strata: Any) -> Any:
    """Sums of floats, in whichever order an engine adds them."""
    return {
        name: [[f"{number:.9g}" for arm in pair for number in msgspec.structs.astuple(arm)] for pair in pairs]
        for name, pairs in strata.items()
    }


def _server(store: TelemetryStore) -> Any:
    """What the server itself asks."""
    control: Any = SimpleNamespace(telemetry=store)
    since, until = NOW_US - 9 * DAY_US, NOW_US + 1
    arm = Arm(route="docs", env="prod", release=3, canary=False, since_us=since, run=1, slo_ms=500.0)
    run = CanaryRun(
        id=1, route="docs", env="prod", release=4, baseline=3, state="running", started_us=since, stepped_us=since
    )
    sides = Sides(run=run, steps=((since, 0), (NOW_US - HOUR_US, 0)), scores=("x",), slo_ms=500.0)
    return [
        arms.counts(store, arm),
        arms.last(store, msgspec.structs.replace(arm, canary=True)),
        _rounded(arms.measure(store, sides)),
        _rounded(shown.strata([arms.parts(store, sides)])),
        store.rows(asking._INPUTS, ["docs", "prod", 3, since]),
        store.rows(canaries._SEEN, ["chat", "prod", 4, since, until]),
        store.rows(security.USED, [since]),
        read.in_full_between(store, since, until),
        read.in_full(store, ["r0001", f"{5_000:032x}/b{0:015x}"]),
        overview._priced(control, since, until, "prod"),
        reconstruct._first_models(control, ["r0000", "r0004", "no"]),
        [traces.cursor(store, before) for before in ("r0007", "no")],
    ]


def _releases(store: TelemetryStore) -> Any:
    """What plans, reverts, alternates and the watch on providers ask."""
    since = NOW_US - 9 * DAY_US
    seen = store.rows(drifting._SEEN, [since])
    found = callers.callers(store, "docs", "prod", since)
    return [
        [getattr(found, name) for name in ("total", "sample", "called", "variables", "fields", "own_tools", "objects")],
        sorted(row["id"] for row, _, _ in callers.recorded(store, "docs", "prod", since, 1_000)),
        sorted(map(str, seen)),
        store.rows(alternates._QUOTA, ["openai", "gpt-5-mini", since]),
        [float(value) for (value,) in store.rows(alternates._PEAK, ["docs", "prod", since])],
        store.rows(timing._LAST, ["docs", "prod", 3, since]),
        last_served(SimpleNamespace(telemetry=store), ModelRef("openai", "gpt-5-mini")),
    ]


def _of_a_route(store: TelemetryStore) -> Any:
    """Asked alone a route has the same facts as among all."""
    window = (store, FrozenClock(NOW_US), NOW_US - 3 * DAY_US, NOW_US + 1)
    together = evidence.gather(*window).routes
    alone = [one for name in sorted({one.route for one in together}) for one in evidence.gather(*window, name).routes]
    assert len({one.route for one in together}) > 1
    assert list(differences(loosely(shape(alone)), loosely(shape(together)))) == []
    return alone


QUESTIONS: dict[str, Callable[[TelemetryStore], Any]] = {
    "filters": _filters,
    "pages": _pages,
    "fresh": lambda s: listing.fresh(s, [parse("route:docs"), parse("")], NOW_US - DAY_US),
    "values": lambda s: [
        listing.values(s, listing.Asked(), field, "") for field in ("route", "model", "tool", "user", "release", "name")
    ],
    "request": lambda s: [read.request(s, f"r{n:04}") for n in (0, 3, 4, 9)],
    "trace": lambda s: [read.trace(s, f"{n:032x}") for n in (0, 3, 5_000, 5_005)],
    "span": lambda s: [steps.span(s, f"{n:032x}", f"b{n - 5_000:015x}") for n in (5_000, 5_005)],
    "payload": lambda s: [read.payload(s, "r0003"), read.payload(s, f"{5_000:032x}/b{0:015x}"), read.payload(s, "no")],
    "whens": lambda s: [lookup.when(s, ident) for ident in ("r0003", f"{3:032x}", f"{5_005:032x}", "no")],
    "traffic": lambda s: read.traffic(s, NOW_US - 9 * DAY_US, NOW_US, 3600),
    "people": lambda s: [sessions.people(s, by, 0) for by in ("session", "user")],
    "turns": lambda s: sessions.turns(s, "s1"),
    "evidence": lambda s: msgspec.structs.replace(
        evidence.gather(s, FrozenClock(NOW_US), NOW_US - 3 * DAY_US, NOW_US + 1), took_ms=0.0
    ),
    "evidence of a route": _of_a_route,
    "metrics": _metrics,
    "flags": lambda s: [
        flag_uses.uses(s, NOW_US - DAY_US),
        flag_uses.uses(s, NOW_US - DAY_US, "prod", "f1"),
        flag_uses.over_time(s, "f0", "prod", NOW_US - DAY_US, 7_200),
    ],
    "novelty": lambda s: [
        novelty.of_route(s, route, env, since, signed)
        for since in (NOW_US - 9 * DAY_US, NOW_US - HOUR_US, NOW_US)
        for route, env in (("docs", "prod"), ("chat", "prod"), ("", "dev"))
        for signed in (0, NOW_US - 3 * HOUR_US)
    ],
    "server": _server,
    "releases": _releases,
    "waterfall": lambda s: [waterfall.spans(s, f"{n:032x}") for n in (0, 9, 5_000)],
    "exposition": lambda s: exposition.exposition(
        s, make_metrics(s, FrozenClock(NOW_US)), FrozenClock(NOW_US), NOW_US - DAY_US
    ),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_both_answer_alike(both: tuple[TelemetryStore, TelemetryStore], question: str) -> None:
    duck, house = (loosely(shape(QUESTIONS[question](store))) for store in both)
    assert list(differences(house, duck)) == []


def test_what_is_drawn_differs_and_what_it_is_drawn_from_does_not(both: tuple[TelemetryStore, TelemetryStore]) -> None:
    """Engines hash differently; a draw of all there is is the same."""
    requests = [samples.sample_requests(store, "docs", "prod", 1_000) for store in both]
    texts = [samples.stored_texts(store, "docs", "prod", 10_000) for store in both]
    assert len({samples.stored(store, "docs", "prod") for store in both}) == 1
    for duck, house in (requests, texts):
        assert duck and loosely(shape(house)) == loosely(shape(duck))


def totals(store: TelemetryStore) -> dict[str, Any]:
    tables = ("requests", "attempts", "spans", "span_events", "app_metrics", "scores", "losses", "payloads")
    found = {table: store.rows(f"SELECT count(*) FROM {table}")[0][0] for table in tables}
    return found | {"rollups": int(store.rows("SELECT sum(requests) FROM rollup_minute")[0][0])}


def test_a_journal_is_loaded_once(opens: Callable[[], TelemetryStore], tmp_path: Path) -> None:
    store = loaded(opens(), tmp_path / "journal")
    before = totals(store)
    assert before["requests"] == before["rollups"] == before["payloads"] - 24 == 120
    assert Loader(tmp_path / "journal", store, FrozenClock(NOW_US + 2)).load_once().lines == 0
    store.close()
    again = opens()
    assert Loader(tmp_path / "journal", again, FrozenClock(NOW_US + 3)).load_once().lines == 0
    assert totals(again) == before
    again.close()


def test_a_load_that_fails_leaves_nothing_behind(store: TelemetryStore, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), store.transaction() as write:
        write.execute("INSERT INTO losses VALUES (make_timestamp(1), 'w', 'span', 1, 'x')")
        raise RuntimeError
    assert totals_of_losses(store) == 0
    loaded(store, tmp_path / "journal")
    assert totals_of_losses(store) == 1


def totals_of_losses(store: TelemetryStore) -> int:
    return int(store.rows("SELECT count(*) FROM losses")[0][0])


def test_a_write_that_was_cut_off_is_sent_at_the_next_start_and_twice_is_once(
    clickhouse: Callable[[], TelemetryStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = clickhouse()
    monkeypatch.setattr(Path, "unlink", lambda *_a, **_k: None)  # what is sent stays: as if killed before it could go
    monkeypatch.setattr(Path, "rmdir", lambda *_a: None)
    loaded(store, tmp_path / "journal")
    before = totals(store)
    monkeypatch.undo()
    waiting = list((tmp_path / "spool").glob("*.write"))
    assert len(waiting) == 1
    kept = shutil.copytree(waiting[0], tmp_path / "kept")
    store.close()
    assert not list((tmp_path / "spool").glob("*.write"))
    (tmp_path / "spool" / "0.part").mkdir()
    shutil.copytree(kept, waiting[0])
    again = clickhouse()
    assert totals(again) == before
    assert not list((tmp_path / "spool").iterdir())
    again.close()
