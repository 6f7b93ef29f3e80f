"""OTLP logs and metrics on the wire: both encodings say the same, and what cannot be used is left out alone."""

import base64
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from backports import zstd
from google.protobuf.json_format import MessageToDict
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from pilothouse.domain.errors import BadRequest, TooLarge
from pilothouse.telemetry import otlp, otlp_logs, otlp_metrics
from pilothouse.telemetry.otlp_groups import METRICS, NOT_UTF8

TRACE, SPAN_ID = bytes(range(16)), bytes(range(1, 9))


def logs() -> ExportLogsServiceRequest:
    """An event by its field, one by its older attribute, and a plain log record."""
    message = ExportLogsServiceRequest()
    group = message.resource_logs.add()
    group.resource.attributes.append(KeyValue(key="service.name", value=AnyValue(string_value="docs")))
    records = group.scope_logs.add().log_records
    records.add(
        event_name="gen_ai.user.message", time_unix_nano=5_000, trace_id=TRACE, span_id=SPAN_ID,
        body=AnyValue(string_value="hello"),
    )  # fmt: skip
    records.add(
        observed_time_unix_nano=7_000, trace_id=TRACE,
        attributes=[KeyValue(key="event.name", value=AnyValue(string_value="gen_ai.choice"))],
    )  # fmt: skip
    records.add(trace_id=TRACE, body=AnyValue(string_value="plain"))
    return message


def as_json(message: Any) -> bytes:
    """OTLP's own JSON: protobuf's mapping with ids in hex."""

    def hexed(value: Any) -> Any:
        if isinstance(value, dict):
            ids = {k: base64.b64decode(v).hex() for k, v in value.items() if k in ("traceId", "spanId")}
            return {k: hexed(v) for k, v in value.items()} | ids
        return [hexed(v) for v in value] if isinstance(value, list) else value

    return json.dumps(hexed(MessageToDict(message, use_integers_for_enums=True))).encode()


@pytest.mark.parametrize("kind", [otlp.PROTOBUF, otlp.JSON])
def test_genai_events_are_read_and_other_logs_rejected(kind: str) -> None:
    message = logs()
    decoded = otlp_logs.decode(message.SerializeToString() if kind == otlp.PROTOBUF else as_json(message), kind)
    asked, answered = decoded.events
    assert (asked.name, asked.time_ns, asked.body) == ("gen_ai.user.message", 5_000, "hello")
    assert (asked.trace_id, asked.span_id) == (TRACE.hex(), SPAN_ID.hex())
    assert asked.resource == {"service.name": "docs"}
    assert (answered.name, answered.time_ns, answered.span_id) == ("gen_ai.choice", 7_000, "")
    assert decoded.reasons == {otlp_logs.NOT_GENAI: 1}


def test_an_event_without_a_trace_is_rejected() -> None:
    message = logs()
    message.resource_logs[0].scope_logs[0].log_records[0].trace_id = b""
    decoded = otlp_logs.decode(message.SerializeToString(), otlp.PROTOBUF)
    assert decoded.reasons == {otlp_logs.NO_TRACE: 1, otlp_logs.NOT_GENAI: 1}


