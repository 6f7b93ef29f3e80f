"""OTLP's traces, logs and metrics on the wire: protobuf or JSON in, plain values out, and the answers it wants.

A body that cannot be read at all is an error (400, 413, 415). What of it cannot be used is left out and counted, and
the exporter hears how many and why (`partial_success`).
"""

from typing import Any

from pilothouse.telemetry import otlp_json
from pilothouse.telemetry.otlp_body import (
    JSON,
    MAX_BODY,
    MAX_DECODED,
    PROTOBUF,
    decompress,
    failure,
    media_type,
)
from pilothouse.telemetry.otlp_groups import TRACES, Signal, attributes, groups
from pilothouse.telemetry.otlp_groups import success as _success
from pilothouse.telemetry.spans import Decoded, DecodedSpans, Event, OtlpSpan, fault

__all__ = [
    "JSON", "MAX_BODY", "MAX_DECODED", "PROTOBUF", "decode", "decompress", "failure", "media_type", "spans",
    "success",
]  # fmt: skip


def decode(body: bytes, content_type: str | None, encoding: str | None = None) -> DecodedSpans:
    """The spans of an export request. Raises `BadRequest`, `TooLarge`, `UnsupportedMedia`."""
    kind = media_type(content_type)
    return spans(decompress(body, encoding), kind)


def spans(data: bytes, kind: str) -> DecodedSpans:
    """The spans of an export request that is not compressed. Raises `BadRequest`."""
    if kind == JSON:
        return otlp_json.decode(data)
    decoded = DecodedSpans()
    found = decoded.spans
    for resource, scope, records, unreadable in groups(TRACES, data, kind):
        for reason, count in unreadable.items():
            decoded.reject(reason, count)
        for raw in records:
            span = _span(raw, resource, scope)
            reason = fault(span)
            if reason:
                decoded.reject(reason)
            else:
                found.append(span)
    return decoded


def _span(raw: Any, resource: dict[str, Any], scope: str) -> OtlpSpan:
    return OtlpSpan(
        trace_id=raw.trace_id.hex(),
        span_id=raw.span_id.hex(),
        parent_span_id=raw.parent_span_id.hex(),
        name=raw.name,
        kind=raw.kind,
        start_ns=raw.start_time_unix_nano,
        end_ns=raw.end_time_unix_nano,
        attributes=attributes(raw.attributes),
        events=[Event(name=e.name, attributes=attributes(e.attributes), time_ns=e.time_unix_nano) for e in raw.events],
        status=raw.status.code,
        status_message=raw.status.message,
        resource=resource,
        scope=scope,
        dropped=raw.dropped_attributes_count,
    )


def success(kind: str, decoded: Decoded, signal: Signal = TRACES) -> bytes:
    """The body of a 200 in the request's content type; with what was rejected where there is any."""
    return _success(signal, kind, decoded.rejected, decoded.message())
