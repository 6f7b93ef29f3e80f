"""An OTLP span in our own terms, whichever dialect it speaks, with nothing sensitive left in it.

Everything that came from outside as text goes through redaction before it is returned. Where redaction fails, the
span keeps its ids, times, tokens and what is of our own vocabulary, and loses every other word (`blocked`).
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from pilothouse.domain.errors import PilothouseError
from pilothouse.domain.record import Document, Payload, Redaction, SpanRecord, Tokens
from pilothouse.domain.wires import Redact
from pilothouse.telemetry.content import MAX_CONTENT, as_text, content, is_content_key, preview
from pilothouse.telemetry.dialects import DIALECTS
from pilothouse.telemetry.documents import documents, is_document_key
from pilothouse.telemetry.spans import OtlpSpan

STAGES = frozenset({"preprocessing", "retrieval", "model", "tool", "postprocessing", "queue"})
_STAGE_OF = {
    "chat": "model",
    "text_completion": "model",
    "generate_content": "model",
    "embeddings": "retrieval",
    "retrieval": "retrieval",
    "rerank": "retrieval",
    "search_memory": "retrieval",
    "execute_tool": "tool",
    "render_prompt": "preprocessing",
    "evaluate": "postprocessing",
}
# Spans that sum up what their children report: their tokens would be counted twice.
_AGGREGATES = frozenset(
    {"invoke_agent", "invoke_workflow", "create_agent", "plan", "task", "fetch_response", "guardrail"}
)
_OPERATIONS = frozenset(_STAGE_OF) | _AGGREGATES | {"guardrail"}
_ENVIRONMENTS = {"production": "prod", "live": "prod", "stage": "staging", "development": "dev", "local": "dev"}
_PROVIDERS = {"az.ai.openai": "azure.ai.openai", "xai": "x_ai", "vertex_ai": "gcp.vertex_ai", "mistral": "mistral_ai"}
_KEEP_RESOURCE = ("service.version", "service.namespace", "openinference.project.name")
_IDENTITY = frozenset(
    key for dialect in DIALECTS for field in ("session", "user") for key in dialect.fields.get(field, ())
)
MAX_ATTRIBUTES = 128
MAX_VALUE = 2048  # characters
DROPPED = "pilothouse.dropped_attributes"
INCONSISTENT = "pilothouse.usage_inconsistent"

Pseudonym = Callable[[str], str]


class Normaliser(msgspec.Struct, frozen=True):
    """Turns spans into records. `redact` for text, `redact_json` for JSON, `pseudonym` for users and sessions."""

    redact: Redact
    redact_json: Redact
    pseudonym: Pseudonym

    def span(self, span: OtlpSpan, *, env: str = "", default_env: str = "") -> SpanRecord:
        """The record of `span`. `env`, where given, is the environment whatever the span says; never raises for
        what a span holds.
        """
        attributes = {**{k: span.resource[k] for k in _KEEP_RESOURCE if k in span.resource}, **span.attributes}
        fields = _fields(span)
        record = _skeleton(span, fields)
        record.env = env or _ENVIRONMENTS.get(fields["env"].lower(), fields["env"]) or default_env
        record.session = self.pseudonym(fields["session"])
        record.user = self.pseudonym(fields["user"])
        try:
            self._fill(record, fields, attributes, span)
        except PilothouseError as failure:
            blocked = _skeleton(span, fields)
            blocked.env, blocked.session, blocked.user = env or default_env, record.session, record.user
            blocked.redaction = Redaction(status="blocked", reason=failure.what)
            blocked.documents = record.documents and [msgspec.structs.replace(d, id="") for d in record.documents]
            return blocked
        return record

    def _fill(self, record: SpanRecord, fields: dict[str, str], attributes: dict[str, Any], span: OtlpSpan) -> None:
        """Everything that is text, redacted."""
        seen = Redaction(status="clean")
        went_in, came_out = content(attributes, span.events)
        record.documents = documents(attributes, span.end_ns // 1_000)
        texts = {"name": span.name, "env": record.env, "error_type": _error_type(span, fields)}
        texts |= {name: fields[name] for name in ("app", "route", "provider", "index_name", "index_version")}
        texts |= {name: fields[name] for name in ("request_model", "response_model", "response_id")}
        if not record.operation:
            texts["operation"] = fields["operation"]
        for name, text in self._clean(texts, seen).items():
            setattr(record, name, text)
        record.documents = self._documents(record.documents, seen)
        kept = self._clean(_texts(attributes, span), seen, keys=True)
        record.attributes = _bounded(kept, span.dropped) | record.attributes
        if went_in or came_out:
            payload = Payload(request=self._content(went_in, seen), response=self._content(came_out, seen))
            record.payload = payload
            record.preview_in, record.preview_out = preview(payload.request), preview(payload.response)
        record.redaction = seen

    def _clean(self, texts: Mapping[str, str], seen: Redaction, *, keys: bool = False) -> dict[str, str]:
        """Redacted values, and keys where asked. One look over all of them tells whether any needs work."""
        joined = "\n".join(f"{key}: {text}" for key, text in texts.items() if text)
        if not self.redact(joined).classes:
            return dict(texts)
        clean: dict[str, str] = {}
        for key, text in texts.items():
            name = self._one(self.redact, key, seen) if keys else key
            label = f"{key}: " if keys else ""  # a phone number or a password is told by what stands before it
            value = self._one(self.redact, label + text, seen)
            clean[name] = value.removeprefix(label) if value.startswith(label) else value
        return clean

    def _content(self, text: str, seen: Redaction) -> str:
        redact = self.redact_json if text[:1] in ("{", "[") else self.redact
        return self._one(redact, text, seen)[:MAX_CONTENT]

    def _documents(self, found: list[Document] | None, seen: Redaction) -> list[Document] | None:
        if found is None:
            return None
        ids = self._clean({str(i): d.id for i, d in enumerate(found)}, seen)
        return [msgspec.structs.replace(d, id=ids[str(i)][:MAX_VALUE]) for i, d in enumerate(found)]

    def _one(self, redact: Redact, text: str, seen: Redaction) -> str:
        if not text:
            return ""
        result = redact(text)
        for kind, n in result.classes.items():
            seen.status = "redacted"
            seen.classes = {**seen.classes, kind: seen.classes.get(kind, 0) + n}
        seen.secrets += result.secrets
        return result.text


def _fields(span: OtlpSpan) -> dict[str, str]:
    """Every field that a dialect's table names, empty where none has it; the span's word before its resource's."""
    found: dict[str, str] = dict.fromkeys(
        ("stage", "operation", "route", "app", "env", "session", "user", "provider", "request_model", "response_model",
         "response_id", "index_name", "index_version", "error_type"), ""
    )  # fmt: skip
    for source in (span.attributes, span.resource):
        for dialect in DIALECTS:
            for field, keys in dialect.fields.items():
                found[field] = found[field] or next((as_text(source[k]) for k in keys if source.get(k)), "")
    found["operation"] = found["operation"] or _marked(span)
    found["provider"] = _PROVIDERS.get(found["provider"], found["provider"])
    return found


