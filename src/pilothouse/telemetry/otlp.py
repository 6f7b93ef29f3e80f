"""OTLP/HTTP traces on the wire: protobuf or JSON in, spans as plain values out, and the answers the protocol wants.

A body that cannot be read at all is an error (400, 413, 415). A span that cannot be used is left out and counted, and
the exporter hears how many and why (`partial_success`).
"""

import zlib
from typing import Any

import msgspec
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from pilothouse.domain.errors import BadRequest, TooLarge, UnsupportedMedia
from pilothouse.telemetry import otlp_json
from pilothouse.telemetry.spans import DecodedSpans, Event, OtlpSpan, Rejections, fault

PROTOBUF = "application/x-protobuf"
JSON = "application/json"
MAX_BODY = 16 << 20  # bytes as received
MAX_DECODED = 32 << 20  # bytes after decompression
_WINDOW = {"gzip": 31, "deflate": 15}  # zlib's word for each format


def media_type(content_type: str | None) -> str:
    """`application/x-protobuf` or `application/json`; raises `UnsupportedMedia`."""
    kind = (content_type or "").partition(";")[0].strip().lower()
    if kind in (PROTOBUF, JSON):
        return kind
    raise UnsupportedMedia(
        f"OTLP cannot be read from content type “{kind[:80]}”", where="content-type", hint=f"send {PROTOBUF} or {JSON}"
    )


def decompress(body: bytes, encoding: str | None) -> bytes:
    """The body as it was before compression. Raises `TooLarge`, `UnsupportedMedia`, `BadRequest`.

    Stops at the limit, so that a small body cannot fill the memory.
    """
    if len(body) > MAX_BODY:
        raise TooLarge(f"the body has more than {MAX_BODY >> 20} MiB", hint="export smaller batches")
    kind = (encoding or "identity").strip().lower()
    if kind == "identity":
        return body
    if kind not in _WINDOW:
        raise UnsupportedMedia(
            f"the content encoding “{kind[:40]}” is not read", where="content-encoding", hint="use gzip or none"
        )
    inflate = zlib.decompressobj(_WINDOW[kind])
    try:
        data = inflate.decompress(body, MAX_DECODED + 1)
    except zlib.error:
        raise BadRequest(
            f"the body is not {kind}", where="content-encoding", hint="compress it, or say identity"
        ) from None
    if len(data) > MAX_DECODED:
        raise TooLarge(f"the body unpacks to more than {MAX_DECODED >> 20} MiB", hint="export smaller batches")
    if not inflate.eof or inflate.unused_data:
        raise BadRequest(f"the {kind} body is cut or followed by something else", where="body")
    return data


def decode(body: bytes, content_type: str | None, encoding: str | None = None) -> DecodedSpans:
    """The spans of an export request. Raises `BadRequest`, `TooLarge`, `UnsupportedMedia`."""
    kind = media_type(content_type)
    data = decompress(body, encoding)
    return _from_protobuf(data) if kind == PROTOBUF else otlp_json.decode(data)


def _from_protobuf(data: bytes) -> DecodedSpans:
    request = ExportTraceServiceRequest()
    try:
        request.ParseFromString(data)
    except (DecodeError, UnicodeDecodeError):
        raise BadRequest(
            "the body is not an OTLP ExportTraceServiceRequest in protobuf", where="body", hint=f"or say {JSON}"
        ) from None
    spans: list[OtlpSpan] = []
    rejections = Rejections()
    for group in request.resource_spans:
        resource = _attributes(group.resource.attributes)
        for scoped in group.scope_spans:
            for raw in scoped.spans:
                span = _span(raw, resource, scoped.scope.name)
                reason = fault(span)
                if reason:
                    rejections.add(reason)
                else:
                    spans.append(span)
    return rejections.with_spans(spans)


def _span(raw: Any, resource: dict[str, Any], scope: str) -> OtlpSpan:
    return OtlpSpan(
        trace_id=raw.trace_id.hex(),
        span_id=raw.span_id.hex(),
        parent_span_id=raw.parent_span_id.hex(),
        name=raw.name,
        kind=raw.kind,
        start_ns=raw.start_time_unix_nano,
        end_ns=raw.end_time_unix_nano,
        attributes=_attributes(raw.attributes),
        events=[Event(name=e.name, attributes=_attributes(e.attributes)) for e in raw.events],
        status=raw.status.code,
        status_message=raw.status.message,
        resource=resource,
        scope=scope,
        dropped=raw.dropped_attributes_count,
    )


def _attributes(pairs: "Any | list[KeyValue]") -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:
    match value.WhichOneof("value"):
        case "string_value":
            return value.string_value
        case "int_value":
            return value.int_value
        case "double_value":
            return value.double_value
        case "bool_value":
            return value.bool_value
        case "array_value":
            return [_value(v) for v in value.array_value.values]
        case "kvlist_value":
            return _attributes(value.kvlist_value.values)
        case "bytes_value":
            return value.bytes_value
        case _:
            return None


def success(kind: str, decoded: DecodedSpans) -> bytes:
    """The body of a 200 in the request's content type; with the rejected spans where there are any."""
    message = decoded.message()
    if kind == JSON:
        partial = {"rejectedSpans": str(decoded.rejected), "errorMessage": message}
        return msgspec.json.encode({"partialSuccess": partial} if decoded.rejected else {})
    response = ExportTraceServiceResponse()
    if decoded.rejected:
        response.partial_success.rejected_spans = decoded.rejected
        response.partial_success.error_message = message
    encoded: bytes = response.SerializeToString()
    return encoded


def failure(kind: str, code: int, message: str) -> bytes:
    """The body of an error: a google.rpc.Status with gRPC's `code`, in the request's content type."""
    if kind == JSON:
        return msgspec.json.encode({"code": code, "message": message})
    text = message.encode("utf-8", "replace")
    return b"\x08" + bytes([code]) + b"\x12" + _varint(len(text)) + text  # fields 1 and 2 of the message


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
