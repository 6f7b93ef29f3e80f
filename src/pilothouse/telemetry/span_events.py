"""The events of a span that stay events: exceptions first, bounded in number; messages are content instead."""

from itertools import islice

from pilothouse.domain.record import SpanEvent
from pilothouse.telemetry.content import is_content_event, is_content_key
from pilothouse.telemetry.dialects.index import IDENTITY
from pilothouse.telemetry.spans import OtlpSpan
from pilothouse.telemetry.text import as_text

MAX_EVENTS = 32
MAX_ATTRIBUTES = 32  # of an event
_LONGEST_NAME = 2_000


def span_events(span: OtlpSpan) -> tuple[list[SpanEvent], int]:
    """The events in order, and how many were left out. Their words are as they came: not redacted."""
    told = [event for event in span.events if not is_content_event(event.name)]
    left_out = max(0, len(told) - MAX_EVENTS)
    if left_out:
        chosen = sorted(range(len(told)), key=lambda n: told[n].name != "exception")[:MAX_EVENTS]
        told = [told[n] for n in sorted(chosen)]
    return [
        SpanEvent(
            name=event.name[:_LONGEST_NAME],
            offset_ms=max(0.0, (event.time_ns - span.start_ns) / 1e6) if event.time_ns > 0 else 0.0,
            attributes={
                key: as_text(value)
                for key, value in islice(event.attributes.items(), MAX_ATTRIBUTES)
                if key not in IDENTITY and not is_content_key(key)
            },
        )
        for event in told
    ], left_out


def exception(span: OtlpSpan, part: str) -> str:
    """`type` or `message` of the last exception that has it; empty where none has."""
    for event in reversed(span.events):
        if event.name == "exception" and (found := as_text(event.attributes.get(f"exception.{part}"))):
            return found
    return ""
