"""An export request of any signal, taken apart: its records with the resource and the scope that they belong to.

The three requests have one shape and the same field numbers. A record whose text is not UTF-8 is left out alone: the
request is then read as a shell around records of bytes, each of which is parsed by itself.
"""

import base64
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from pilothouse.domain.errors import BadRequest
from pilothouse.telemetry.otlp_body import JSON, PROTOBUF

NOT_UTF8 = "a text of it is not UTF-8, or it is cut"
_JSON_DEPTH = 64


class Signal(msgspec.Struct, frozen=True):
    """Names and messages of a signal."""

    name: str
    request: Any
    response: Any
    record: Any
    fields: tuple[str, str, str]  # of the groups, of their scoped parts, of the records in these
    rejected: str  # the field of partial_success that counts what was rejected


TRACES = Signal(
    "traces", ExportTraceServiceRequest, ExportTraceServiceResponse, Span,
    ("resource_spans", "scope_spans", "spans"), "rejected_spans",
)  # fmt: skip
LOGS = Signal(
    "logs", ExportLogsServiceRequest, ExportLogsServiceResponse, LogRecord,
    ("resource_logs", "scope_logs", "log_records"), "rejected_log_records",
)  # fmt: skip
METRICS = Signal(
    "metrics", ExportMetricsServiceRequest, ExportMetricsServiceResponse, Metric,
    ("resource_metrics", "scope_metrics", "metrics"), "rejected_data_points",
)  # fmt: skip


class Group(NamedTuple):
    """Records of one scope. `unreadable`: those that could not be parsed, by reason."""

    resource: dict[str, Any]
    scope: str
    records: Any
    unreadable: dict[str, int]


def groups(signal: Signal, data: bytes, kind: str) -> Iterator[Group]:
    """The groups of an export request in protobuf or JSON. Raises BadRequest where it is none at all."""
    if kind == JSON:
        return _from_json(signal, data)
    request = signal.request()
    try:
        request.ParseFromString(data)
    except (DecodeError, UnicodeDecodeError):
        return _salvaged(signal, data)
    return _from_message(signal, request)


def _from_message(signal: Signal, request: Any) -> Iterator[Group]:
    outer, inner, records = signal.fields
    for group in getattr(request, outer):
        resource = attributes(group.resource.attributes)
        for scoped in getattr(group, inner):
            yield Group(resource, scoped.scope.name, getattr(scoped, records), {})


# ---- what cannot be read as a whole ----------------------------------------------------------------------------------


def _shell() -> Any:
    """A request whose resources, scopes and records are bytes: on the wire the same as messages."""
    file = descriptor_pb2.FileDescriptorProto(name="pilothouse/otlp_shell.proto", package="pilothouse", syntax="proto3")
    for name, first, second in (
        ("Request", ("groups", True, "Group"), None),
        ("Group", ("resource", False, ""), ("scoped", True, "Scoped")),
        ("Scoped", ("scope", False, ""), ("records", True, "")),
    ):
        message = file.message_type.add(name=name)
        for number, field in enumerate(filter(None, (first, second)), 1):
            label, many, of = field
            message.field.add(
                name=label,
                number=number,
                label=descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED
                if many
                else descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL,
                type=descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE
                if of
                else descriptor_pb2.FieldDescriptorProto.TYPE_BYTES,
                type_name=f".pilothouse.{of}" if of else None,
            )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("pilothouse.Request"))


_Shell = _shell()


def _salvaged(signal: Signal, data: bytes) -> Iterator[Group]:
    """What can be read of a request that cannot be read as a whole."""
    shell = _Shell()
    try:
        shell.ParseFromString(data)
    except DecodeError:
        shell.Clear()
    if not any(scoped.records for group in shell.groups for scoped in group.scoped):
        raise BadRequest(
            f"the body is not an OTLP {signal.request.DESCRIPTOR.name} in protobuf", where="body", hint=f"or say {JSON}"
        )
    return _opened(signal, shell)


def _opened(signal: Signal, shell: Any) -> Iterator[Group]:
    for group in shell.groups:
        resource = _parsed(Resource, group.resource)
        for scoped in group.scoped:
            scope = _parsed(InstrumentationScope, scoped.scope)
            if resource is None or scope is None:
                yield Group({}, "", (), {"its resource or scope is not UTF-8": len(scoped.records)})
                continue
            records = [_parsed(signal.record, record) for record in scoped.records]
            usable = [record for record in records if record is not None]
            missing = len(records) - len(usable)
            yield Group(attributes(resource.attributes), scope.name, usable, {NOT_UTF8: missing} if missing else {})


