"""OTLP in JSON: protobuf's JSON mapping, with ids in hex, 64-bit integers as strings or numbers, enums as numbers."""

import base64
import binascii
from collections.abc import Callable
from typing import Any

from pilothouse.domain.errors import BadRequest
from pilothouse.telemetry.otlp_groups import json_request
from pilothouse.telemetry.spans import DecodedSpans, Event, OtlpSpan, fault

_DEPTH = 32  # of nested values; deeper ones are not attributes but an attack
_KINDS = ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
_STATUSES = ("UNSET", "OK", "ERROR")


class _Unusable(ValueError):
    """One span cannot be used; the text is the reason."""


def decode(data: bytes) -> DecodedSpans:
    """The spans of an ExportTraceServiceRequest in JSON. Raises `BadRequest` where it is none at all."""
    request = json_request(data, "resourceSpans")
    decoded = DecodedSpans()
    try:
        for group in _objects(request, "resourceSpans"):
            resource = _attributes(_object(group, "resource"))
            for scoped in _objects(group, "scopeSpans"):
                scope = _string(_object(scoped, "scope"), "name")
                for raw in _list(scoped, "spans"):
                    _take(raw, resource, scope, decoded)
    except _Unusable as failure:
        raise BadRequest(f"the body is not an OTLP request: {failure}", where="body") from None
    return decoded


def _take(raw: Any, resource: dict[str, Any], scope: str, decoded: DecodedSpans) -> None:
    """Add one span, or the reason why not."""
    try:
        span = _span(raw, resource, scope)
        reason = fault(span)
    except _Unusable as failure:
        reason = str(failure)
    if reason:
        decoded.reject(reason)
    else:
        decoded.spans.append(span)


def _span(raw: Any, resource: dict[str, Any], scope: str) -> OtlpSpan:
    if not isinstance(raw, dict):
        raise _Unusable("a span is not an object")
    status = _object(raw, "status")
    return OtlpSpan(
        trace_id=_string(raw, "traceId").lower(),
        span_id=_string(raw, "spanId").lower(),
        parent_span_id=_string(raw, "parentSpanId").lower(),
        name=_string(raw, "name"),
        kind=_enum(raw.get("kind", 0), "SPAN_KIND_", _KINDS),
        start_ns=_int(raw.get("startTimeUnixNano", 0), "startTimeUnixNano"),
        end_ns=_int(raw.get("endTimeUnixNano", 0), "endTimeUnixNano"),
        attributes=_attributes(raw),
        events=[
            Event(
                name=_string(e, "name"),
                attributes=_attributes(e),
                time_ns=_int(e.get("timeUnixNano", 0), "timeUnixNano"),
            )
            for e in _objects(raw, "events")
        ],
        status=_enum(status.get("code", 0), "STATUS_CODE_", _STATUSES),
        status_message=_string(status, "message"),
        resource=resource,
        scope=scope,
        dropped=_int(raw.get("droppedAttributesCount", 0), "droppedAttributesCount"),
    )


def _list(holder: dict[str, Any], name: str) -> list[Any]:
    value = holder.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise _Unusable(f"“{name}” is not a list")
    return value


def _objects(holder: dict[str, Any], name: str) -> list[dict[str, Any]]:
    values = _list(holder, name)
    if not all(isinstance(v, dict) for v in values):
        raise _Unusable(f"“{name}” holds something other than objects")
    return values


def _object(holder: dict[str, Any], name: str) -> dict[str, Any]:
    value = holder.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _Unusable(f"“{name}” is not an object")
    return value


def _string(holder: dict[str, Any], name: str) -> str:
    value = holder.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _Unusable(f"“{name}” is not a string")
    return value


def _int(value: Any, name: str) -> int:
    if isinstance(value, str) and value.removeprefix("-").isdecimal() and len(value) <= 20:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not -(1 << 63) <= value < 1 << 64:
        raise _Unusable(f"“{name}” is not a 64-bit integer")
    return value


def _enum(value: Any, prefix: str, names: tuple[str, ...]) -> int:
    """An enum by number, or by the name that some exporters send against the specification."""
    if isinstance(value, str) and value.removeprefix(prefix) in names:
        return names.index(value.removeprefix(prefix))
    return _int(value, prefix.rstrip("_").lower())


def _attributes(holder: dict[str, Any]) -> dict[str, Any]:
    return _pairs(_objects(holder, "attributes"), 0)


def _pairs(pairs: list[dict[str, Any]], depth: int) -> dict[str, Any]:
    return {_string(pair, "key"): _value(_object(pair, "value"), depth + 1) for pair in pairs}


def _value(value: dict[str, Any], depth: int) -> Any:
    if depth > _DEPTH:
        raise _Unusable(f"an attribute is nested more than {_DEPTH} deep")
    if not value:
        return None  # OTLP allows a value of no type
    (name, inner), *more = value.items()
    read = _READERS.get(name)
    if read is None or more:
        raise _Unusable("an attribute's value is of no known type")
    return read(inner, depth)


def _text(value: Any, _depth: int) -> str:
    return _string({"stringValue": value}, "stringValue")


def _bool(value: Any, _depth: int) -> bool:
    if not isinstance(value, bool):
        raise _Unusable("“boolValue” is not true or false")
    return value


def _double(value: Any, _depth: int) -> float:
    """A number, or protobuf's words for those that JSON does not have."""
    if isinstance(value, str) and value in ("NaN", "Infinity", "-Infinity"):
        return float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _Unusable("“doubleValue” is not a number")
    try:
        return float(value)
    except OverflowError:
        raise _Unusable("“doubleValue” is out of range") from None


def _bytes(value: Any, _depth: int) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise _Unusable("“bytesValue” is not base64") from None


_READERS: dict[str, Callable[[Any, int], Any]] = {
    "stringValue": _text,
    "boolValue": _bool,
    "intValue": lambda value, _: _int(value, "intValue"),
    "doubleValue": _double,
    "bytesValue": _bytes,
    "arrayValue": lambda value, depth: [
        _value(v, depth + 1) for v in _objects(_object({"value": value}, "value"), "values")
    ],
    "kvlistValue": lambda value, depth: _pairs(_objects(_object({"value": value}, "value"), "values"), depth),
}