def test_a_log_record_of_nonsense_in_json_is_rejected_alone() -> None:
    body = json.loads(as_json(logs()))
    records = body["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
    records += [7, {"timeUnixNano": "soon"}]
    decoded = otlp_logs.decode(json.dumps(body).encode(), otlp.JSON)
    assert (len(decoded.events), decoded.rejected) == (2, 3)
    assert "logRecords" in decoded.message()


def metrics() -> ExportMetricsServiceRequest:
    message = ExportMetricsServiceRequest()
    group = message.resource_metrics.add()
    group.resource.attributes.append(KeyValue(key="service.name", value=AnyValue(string_value="docs")))
    found = group.scope_metrics.add().metrics
    found.add(name="queue.depth").gauge.data_points.add(time_unix_nano=9_000, as_int=4)
    total = found.add(name="calls", unit="{call}")
    total.sum.aggregation_temporality = 2
    total.sum.data_points.add(time_unix_nano=9_000, start_time_unix_nano=1_000, as_double=2.5)
    spread = found.add(name="gen_ai.client.token.usage", unit="{token}")
    spread.histogram.aggregation_temporality = 1
    point = spread.histogram.data_points.add(
        time_unix_nano=9_000, count=3, sum=30, explicit_bounds=[1, 10], bucket_counts=[1, 0, 2]
    )
    point.attributes.append(KeyValue(key="gen_ai.token.type", value=AnyValue(string_value="input")))
    return message


@pytest.mark.parametrize("kind", [otlp.PROTOBUF, otlp.JSON])
def test_gauges_sums_and_histograms_are_points(kind: str) -> None:
    message = metrics()
    decoded = otlp_metrics.decode(message.SerializeToString() if kind == otlp.PROTOBUF else as_json(message), kind)
    gauge, total, spread = decoded.points
    assert (gauge.type, gauge.value, gauge.temporality, gauge.time_ns) == ("gauge", 4.0, "", 9_000)
    assert (total.type, total.value, total.temporality, total.start_ns) == ("sum", 2.5, "cumulative", 1_000)
    assert (spread.type, spread.value, spread.count, spread.temporality) == ("histogram", 30.0, 3, "delta")
    assert (spread.bounds, spread.counts) == ([1.0, 10.0], [1, 0, 2])
    assert spread.attributes == {"gen_ai.token.type": "input"}
    assert decoded.rejected == 0


def test_what_is_no_point_is_rejected_with_its_reason() -> None:
    message = metrics()
    found = message.resource_metrics[0].scope_metrics[0].metrics
    found[0].gauge.data_points.add(time_unix_nano=1, as_double=math.nan)
    found[0].gauge.data_points.add(time_unix_nano=1, flags=1)
    found[0].gauge.data_points.add(time_unix_nano=1)
    found[2].histogram.data_points.add(count=1, explicit_bounds=[1], bucket_counts=[1])
    found[2].histogram.data_points.add(count=5, explicit_bounds=[1], bucket_counts=[1, 1])
    found[2].histogram.data_points.add(count=2, explicit_bounds=[2, 1], bucket_counts=[1, 1, 0])
    found.add(name="old").summary.data_points.add(count=1)
    found.add(name="wide").exponential_histogram.data_points.add(count=1)
    found.add().gauge.data_points.add(as_int=1)
    decoded = otlp_metrics.decode(message.SerializeToString(), otlp.PROTOBUF)
    assert len(decoded.points) == 3
    assert decoded.rejected == 9
    for word in (
        "finite",
        "no recorded",
        "fit its bounds",
        "sum to its count",
        "ascend",
        "summaries",
        "exponential",
        "no name",
    ):
        assert word in decoded.message()
    answer = ExportMetricsServiceResponse.FromString(otlp.success(otlp.PROTOBUF, decoded, METRICS))
    assert answer.partial_success.rejected_data_points == 9
    assert json.loads(otlp.success(otlp.JSON, decoded, METRICS))["partialSuccess"]["rejectedDataPoints"] == "9"


def broken(message: Any, text: str) -> bytes:
    """The request with one text that is not UTF-8, of the same length."""
    data: bytes = message.SerializeToString()
    assert data.count(text.encode()) == 1
    return data.replace(text.encode(), b"\xff" * len(text))


def test_text_that_is_not_utf8_costs_its_own_record_alone() -> None:
    decoded = otlp_logs.decode(broken(logs(), "hello"), otlp.PROTOBUF)
    assert [event.name for event in decoded.events] == ["gen_ai.choice"]
    assert decoded.events[0].resource == {"service.name": "docs"}
    assert decoded.reasons[NOT_UTF8] == 1
    points = otlp_metrics.decode(broken(metrics(), "queue.depth"), otlp.PROTOBUF)
    assert (len(points.points), points.rejected) == (2, 1)


def test_a_resource_that_is_not_utf8_costs_what_it_describes() -> None:
    decoded = otlp_logs.decode(broken(logs(), "docs"), otlp.PROTOBUF)
    assert (decoded.events, decoded.rejected) == ([], 3)


def test_a_span_that_is_not_utf8_is_rejected_alone() -> None:
    message = ExportTraceServiceRequest()
    spans = message.resource_spans.add().scope_spans.add().spans
    for name in ("good", "evil"):
        spans.add(name=name, trace_id=TRACE, span_id=SPAN_ID, start_time_unix_nano=1, end_time_unix_nano=2)
    decoded = otlp.decode(broken(message, "evil"), otlp.PROTOBUF)
    assert [span.name for span in decoded.spans] == ["good"]
    assert decoded.reasons == {NOT_UTF8: 1}


def test_zstd_is_undone_and_bounded() -> None:
    data = metrics().SerializeToString()
    assert otlp.decompress(zstd.compress(data), "zstd") == data
    assert otlp.decompress(zstd.compress(data) + zstd.compress(data), "ZSTD") == data * 2  # frames may follow frames
    with pytest.raises(TooLarge, match="unpacks"):
        otlp.decompress(zstd.compress(bytes(40 << 20)), "zstd")
    with pytest.raises(TooLarge, match="unpacks"):
        otlp.decompress(zstd.compress(bytes(20 << 20)) * 2, "zstd")
    for body, says in ((b"", "cut"), (zstd.compress(data)[:-3], "cut"), (b"nonsense!", "not zstd")):
        with pytest.raises(BadRequest, match=says):
            otlp.decompress(body, "zstd")
    wide = {zstd.CompressionParameter.window_log: 27, zstd.CompressionParameter.enable_long_distance_matching: 1}
    with pytest.raises(BadRequest):  # a frame that asks for 128 MiB of memory
        compressor = zstd.ZstdCompressor(options=wide)
        otlp.decompress(compressor.compress(bytes(1 << 20)) + compressor.flush(), "zstd")


@given(st.binary(max_size=200), st.sampled_from([otlp.PROTOBUF, otlp.JSON]))
def test_no_bytes_break_the_decoders(body: bytes, kind: str) -> None:
    for decode in (otlp_logs.decode, otlp_metrics.decode):
        try:
            decode(body, kind)
        except BadRequest:
            continue


NAMES = [
    *("resourceLogs", "scopeLogs", "logRecords", "resourceMetrics", "scopeMetrics", "metrics", "gauge", "dataPoints"),
    *("attributes", "key", "value", "body", "resource", "histogram", "bucketCounts", "traceId"),
]
JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=20,
)
DECODERS: list[tuple[str, str, str, Callable[[bytes, str], Any]]] = [
    ("resourceSpans", "scopeSpans", "spans", otlp.decode),
    ("resourceLogs", "scopeLogs", "logRecords", otlp_logs.decode),
    ("resourceMetrics", "scopeMetrics", "metrics", otlp_metrics.decode),
]


