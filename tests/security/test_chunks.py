"""A streamed answer whose pieces a span tells one by one leaves no piece of a secret, wherever it was cut."""

import json

import msgspec
import pytest

from pilothouse.security.redact import Redactor
from pilothouse.telemetry.dialects.index import CHUNKS
from pilothouse.telemetry.normalise import Normaliser
from pilothouse.telemetry.spans import Event, OtlpSpan

REDACT = Redactor(b"chunks")
NORMALISER = Normaliser(redact=REDACT, redact_json=REDACT.redact_json, pseudonym=lambda value: value)
SECRETS = (
    "anna.schmidt@example.org",
    "ghp_A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8",
    "4111 1111 1111 1111",
    "DE89370400440532013000",
)


def stored(pieces: list[str], name: str, key: str) -> str:
    """Everything that is kept of a span with these pieces as events, put together."""
    events = [Event(name=name, attributes={key: piece}, time_ns=2 + n) for n, piece in enumerate(pieces)]
    said = json.dumps([{"content": "".join(pieces)}])
    told = OtlpSpan(
        trace_id="a" * 32, span_id="b" * 16, start_ns=1, end_ns=99, events=events,
        attributes={"gen_ai.operation.name": "chat", "gen_ai.output.messages": said},
    )  # fmt: skip
    record = NORMALISER.span(told)
    texts = [value for event in record.events for value in event.attributes.values()]
    return "".join(texts) + msgspec.json.encode(record).decode()


@pytest.mark.parametrize("name", sorted(CHUNKS))
@pytest.mark.parametrize("secret", SECRETS)
def test_no_cut_of_a_streams_pieces_keeps_a_secret(name: str, secret: str) -> None:
    for cut in range(1, len(secret)):
        kept = stored(["It is ", secret[:cut], secret[cut:], " ok"], name, "content")
        assert secret not in kept
        longer = max(secret[:cut], secret[cut:], key=len)
        assert len(longer) < 12 or longer not in kept  # half of a key is worth something too
    for size in (1, 3, 7):
        kept = stored([secret[i : i + size] for i in range(0, len(secret), size)], name, "content")
        assert secret not in kept