def _parsed(message: Any, data: bytes) -> Any:
    try:
        return message.FromString(data)
    except (DecodeError, UnicodeDecodeError):
        return None


# ---- JSON ------------------------------------------------------------------------------------------------------------


def json_request(data: bytes, name: str) -> dict[str, Any]:
    """A request in JSON whose groups stand under `name`. Raises BadRequest."""
    try:
        request = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as failure:
        raise BadRequest(f"the body is not JSON: {failure}", where="body") from None
    except RecursionError:
        raise BadRequest("the body is nested too deeply", where="body") from None
    if not isinstance(request, dict):
        raise BadRequest("the body is not a JSON object", where="body", hint=f'send {{"{name}": […]}}')
    if name not in request and request:
        raise BadRequest(f"the body has no “{name}”", where="body", hint="OTLP/JSON uses lowerCamelCase names")
    return request


def _from_json(signal: Signal, data: bytes) -> Iterator[Group]:
    """Protobuf's own JSON mapping, record by record, except that ids are hex."""
    outer, inner, records = (camel(name) for name in signal.fields)
    for group in _rows(json_request(data, outer), outer):
        resource = _message(Resource, group.get("resource") or {})
        for scoped in _rows(group, inner):
            scope = _message(InstrumentationScope, scoped.get("scope") or {})
            if resource is None or scope is None:
                raise BadRequest("a resource or scope is not OTLP", where="body", hint="see opentelemetry.io")
            messages = [_message(signal.record, _with_ids(record)) for record in _list(scoped, records)]
            usable = [message for message in messages if message is not None]
            missing = len(messages) - len(usable)
            unreadable = {f"it is not what OTLP has in “{records}”": missing} if missing else {}
            yield Group(attributes(resource.attributes), scope.name, usable, unreadable)


def camel(name: str) -> str:
    """`scope_logs` as `scopeLogs`."""
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def _rows(holder: dict[str, Any], name: str) -> list[dict[str, Any]]:
    rows = _list(holder, name)
    if not all(isinstance(row, dict) for row in rows):
        raise BadRequest(f"“{name}” holds something other than objects", where="body")
    return rows


def _list(holder: dict[str, Any], name: str) -> list[Any]:
    value = holder.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise BadRequest(f"“{name}” is not a list", where="body", hint="OTLP/JSON has lists of objects there")
    return value


def _with_ids(record: Any) -> Any:
    """The record with its ids in base64, as protobuf's mapping has them; bad ones are empty."""
    if not isinstance(record, dict) or not ("traceId" in record or "spanId" in record):
        return record
    changed = dict(record)
    for name in ("traceId", "spanId"):
        if isinstance(text := changed.pop(name, None), str):
            changed[name] = _base64(text)
    return changed


def _base64(text: str) -> str:
    try:
        return base64.b64encode(bytes.fromhex(text)).decode()
    except ValueError:
        return ""


def _message(kind: Any, value: Any) -> Any:
    if not isinstance(value, dict):
        return None
    try:
        return json_format.ParseDict(value, kind(), ignore_unknown_fields=True, max_recursion_depth=_JSON_DEPTH)
    except (json_format.ParseError, ValueError, TypeError, AttributeError, RecursionError):
        return None


# ---- values ----------------------------------------------------------------------------------------------------------


def attributes(pairs: Any) -> dict[str, Any]:
    """Key and value pairs as a dict of plain values."""
    return {pair.key: plain(pair.value) for pair in pairs}


def plain(value: AnyValue) -> Any:
    """A value as str, int, float, bool, bytes, list or dict; None where it has no type."""
    which = value.WhichOneof("value")
    if which == "string_value":
        return value.string_value
    if which is None:
        return None
    if which == "array_value":
        return [plain(v) for v in value.array_value.values]
    if which == "kvlist_value":
        return attributes(value.kvlist_value.values)
    return getattr(value, which)


def success(signal: Signal, kind: str, rejected: int, message: str) -> bytes:
    """The body of a 200 in the request's content type; with what was rejected where there is any."""
    if kind != PROTOBUF:
        partial = {camel(signal.rejected): str(rejected), "errorMessage": message}
        return msgspec.json.encode({"partialSuccess": partial} if rejected else {})
    response = signal.response()
    if rejected:
        setattr(response.partial_success, signal.rejected, rejected)
        response.partial_success.error_message = message
    encoded: bytes = response.SerializeToString()
    return encoded
