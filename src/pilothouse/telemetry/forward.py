"""Requests and spans as OTLP, for a second backend: each as one span, a request's attempts as its children.

Attributes are those of OpenTelemetry's GenAI conventions; token totals are inclusive, as these ask. What has no name
there stands under `pilothouse.`. Prompts and answers go along only where that is asked for, as they are stored
(redacted).
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span, Status

from pilothouse.domain.record import Attempt, Record, SpanRecord, Tokens

Value = str | int | float | bool | None
_KINDS = {
    "internal": Span.SPAN_KIND_INTERNAL,
    "server": Span.SPAN_KIND_SERVER,
    "client": Span.SPAN_KIND_CLIENT,
    "producer": Span.SPAN_KIND_PRODUCER,
    "consumer": Span.SPAN_KIND_CONSUMER,
}
_STATUSES = {"ok": Status.STATUS_CODE_OK, "error": Status.STATUS_CODE_ERROR}
_OPERATIONS = {"embeddings": "embeddings", "moderations": "moderation"}
SCOPE = "pilothouse"


def encode(lines: Iterable[Record | SpanRecord], *, content: bool = False) -> bytes:
    """An ExportTraceServiceRequest in protobuf; one resource for each app and environment."""
    request = ExportTraceServiceRequest()
    groups: dict[tuple[str, str], ResourceSpans] = {}
    for line in lines:
        group = groups.get((line.app, line.env))
        if group is None:
            group = groups[line.app, line.env] = request.resource_spans.add()
            _put(group.resource.attributes, {"service.name": line.app, "deployment.environment.name": line.env})
            group.scope_spans.add().scope.name = SCOPE
        spans = group.scope_spans[0].spans
        if isinstance(line, Record):
            spans.extend(_request(line, content=content))
        else:
            spans.append(_span(line, content=content))
    encoded: bytes = request.SerializeToString()
    return encoded


def _request(record: Record, *, content: bool) -> list[Span]:
    operation = _OPERATIONS.get(record.api, "chat")
    root = _begun(record.trace_id, record.span_id, record.parent_span_id, record.ts_us, record.duration_ms)
    root.name, root.kind = f"{operation} {record.requested_model}", Span.SPAN_KIND_SERVER
    _status(root, record.error_type, record.error_message)
    attributes: dict[str, Value] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": record.provider,
        "gen_ai.request.model": record.requested_model,
        "gen_ai.response.model": record.served_model,
        "gen_ai.request.stream": record.stream,
        "gen_ai.response.time_to_first_chunk": None if record.ttft_ms is None else record.ttft_ms / 1e3,
        "openai.response.system_fingerprint": record.fingerprint,
        "http.response.status_code": record.status,
        "session.id": record.session,
        "user.id": record.user,
        "pilothouse.request_id": record.id,
        "pilothouse.route": record.route,
        "pilothouse.release": record.release,
        "pilothouse.manifest": record.manifest,
        "pilothouse.canary": record.canary,
        "pilothouse.outcome": record.outcome,
        "pilothouse.cache": record.cache,
        "pilothouse.cost_usd": record.cost_usd,
        **_usage(record.tokens),
        **{f"pilothouse.part.{part}": address for part, address in record.parts.items()},
        **{f"pilothouse.label.{name}": text for name, text in record.labels.items()},
        **(_content(record) if content else {}),
    }
    _put(root.attributes, attributes)
    return [root, *(_attempt(record, attempt) for attempt in record.attempts)]


def _attempt(record: Record, attempt: Attempt) -> Span:
    """Its id is made from the request's: the same again where a batch is sent twice."""
    own = hashlib.blake2b(f"{record.id}/{attempt.n}".encode(), digest_size=8).hexdigest()
    begin_us = record.ts_us + int(attempt.offset_ms * 1e3)
    span = _begun(record.trace_id, own, record.span_id, begin_us, attempt.duration_ms)
    span.name, span.kind = f"attempt {attempt.model}", Span.SPAN_KIND_CLIENT
    _status(span, attempt.error_type, "")
    # No operation and no usage: these are the request's, and would be counted twice.
    _put(
        span.attributes,
        {
            "gen_ai.provider.name": attempt.provider,
            "gen_ai.response.id": attempt.response_id,
            "gen_ai.response.model": attempt.served_model,
            "http.response.status_code": attempt.status or None,
            "pilothouse.attempt": attempt.n,
            "pilothouse.attempt.kind": attempt.kind,
            "pilothouse.attempt.delivered": attempt.delivered,
            "pilothouse.cost_usd": attempt.cost_usd,
        },
    )
    return span


