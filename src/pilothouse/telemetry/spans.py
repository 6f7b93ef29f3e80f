"""A span as OTLP describes it, whatever encoding it came in; and the count of those that could not be used."""

from typing import Any

import msgspec

_HEX = frozenset("0123456789abcdef")


class Event(msgspec.Struct):
    """A span event."""

    name: str
    attributes: dict[str, Any]
    time_ns: int = 0  # since 1970; 0 where it is not told


class OtlpSpan(msgspec.Struct, kw_only=True):
    """Ids in lower-case hex, times in ns since 1970, attributes as plain values (str, int, float, bool, list, dict)."""

    trace_id: str
    span_id: str
    parent_span_id: str = ""
    name: str = ""
    kind: int = 0  # 1 internal, 2 server, 3 client, 4 producer, 5 consumer
    start_ns: int
    end_ns: int
    attributes: dict[str, Any] = {}
    events: list[Event] = []
    status: int = 0  # 1 ok, 2 error
    status_message: str = ""
    resource: dict[str, Any] = {}
    scope: str = ""
    dropped: int = 0  # attributes that the exporter itself dropped


class Decoded(msgspec.Struct):
    """What an export request held: how much was rejected, and for which reasons."""

    rejected: int = 0
    reasons: dict[str, int] = {}

    def reject(self, reason: str, count: int = 1) -> None:
        """That many more that cannot be used."""
        if count:
            self.rejected += count
            self.reasons[reason] = self.reasons.get(reason, 0) + count

    def message(self) -> str:
        """The reasons as one sentence, the most frequent first; empty where nothing was rejected."""
        most_first = sorted(self.reasons.items(), key=lambda pair: -pair[1])
        return "; ".join(f"{n} × {reason}" for reason, n in most_first)


class DecodedSpans(Decoded):
    """The usable spans of a request."""

    spans: list[OtlpSpan] = msgspec.field(default_factory=list)


def fault(span: OtlpSpan) -> str:
    """Why a span cannot be used; empty where it can."""
    if not _id(span.trace_id, 32):
        return "the trace id is not 16 bytes other than zero"
    if not _id(span.span_id, 16):
        return "the span id is not 8 bytes other than zero"
    if span.parent_span_id and not _id(span.parent_span_id, 16):
        return "the parent span id is not 8 bytes other than zero"
    if span.start_ns <= 0 or span.end_ns <= 0:
        return "the start or end time is missing"
    if span.end_ns < span.start_ns:
        return "the span ends before it starts"
    if span.end_ns >= 1 << 63:
        return "the end time is out of range"
    return ""


def _id(text: str, length: int) -> bool:
    return len(text) == length and _HEX.issuperset(text) and text.strip("0") != ""
