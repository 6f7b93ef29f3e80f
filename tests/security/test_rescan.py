"""The second scan of stored rows finds what was written past redaction, wherever in a row; pseudonyms join."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from pilothouse.domain.clock import FrozenClock
from pilothouse.domain.record import Payload, Redaction, SpanEvent, SpanRecord
from pilothouse.domain.tasks import Tasks
from pilothouse.security.redact import Redactor
from pilothouse.server.composition import Control, open_control
from pilothouse.server.datadir import DataDir
from pilothouse.server.evidence import security
from pilothouse.telemetry.journal import Journal
from pilothouse.telemetry.normalise import Normaliser
from pilothouse.telemetry.spans import OtlpSpan

NOW_US = 1_750_000_000_000_000
MAIL = "anna.schmidt@example.org"
KEY = "ghp_A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8"


@pytest.fixture
async def control(scripted_app: Callable[..., Path], tmp_path: Path) -> AsyncIterator[Control]:
    opened = await open_control(scripted_app(), DataDir(tmp_path / "data"), FrozenClock(NOW_US), Tasks())
    yield opened
    await opened.close()


def span(n: int, **more: object) -> SpanRecord:
    clean = Redaction(status="clean")
    return SpanRecord(
        trace_id="a" * 32, span_id=f"{n:016x}", ts_us=NOW_US - 1_000, duration_ms=1.0, redaction=clean,
        **{"name": "chat", "attributes": {"server.address": "api", "n": "1"}, **more},
    )  # type: ignore[arg-type]  # fmt: skip


@pytest.mark.parametrize(
    "leak",
    [
        {"name": f"mail {MAIL}"},
        {"attributes": {"http.url": f"https://x.io/?to={MAIL}"}},
        {"attributes": {MAIL: "1"}},
        {"events": [SpanEvent(name="exception", attributes={"exception.message": MAIL})]},
        {"error_type": MAIL},
        {"payload": Payload(request=f'[{{"content": "to {MAIL}"}}]')},
        {"preview_out": MAIL},
    ],
    ids=lambda leak: next(iter(leak)),
)
async def test_a_leak_is_found_wherever_it_stands(control: Control, leak: dict[str, object]) -> None:
    journal = Journal(control.data.journal, "ingest-0", control.clock)
    for n in range(1, 10):
        journal.write(span(n))
    journal.write(span(10, **leak))
    journal.write(span(11, attributes={"password": "hunter22x", "k": KEY}))
    journal.close()
    await control.load()
    (sample,) = security.leaks(control, 0).values()
    assert (sample.rows, sample.leaks, sample.secrets) == (11, 2, 1)
    assert sample.classes["email"] >= 1
    assert sample.sampled_us == NOW_US


def test_one_person_has_one_pseudonym_in_requests_and_spans_and_another_elsewhere() -> None:
    here, elsewhere = Redactor(b"one installation"), Redactor(b"another")
    name = here(MAIL).text
    assert name != MAIL
    assert name in here.redact_json(f'{{"messages": [{{"content": "I am {MAIL.upper()}"}}]}}').text
    normaliser = Normaliser(redact=here, redact_json=here.redact_json, pseudonym=lambda value: value)
    told = OtlpSpan(trace_id="a" * 32, span_id="b" * 16, start_ns=1, end_ns=2, attributes={"to": MAIL})
    made = normaliser.span(told)
    assert made.attributes["to"] == name
    assert elsewhere(MAIL).text != name