def _span(record: SpanRecord, *, content: bool) -> Span:
    span = _begun(record.trace_id, record.span_id, record.parent_span_id, record.ts_us, record.duration_ms)
    span.name, span.kind = record.name, _KINDS.get(record.span_kind, Span.SPAN_KIND_UNSPECIFIED)
    span.status.code = _STATUSES.get(record.status, Status.STATUS_CODE_UNSET)
    attributes: dict[str, Value] = {
        **record.attributes,
        "gen_ai.operation.name": record.operation,
        "gen_ai.provider.name": record.provider,
        "gen_ai.request.model": record.request_model,
        "gen_ai.response.model": record.response_model,
        "gen_ai.response.id": record.response_id,
        "gen_ai.response.time_to_first_chunk": None if record.ttft_ms is None else record.ttft_ms / 1e3,
        "error.type": record.error_type,
        "session.id": record.session,
        "user.id": record.user,
        "pilothouse.route": record.route,
        "pilothouse.stage": record.stage,
        "pilothouse.release": record.release,
        "pilothouse.cost_usd": record.cost_usd,
        "pilothouse.index.name": record.index_name,
        "pilothouse.index.version": record.index_version,
        **_usage(record.tokens),
        **(_content(record) if content else {}),
    }
    _put(span.attributes, attributes)
    for event in record.events:
        at_ns = span.start_time_unix_nano + int(event.offset_ms * 1e6)
        _put(span.events.add(name=event.name, time_unix_nano=max(0, at_ns)).attributes, event.attributes)
    return span


def _begun(trace_id: str, span_id: str, parent: str, ts_us: int, duration_ms: float) -> Span:
    return Span(
        trace_id=bytes.fromhex(trace_id),
        span_id=bytes.fromhex(span_id),
        parent_span_id=bytes.fromhex(parent),
        start_time_unix_nano=ts_us * 1_000,
        end_time_unix_nano=ts_us * 1_000 + int(duration_ms * 1e6),
    )


def _status(span: Span, error_type: str, message: str) -> None:
    if error_type:
        span.status.code = Status.STATUS_CODE_ERROR
        span.status.message = message
        _put(span.attributes, {"error.type": error_type})


def _usage(tokens: Tokens | None) -> dict[str, Value]:
    """Inclusive totals and the parts that are there, as the conventions have them."""
    if tokens is None:
        return {}
    return {
        "gen_ai.usage.input_tokens": tokens.input_uncached + tokens.cache_read + tokens.cache_write,
        "gen_ai.usage.output_tokens": tokens.output_text + tokens.reasoning,
        "gen_ai.usage.cache_read.input_tokens": tokens.cache_read or None,
        "gen_ai.usage.cache_write.input_tokens": tokens.cache_write or None,
        "gen_ai.usage.reasoning.output_tokens": tokens.reasoning or None,
    }


def _content(record: Record | SpanRecord) -> dict[str, Value]:
    """Bodies, but not those kept in full: nobody would answer for their having left."""
    payload = None if record.log_mode == "full" else record.payload
    return {} if payload is None else {"input.value": payload.request, "output.value": payload.response}


def _put(to: Any, values: Mapping[str, Value]) -> None:  # `to`: protobuf's repeated field
    for key, value in values.items():
        if value is not None and value != "":
            to.append(KeyValue(key=key, value=_any(value)))


def _any(value: str | float | bool) -> AnyValue:
    match value:
        case bool():
            return AnyValue(bool_value=value)
        case int():
            return AnyValue(int_value=value)
        case float():
            return AnyValue(double_value=value)
        case _:
            # Lone surrogates cannot be said in protobuf.
            return AnyValue(string_value=value.encode("utf-8", "replace").decode())
