"""OTLP on the wire: both encodings say the same, and garbage is refused for a reason."""

import gzip
import json
import zlib
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList

from pilothouse.domain.errors import BadRequest, TooLarge, UnsupportedMedia
from pilothouse.telemetry import otlp
from pilothouse.telemetry.spans import DecodedSpans

GOOD: dict[str, Any] = {
    "traceId": "0af7651916cd43dd8448eb211c80319c",
    "spanId": "b7ad6b7169203331",
    "name": "chat m",
    "startTimeUnixNano": "1750000000000000000",
    "endTimeUnixNano": 1750000000250000000,
}


def any_value(value: Any) -> AnyValue:
    match value:
        case bool():
            return AnyValue(bool_value=value)
        case int():
            return AnyValue(int_value=value)
        case float():
            return AnyValue(double_value=value)
        case str():
            return AnyValue(string_value=value)
        case bytes():
            return AnyValue(bytes_value=value)
        case list():
            return AnyValue(array_value=ArrayValue(values=[any_value(v) for v in value]))
        case dict():
            return AnyValue(kvlist_value=KeyValueList(values=pairs(value)))
        case _:
            return AnyValue()


def pairs(values: dict[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=k, value=any_value(v)) for k, v in values.items()]


def request(attributes: dict[str, Any]) -> ExportTraceServiceRequest:
    message = ExportTraceServiceRequest()
    group = message.resource_spans.add()
    group.resource.attributes.extend(pairs({"service.name": "docs"}))
    scoped = group.scope_spans.add()
    scoped.scope.name = "tests"
    span = scoped.spans.add()
    span.trace_id, span.span_id, span.parent_span_id = b"\x01" * 16, b"\x02" * 8, b"\x03" * 8
    span.name, span.kind = "chat m", 3
    span.start_time_unix_nano, span.end_time_unix_nano = 1_750_000_000_000_000_000, 1_750_000_000_250_000_000
    span.attributes.extend(pairs(attributes))
    span.status.code, span.status.message = 2, "boom"
    event = span.events.add()
    event.name = "exception"
    event.attributes.extend(pairs({"exception.type": "ValueError"}))
    return message


def as_json(message: ExportTraceServiceRequest) -> bytes:
    """OTLP's own JSON: protobuf's mapping with ids in hex."""
    body = MessageToDict(message, use_integers_for_enums=True)
    for group in body["resourceSpans"]:
        for scoped in group["scopeSpans"]:
            for span in scoped["spans"]:
                span.update(traceId="01" * 16, spanId="02" * 8, parentSpanId="03" * 8)
    return json.dumps(body).encode()


def wrapped(*spans: Any) -> bytes:
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": list(spans)}]}]}).encode()


def from_json(*spans: Any) -> DecodedSpans:
    return otlp.decode(wrapped(*spans), otlp.JSON)


VALUES = st.recursive(
    st.text(max_size=20)
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.booleans()
    | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.text(max_size=10), VALUES, max_size=5))
def test_both_encodings_say_the_same(attributes: dict[str, Any]) -> None:
    message = request(attributes)
    binary = otlp.decode(message.SerializeToString(), otlp.PROTOBUF)
    text = otlp.decode(as_json(message), "application/json; charset=utf-8")
    assert binary == text
    (span,) = binary.spans
    assert span.attributes == attributes
    assert (span.trace_id, span.parent_span_id, span.kind, span.status) == ("01" * 16, "03" * 8, 3, 2)
    assert (span.resource, span.scope) == ({"service.name": "docs"}, "tests")


@pytest.mark.parametrize("kind", ["gzip", "deflate", "identity", None, "GZIP"])
def test_compression_is_undone(kind: str | None) -> None:
    data = request({}).SerializeToString()
    packed = {"gzip": gzip.compress(data, mtime=0), "deflate": zlib.compress(data)}.get((kind or "").lower(), data)
    assert len(otlp.decode(packed, otlp.PROTOBUF, kind).spans) == 1


def test_a_small_body_cannot_fill_the_memory() -> None:
    with pytest.raises(TooLarge, match="unpacks to more than 32 MiB"):
        otlp.decode(gzip.compress(bytes(40 << 20), mtime=0), otlp.PROTOBUF, "gzip")
    with pytest.raises(TooLarge, match="more than 16 MiB"):
        otlp.decode(bytes((16 << 20) + 1), otlp.PROTOBUF)


@pytest.mark.parametrize(
    ("body", "kind", "encoding", "says"),
    [
        (b"\xff\xff garbage", otlp.PROTOBUF, None, "not an OTLP"),
        (b"not gzip", otlp.PROTOBUF, "gzip", "is not gzip"),
        (gzip.compress(b"x" * 1000, mtime=0)[:20], otlp.PROTOBUF, "gzip", "cut"),
        (gzip.compress(b"", mtime=0) + b"tail", otlp.PROTOBUF, "gzip", "followed by something else"),
        (b"{", otlp.JSON, None, "not JSON"),
        (b"[1]", otlp.JSON, None, "not a JSON object"),
        (b'{"resource_spans": []}', otlp.JSON, None, "lowerCamelCase"),
        (b'{"resourceSpans": 5}', otlp.JSON, None, "not a list"),
        (b'{"resourceSpans": [5]}', otlp.JSON, None, "other than objects"),
        (b'{"resourceSpans": [{"scopeSpans": [{"spans": {}}]}]}', otlp.JSON, None, "not a list"),
        (b"[" * 100_000, otlp.JSON, None, "body is n"),
    ],
)
def test_garbage_is_refused_with_the_reason(body: bytes, kind: str, encoding: str | None, says: str) -> None:
    with pytest.raises(BadRequest, match=says):
        otlp.decode(body, kind, encoding)


