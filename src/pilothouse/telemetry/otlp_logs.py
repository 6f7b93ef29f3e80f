"""OTLP log records of the GenAI conventions: messages, choices, exceptions and evaluation results.

Every other log record is rejected with the reason: logs are not what this is a store for.
"""

from typing import Any

import msgspec

from pilothouse.telemetry.otlp_groups import LOGS, attributes, groups, plain
from pilothouse.telemetry.spans import Decoded

PREFIX = "gen_ai."
NOT_GENAI = "it is no event of the GenAI conventions (gen_ai.…)"
NO_TRACE = "it belongs to no trace"
_NAME = "event.name"  # the attribute that named an event before log records had a field for it


class OtlpEvent(msgspec.Struct, kw_only=True):
    """A log record with an event's name. Ids in lower-case hex; `time_ns` 0 where the exporter tells none."""

    name: str
    time_ns: int
    trace_id: str
    span_id: str = ""
    body: Any = None
    attributes: dict[str, Any] = {}
    resource: dict[str, Any] = {}


class DecodedEvents(Decoded):
    """The usable events of a request."""

    events: list[OtlpEvent] = msgspec.field(default_factory=list)


def decode(data: bytes, kind: str) -> DecodedEvents:
    """The events of an export request, not compressed, in protobuf or JSON. Raises `BadRequest`."""
    decoded = DecodedEvents()
    for resource, _, records, unreadable in groups(LOGS, data, kind):
        for reason, count in unreadable.items():
            decoded.reject(reason, count)
        for raw in records:
            name = raw.event_name or _named(raw.attributes)
            if not name.startswith(PREFIX):
                decoded.reject(NOT_GENAI)
            elif len(raw.trace_id) != 16 or not any(raw.trace_id):
                decoded.reject(NO_TRACE)
            else:
                decoded.events.append(_event(raw, name, resource))
    return decoded


def _named(pairs: Any) -> str:
    return next((pair.value.string_value for pair in pairs if pair.key == _NAME), "")


def _event(raw: Any, name: str, resource: dict[str, Any]) -> OtlpEvent:
    kept = attributes(raw.attributes)
    kept.pop(_NAME, None)
    return OtlpEvent(
        name=name,
        time_ns=raw.time_unix_nano or raw.observed_time_unix_nano,
        trace_id=raw.trace_id.hex(),
        span_id=raw.span_id.hex() if len(raw.span_id) == 8 and any(raw.span_id) else "",
        body=plain(raw.body),
        attributes=kept,
        resource=resource,
    )