def _marked(span: OtlpSpan) -> str:
    """The operation that a marker attribute stands for."""
    for dialect in DIALECTS:
        for key, meanings in dialect.operations.items():
            if operation := meanings.get(as_text(span.attributes.get(key)), ""):
                return operation
    return "retrieval" if "db.vector.query.top_k" in span.attributes else ""


def _skeleton(span: OtlpSpan, fields: dict[str, str]) -> SpanRecord:
    """The record without a word from outside: ids, times, tokens, and our own vocabulary."""
    operation = fields["operation"] if fields["operation"] in _OPERATIONS else ""
    tokens, consistent = _tokens(span.attributes) if operation not in _AGGREGATES else (None, True)
    return SpanRecord(
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_span_id=span.parent_span_id,
        ts_us=span.start_ns // 1_000,
        duration_ms=(span.end_ns - span.start_ns) / 1e6,
        name=operation,
        operation=operation,
        stage=_stage(span, fields, operation),
        status=("unset", "ok", "error")[span.status] if span.status in (1, 2) else "unset",
        tokens=tokens,
        attributes={} if consistent else {INCONSISTENT: "true"},
    )


def _stage(span: OtlpSpan, fields: dict[str, str], operation: str) -> str:
    """What the app says, else what the operation is a part of; empty for spans that hold others."""
    if fields["stage"] in STAGES:
        return fields["stage"]
    if "messaging.system" in span.attributes and span.kind == 5:
        return "queue"
    return _STAGE_OF.get(operation, "")


def _tokens(attributes: Mapping[str, Any]) -> tuple[Tokens | None, bool]:
    """Disjoint buckets from inclusive totals, and whether the totals could be split; None where nothing is told."""
    found: dict[str, int] = {}
    for dialect in DIALECTS:
        for bucket, keys in dialect.tokens.items():
            value = next((n for key in keys if (n := _count(attributes.get(key))) is not None), None)
            if value is not None:
                found.setdefault(bucket, value)
    if not found:
        return None, True
    cached = found.get("cache_read", 0) + found.get("cache_write", 0)
    uncached = found.get("input", cached) - cached
    visible = found.get("output", found.get("reasoning", 0)) - found.get("reasoning", 0)
    tokens = Tokens(
        input_uncached=max(0, uncached),
        cache_read=found.get("cache_read", 0),
        cache_write=found.get("cache_write", 0),
        output_text=max(0, visible),
        reasoning=found.get("reasoning", 0),
    )
    return tokens, uncached >= 0 and visible >= 0


def _count(value: Any) -> int | None:
    """A whole number that is not negative, from a number or its decimal text."""
    if isinstance(value, str) and value.isdecimal() and len(value) < 19:
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 63:
        return None
    return value


def _error_type(span: OtlpSpan, fields: dict[str, str]) -> str:
    """`error.type`, else the exception's type; `_OTHER` (OpenTelemetry's word) for an error without either."""
    if fields["error_type"]:
        return fields["error_type"]
    if span.status != 2:
        return ""
    types = (as_text(e.attributes.get("exception.type")) for e in reversed(span.events) if e.name == "exception")
    return next((t for t in types if t), "_OTHER")


def _texts(attributes: Mapping[str, Any], span: OtlpSpan) -> dict[str, str]:
    """The attributes to keep as text: neither content nor documents nor who the user is."""
    kept = {
        key: as_text(value)
        for key, value in attributes.items()
        if key not in _IDENTITY and not is_content_key(key) and not is_document_key(key)
    }
    if span.status_message:
        kept["otel.status_description"] = span.status_message
    if span.scope:
        kept["otel.scope.name"] = span.scope
    for event in span.events:
        if event.name == "exception" and event.attributes.get("exception.message"):
            kept["exception.message"] = as_text(event.attributes["exception.message"])
    return kept


def _bounded(texts: dict[str, str], dropped: int) -> dict[str, str]:
    """At most 128 attributes of at most 2,048 characters; the number of those left out stands in one of its own."""
    kept = {
        key[:256]: text if len(text) <= MAX_VALUE else text[: MAX_VALUE - 1] + "…"
        for key, text in list(texts.items())[:MAX_ATTRIBUTES]
    }
    dropped += len(texts) - len(kept)
    return {**kept, DROPPED: str(dropped)} if dropped else kept