@pytest.mark.parametrize(("kind", "encoding"), [("text/plain", None), (None, None), (otlp.JSON, "br")])
def test_what_is_not_read_is_415(kind: str | None, encoding: str | None) -> None:
    with pytest.raises(UnsupportedMedia) as caught:
        otlp.decode(b"", kind, encoding)
    assert caught.value.status == 415


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"traceId": "xyz"}, "trace id"),
        ({"traceId": "0" * 32}, "trace id"),
        ({"spanId": ""}, "span id"),
        ({"parentSpanId": "12"}, "parent span id"),
        ({"startTimeUnixNano": "soon"}, "64-bit integer"),
        ({"startTimeUnixNano": "--5"}, "64-bit integer"),
        ({"startTimeUnixNano": None}, "64-bit integer"),
        ({"endTimeUnixNano": 0}, "missing"),
        ({"endTimeUnixNano": "1"}, "ends before"),
        ({"endTimeUnixNano": str(2**64 - 1)}, "out of range"),
        ({"name": 5}, "not a string"),
        ({"attributes": [{"key": "a", "value": {"intValue": "x"}}]}, "64-bit integer"),
        ({"attributes": [{"key": "a", "value": {"odd": 1}}]}, "no known type"),
        ({"attributes": [{"key": "a", "value": {"doubleValue": "1"}}]}, "not a number"),
        ({"attributes": [{"key": "a", "value": {"bytesValue": "*"}}]}, "base64"),
        ({"kind": "ODD"}, "64-bit"),
    ],
)
def test_a_bad_span_is_rejected_alone(bad: dict[str, Any], reason: str) -> None:
    decoded = from_json(GOOD, {**GOOD, **bad}, 7)
    assert len(decoded.spans) == 1
    assert decoded.rejected == 2
    assert reason in decoded.message()
    assert "a span is not an object" in decoded.message()


def test_values_nested_too_deeply_reject_their_span() -> None:
    value: dict[str, Any] = {"stringValue": "x"}
    for _ in range(40):
        value = {"arrayValue": {"values": [value]}}
    decoded = from_json({**GOOD, "attributes": [{"key": "a", "value": value}]}, GOOD)
    assert (len(decoded.spans), decoded.rejected) == (1, 1)


def test_bad_spans_in_protobuf_are_rejected_alone() -> None:
    message = request({})
    spans = message.resource_spans[0].scope_spans[0].spans
    spans.add().CopyFrom(spans[0])
    spans[1].trace_id = b"short"
    decoded = otlp.decode(message.SerializeToString(), otlp.PROTOBUF)
    assert (len(decoded.spans), decoded.rejected) == (1, 1)


def test_names_of_enums_are_understood() -> None:
    (span,) = from_json({**GOOD, "kind": "SPAN_KIND_CLIENT", "status": {"code": "STATUS_CODE_ERROR"}}).spans
    assert (span.kind, span.status) == (3, 2)


@given(st.binary(max_size=200), st.sampled_from([otlp.PROTOBUF, otlp.JSON]), st.sampled_from([None, "gzip", "deflate"]))
def test_no_bytes_break_the_decoder(body: bytes, kind: str, encoding: str | None) -> None:
    try:
        otlp.decode(body, kind, encoding)
    except (BadRequest, TooLarge):
        return


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["resourceSpans", "scopeSpans", "spans", "attributes", "key", "value", "intValue", "events"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(JSONS)
def test_no_json_breaks_the_decoder(value: Any) -> None:
    try:
        otlp.decode(json.dumps(value).encode(), otlp.JSON)
    except BadRequest:
        return


def test_answers_are_in_the_requests_content_type() -> None:
    whole, part = from_json(GOOD), from_json(GOOD, {})
    assert otlp.success(otlp.JSON, whole) == b"{}"
    assert otlp.success(otlp.PROTOBUF, whole) == b""
    assert json.loads(otlp.success(otlp.JSON, part))["partialSuccess"]["rejectedSpans"] == "1"
    answer = ExportTraceServiceResponse.FromString(otlp.success(otlp.PROTOBUF, part))
    assert answer.partial_success.rejected_spans == 1
    assert "trace id" in answer.partial_success.error_message
    assert json.loads(otlp.failure(otlp.JSON, 3, "bad")) == {"code": 3, "message": "bad"}


def test_an_error_in_protobuf_is_a_status_that_others_can_read() -> None:
    status_pb2 = pytest.importorskip("google.rpc.status_pb2")
    for message in ("bad — body", "x" * 300):
        status = status_pb2.Status.FromString(otlp.failure(otlp.PROTOBUF, 3, message))
        assert (status.code, status.message) == (3, message)