@given(JSONS)
def test_no_json_breaks_the_decoders(value: Any) -> None:
    for outer, inner, records, decode in DECODERS:
        for body in (
            value, {outer: value}, {outer: [{"resource": value}]}, {outer: [{inner: value}]},
            {outer: [{inner: [{"scope": value}]}]}, {outer: [{inner: [{records: value}]}]},
            {outer: [{inner: [{records: [value]}]}]},
        ):  # fmt: skip
            try:
                decode(json.dumps(body).encode(), otlp.JSON)
            except BadRequest:
                continue


@pytest.mark.parametrize(("outer", "inner", "records", "decode"), DECODERS)
@pytest.mark.parametrize("wrong", [True, 1, 0, "text", {"spans": []}, ""])
def test_what_is_no_list_is_refused_by_its_name(
    outer: str, inner: str, records: str, decode: Callable[[bytes, str], Any], wrong: Any
) -> None:
    for body, name in (
        ({outer: wrong}, outer), ({outer: [{inner: wrong}]}, inner), ({outer: [{inner: [{records: wrong}]}]}, records),
    ):  # fmt: skip
        with pytest.raises(BadRequest, match=f"“{name}” is not a list"):
            decode(json.dumps(body).encode(), otlp.JSON)


@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4))
def test_flipped_bytes_cost_no_more_than_a_refusal(flips: list[tuple[int, int]]) -> None:
    for message, decode in ((logs(), otlp_logs.decode), (metrics(), otlp_metrics.decode)):
        data = bytearray(message.SerializeToString())
        for at, value in flips:
            data[at % len(data)] = value
        try:
            decode(bytes(data), otlp.PROTOBUF)
        except BadRequest:
            continue
