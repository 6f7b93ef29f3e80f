"""The second scan of stored rows finds what was written past redaction, wherever in a row, and says how sure it is."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from pilothouse.domain.change import Actor
from pilothouse.domain.clock import FrozenClock
from pilothouse.domain.errors import StateError
from pilothouse.domain.record import Payload, Record, Redaction, SpanEvent, SpanRecord
from pilothouse.domain.tasks import Tasks
from pilothouse.server.composition import Control, open_control
from pilothouse.server.datadir import DataDir
from pilothouse.server.evidence import rescan
from pilothouse.server.verbs import drills, reviews
from pilothouse.stats.proportions import wilson
from pilothouse.store.state import changes
from pilothouse.telemetry.journal import Journal

NOW_US = 1_750_000_000_000_000
MAIL = "anna.schmidt@example.org"
KEY = "ghp_A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8"
ANA = Actor(type="person", id="ana")
PYTHON = Path(__file__).parents[2] / ".venv-ner" / "bin" / "python"
ner = pytest.mark.skipif(not PYTHON.exists(), reason="make ner")


@pytest.fixture
async def control(scripted_app: Callable[..., Path], tmp_path: Path) -> AsyncIterator[Control]:
    opened = await open_control(scripted_app(), DataDir(tmp_path / "data"), FrozenClock(NOW_US), Tasks())
    yield opened
    await opened.close()


def span(n: int, **more: object) -> SpanRecord:
    given = {
        "trace_id": "a" * 32, "ts_us": NOW_US - 1_000, "name": "chat", "route": "answer", "env": "prod",
        "attributes": {"server.address": "api", "n": "1"},
    } | more  # fmt: skip
    return SpanRecord(span_id=f"{n:016x}", duration_ms=1.0, redaction=Redaction(status="clean"), **given)  # type: ignore[arg-type]


async def write(control: Control, *spans: SpanRecord) -> None:
    journal = Journal(control.data.journal, f"ingest-{spans[0].span_id}", control.clock)
    for one in spans:
        journal.write(one)
    journal.close()
    await control.load()


@pytest.mark.parametrize(
    "leak",
    [
        {"name": f"mail {MAIL}"},
        {"attributes": {"http.url": f"https://x.io/?to={MAIL}"}},
        {"attributes": {MAIL: "1"}},
        {"events": [SpanEvent(name="exception", attributes={"exception.message": MAIL})]},
        {"error_type": MAIL},
        {"payload": Payload(request=f'[{{"content": "to {MAIL}"}}]')},
        {"payload": Payload(response=f'[{{"content": "to {MAIL}"}}]')},
        {"preview_out": MAIL},
    ],
    ids=lambda leak: next(iter(leak)),
)
async def test_a_leak_is_found_wherever_it_stands(control: Control, leak: dict[str, object]) -> None:
    await write(
        control,
        *(span(n) for n in range(1, 10)),
        span(10, **leak),
        span(11, attributes={"password": "hunter22x", "k": KEY}),
        span(12, route="other", name=MAIL),
    )
    sample = rescan.scan(control, "answer", "prod", ANA)
    assert (sample.rows, sample.leaks, sample.secrets) == (11, 2, 1)
    assert sample.classes["email"] >= 1
    assert (sample.sampled_us, sample.scanner) == (NOW_US, rescan.PATTERNS)
    assert rescan.newest(control, "answer", "prod") == sample
    with control.state.read() as conn:
        (note,) = [one.change for one in changes.find(conn) if one.change.action == "drill.rescan"]
    assert (note.actor, note.route, note.detail["leaks"]) == (ANA, "answer", 2)


async def test_a_providers_timings_are_no_leak(control: Control) -> None:
    """The fraction of a number in JSON is not a national id, whatever its digits."""
    body = '{"choices":[],"timings":{"prompt_ms":148.139,"prompt_per_token_ms":5.108241379310345}}'
    await write(control, span(1, payload=Payload(request="{}", response=body)))
    assert rescan.scan(control, "answer", "prod", ANA).leaks == 0


async def test_what_is_kept_in_full_may_hold_personal_data_in_its_bodies_and_credentials_nowhere(
    control: Control,
) -> None:
    await write(
        control,
        span(1, log_mode="full", payload=Payload(request=f"to {MAIL}", response=f"by {MAIL}")),
        span(2, log_mode="full", payload=Payload(request=f"to {MAIL} with {KEY}")),
        span(3, log_mode="full", preview_in=MAIL),
    )
    sample = rescan.scan(control, "answer", "prod", ANA)
    assert (sample.rows, sample.leaks, sample.secrets) == (3, 2, 1)
    assert sample.classes == {"api_key": 1, "email": 1}


async def test_spans_without_a_route_count_where_their_trace_asks_it(control: Control) -> None:
    journal = Journal(control.data.journal, "edge-0", control.clock)
    of_route = Record(id="r1", ts_us=NOW_US - 5, trace_id="a" * 32, span_id="b" * 16, route="answer", env="prod")
    journal.write(of_route)
    journal.close()
    await write(control, span(1, route="", name=MAIL), span(2, route="", trace_id="b" * 32, name=MAIL))
    sample = rescan.scan(control, "answer", "prod", ANA)
    assert (sample.rows, sample.leaks) == (1, 1)  # the request has no text


async def test_the_review_scans_daily_and_tells_the_share_with_its_interval(control: Control) -> None:
    await write(control, *(span(n) for n in range(1, 40)), span(40, name=MAIL))
    config = control.route("answer")

    def line() -> tuple[str, str, tuple[float, float] | None, str]:
        made = reviews.compute(control, [config], "prod")
        (found,) = [one for one in made.routes[0].findings if one.id == "T2.5"]
        return found.status, found.value, found.interval, found.detail

    assert line()[0] == "NO_DATA"  # no request yet, whatever the spans say
    sample = rescan.newest(control, "answer", "prod")
    assert sample is not None and (sample.rows, sample.leaks) == (40, 1)
    assert isinstance(control.clock, FrozenClock)
    control.clock.advance(3_600)
    await write(control, *(span(n, ts_us=control.clock.now_us()) for n in range(100, 130)))
    line()
    assert rescan.newest(control, "answer", "prod") == sample  # of today, and not outgrown
    await write(control, *(span(n, ts_us=control.clock.now_us()) for n in range(200, 210)))
    line()
    newer = rescan.newest(control, "answer", "prod")
    assert newer is not None and (newer.rows, newer.leaks) == (80, 1)  # twice what it saw
    control.clock.advance(86_400)
    line()
    again = rescan.newest(control, "answer", "prod")
    assert again is not None and again.sampled_us == control.clock.now_us()


async def test_the_verb_scans_now(control: Control) -> None:
    told = await drills.run(control, "rescan", "answer", "prod", ANA)
    assert (told["ok"], told["rows"]) == (False, 0)  # nothing to scan is no evidence
    assert rescan.newest(control, "answer", "prod") is None
    await write(control, *(span(n) for n in range(1, 5)), span(5, name=MAIL))
    told = await drills.run(control, "rescan", "answer", "prod", ANA)
    assert (told["ok"], told["rows"], told["leaks"]) == (False, 5, 1)
    assert (told["low"], told["high"]) == wilson(1, 5)


def test_what_is_not_installed_is_told() -> None:
    if not rescan.installed():
        with pytest.raises(StateError, match="presidio_analyzer"):
            rescan.entities(["x"])
    with pytest.raises(StateError, match="did not end well"):
        rescan.entities(["x"], "/nowhere/python")


@ner
def test_names_are_found_by_presidio_with_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(rescan.__file__).parents[3]))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # whoever asks a network is refused
    texts = ["My name is Anna Schmidt, call me.", "[PERSON:3fa91c] and [EMAIL:aaaaaa] met", "order 4711 is late", ""]
    version, found = rescan.entities(texts, str(PYTHON))
    assert "Presidio" in version and "en_core_web" in version
    assert found == [{"person": 1}, {}, {}, {}]
