"""An OTLP span in our own terms, whichever dialect it speaks, with nothing sensitive left in it.

Everything that came from outside as text goes through redaction before it is returned. Where redaction fails, the
span keeps its ids, times, tokens and what is of our own vocabulary, and loses every other word (`blocked`).
"""

from collections.abc import Callable
from itertools import islice

import msgspec

from pilothouse.domain.errors import PilothouseError
from pilothouse.domain.policy import LogMode
from pilothouse.domain.record import Document, Payload, Redaction, SpanEvent, SpanRecord, Tokens
from pilothouse.domain.wires import PriceSpan, Redact
from pilothouse.telemetry.cleaning import Cleaner
from pilothouse.telemetry.content import content, finish_reason, preview
from pilothouse.telemetry.dialects.genai import FUNCTIONS, OPERATIONS, PROVIDERS
from pilothouse.telemetry.dialects.index import by_scope
from pilothouse.telemetry.documents import documents
from pilothouse.telemetry.said import Said
from pilothouse.telemetry.span_events import exception, span_events
from pilothouse.telemetry.spans import OtlpSpan
from pilothouse.telemetry.text import as_text
from pilothouse.telemetry.usage import reported_cost, tokens, ttft_ms

STAGES = frozenset({"preprocessing", "retrieval", "model", "tool", "postprocessing", "queue"})
_STAGE_OF = {
    "chat": "model",
    "text_completion": "model",
    "generate_content": "model",
    "decide": "model",
    "embeddings": "retrieval",
    "retrieval": "retrieval",
    "rerank": "retrieval",
    "search_memory": "retrieval",
    "execute_tool": "tool",
    "render_prompt": "preprocessing",
    "parse": "postprocessing",
    "evaluate": "postprocessing",
}
_ASKS = frozenset({"chat", "text_completion", "generate_content", "decide", "embeddings", "rerank"})
# Spans that sum up what their children report: their tokens would be counted twice.
_AGGREGATES = frozenset(
    {"invoke_agent", "invoke_workflow", "create_agent", "plan", "task", "fetch_response", "guardrail"}
)
_OPERATIONS = frozenset(_STAGE_OF) | _AGGREGATES
_ENVIRONMENTS = {"production": "prod", "live": "prod", "stage": "staging", "development": "dev", "local": "dev"}
_KEEP_RESOURCE = ("service.version", "service.namespace", "openinference.project.name")
_KINDS = ("", "internal", "server", "client", "producer", "consumer")
_FIELDS = ("app", "route", "provider", "index_name", "index_version", "request_model", "response_model", "response_id",
           "finish_reason", "release")  # fmt: skip
# Attributes under which these are kept, whatever their dialect calls them.
_NAMED = {"prompt_name": "gen_ai.prompt.name", "prompt_version": "gen_ai.prompt.version",
          "tool_name": "gen_ai.tool.name", "agent_name": "gen_ai.agent.name"}  # fmt: skip
MAX_ATTRIBUTES = 128
_LONGEST_NAME = 128  # characters; what is longer is a text
DROPPED = "pilothouse.dropped_attributes"
DROPPED_EVENTS = "pilothouse.dropped_events"
DROPPED_DOCUMENTS = "pilothouse.dropped_documents"
CUT = "pilothouse.cut_characters"
INCONSISTENT = "pilothouse.usage_inconsistent"

Pseudonym = Callable[[str], str]


def unpriced(_provider: str, _model: str, _tokens: Tokens, _ts_us: int) -> float | None:
    """The price of a call where nobody says any."""
    return None


class Normaliser(msgspec.Struct, frozen=True):
    """Turns spans into records. `redact` for text, `redact_json` for JSON, `pseudonym` for users and sessions, `price`
    for what a call to a model cost. `credentials`, for text and for JSON, is all that is taken out of the payload of a
    span that is kept in full; where it is absent, none is.
    """

    redact: Redact
    redact_json: Redact
    pseudonym: Pseudonym
    price: PriceSpan = unpriced
    credentials: tuple[Redact, Redact] | None = None

    def span(self, span: OtlpSpan, *, env: str = "", default_env: str = "", mode: LogMode = "redacted") -> SpanRecord:
        """The record of `span`. `env`, where given, is the environment whatever the span says; never raises for
        what a span holds. In mode `metadata` it has ids, times, counts, cost and names, but no text.
        """
        said = Said(span.attributes, span.resource)
        said_env = said.text("env")
        record = self._skeleton(span, said, mode)
        record.env = env or _ENVIRONMENTS.get(said_env.lower(), said_env) or default_env
        try:
            if mode in ("metadata", "off"):
                self._name(record, said, span)
            else:
                self._fill(record, said, span)
        except PilothouseError as failure:
            blocked = self._skeleton(span, said, mode)
            blocked.env = env or default_env
            blocked.redaction = Redaction(status="blocked", reason=failure.what)
            blocked.documents = record.documents and [msgspec.structs.replace(d, id="") for d in record.documents]
            return blocked
        return record

    def _skeleton(self, span: OtlpSpan, said: Said, mode: LogMode) -> SpanRecord:
        """The record without a word from outside: ids, times, numbers, and our own vocabulary."""
        operation = _operation(said)
        known = operation if operation in _OPERATIONS else ""
        asks = known in _ASKS or not known
        used, consistent = tokens(said) if asks else (None, True)
        ts_us = span.start_ns // 1_000
        return SpanRecord(
            trace_id=span.trace_id,
            span_id=span.span_id,
            parent_span_id=span.parent_span_id,
            ts_us=ts_us,
            duration_ms=(span.end_ns - span.start_ns) / 1e6,
            name=known,
            operation=known,
            stage=_stage(span, said, known),
            session=self.pseudonym(said.text("session")),
            user=self.pseudonym(said.text("user")),
            status=("unset", "ok", "error")[span.status] if span.status in (1, 2) else "unset",
            span_kind=_KINDS[span.kind] if 0 <= span.kind < len(_KINDS) else "",
            dialect=said.dialect(by_scope(span.scope)),
            ttft_ms=ttft_ms(said, span) if asks else None,
            tokens=used,
            cost_usd=None if used is None else self._cost(said, used, ts_us),
            reported_cost_usd=reported_cost(said) if asks else None,
            attributes={} if consistent else {INCONSISTENT: "true"},
            log_mode=mode,
        )

    def _cost(self, said: Said, used: Tokens, ts_us: int) -> float | None:
        """USD by the model that answered, else by the one that was asked for; None where neither has a price."""
        provider = _provider(said)
        for model in dict.fromkeys((said.text("response_model"), said.text("request_model"))):
            if model and (cost := self.price(provider, model, used, ts_us)) is not None:
                return cost
        return None

    def _name(self, record: SpanRecord, said: Said, span: OtlpSpan) -> None:
        """Names alone: of models, routes, environments, documents. What reads like a text is none."""
        record.documents, _ = documents(said, span, record.dialect, record.operation)
        cleaner = Cleaner(self.redact, self.redact_json)
        texts = _names(record, said, span)
        ids = {f"document.{n}": document.id for n, document in enumerate(record.documents or ())}
        (clean,) = cleaner.words(texts | ids)
        clean = {name: _no_text(word) for name, word in clean.items()}
        for name in texts:
            setattr(record, name, clean[name])
        _named(record.documents, clean)
        record.redaction = Redaction(status="skipped", reason="log mode metadata", classes=cleaner.seen.classes)

    def _fill(self, record: SpanRecord, said: Said, span: OtlpSpan) -> None:
        """Everything that is text, redacted."""
        record.documents, lost_documents = documents(said, span, record.dialect, record.operation)
        events, lost_events = span_events(span)
        went_in, came_out = content(said, span.events)
        cleaner = Cleaner(self.redact, self.redact_json)
        texts = {"name": span.name} | _names(record, said, span)
        texts["finish_reason"] = texts["finish_reason"] or finish_reason(came_out)
        kept, dropped = _kept(said, span)
        ids = {f"document.{n}": document.id for n, document in enumerate(record.documents or ())}
        names = {f"event.{n}": event.name for n, event in enumerate(events)}
        clean, kept, *of_events = cleaner.words(texts | ids | names, kept, *(event.attributes for event in events))
        for name in texts:
            setattr(record, name, clean[name])
        _named(record.documents, clean)
        record.events = [
            SpanEvent(name=clean[f"event.{n}"], offset_ms=event.offset_ms, attributes=of_events[n])
            for n, event in enumerate(events)
        ]
        if went_in or came_out:
            record.payload = Payload(request=cleaner.content(went_in), response=cleaner.content(came_out))
            record.preview_in, record.preview_out = preview(record.payload.request), preview(record.payload.response)
            if record.log_mode == "full" and self.credentials is not None:
                bare = Cleaner(*self.credentials)
                record.payload = Payload(request=bare.content(went_in), response=bare.content(came_out))
        losses = {
            DROPPED: dropped + span.dropped + said.lost,
            DROPPED_EVENTS: lost_events,
            DROPPED_DOCUMENTS: lost_documents,
            CUT: cleaner.cut,
        }
        record.attributes = kept | record.attributes | {key: str(n) for key, n in losses.items() if n}
        record.redaction = cleaner.seen


def _names(record: SpanRecord, said: Said, span: OtlpSpan) -> dict[str, str]:
    """Short words that came from outside, by the record's fields."""
    names = {"env": record.env, "error_type": _error_type(span, said)}
    names |= {name: said.text(name) for name in _FIELDS}
    names["provider"] = _provider(said)
    if not record.operation:
        names["operation"] = _operation(said)
    return names


def _no_text(word: str) -> str:
    """`word` where it is one, else nothing."""
    return word if len(word) <= _LONGEST_NAME and not any(map(str.isspace, word)) else ""


def _operation(said: Said) -> str:
    """In the conventions' own words where it has one."""
    told = said.text("operation")
    return OPERATIONS.get(told, told)


def _provider(said: Said) -> str:
    """In the conventions' own words where it has one; `openai.chat`, as the Vercel AI SDK says, is `openai`."""
    told = said.text("provider")
    if told.endswith(FUNCTIONS):
        told = told.rpartition(".")[0]
    return PROVIDERS.get(told, told)


def _stage(span: OtlpSpan, said: Said, operation: str) -> str:
    """What the app says, else what the operation is a part of; empty for spans that hold others."""
    told = said.text("stage")
    if told in STAGES:
        return told
    if span.kind == 5 and "messaging.system" in span.attributes:
        return "queue"
    return _STAGE_OF.get(operation, "")


def _error_type(span: OtlpSpan, said: Said) -> str:
    """`error.type`, else the exception's type; `_OTHER` (OpenTelemetry's word) for an error without either."""
    told = said.text("error_type")
    if told:
        return told
    return exception(span, "type") or "_OTHER" if span.status == 2 else ""


def _kept(said: Said, span: OtlpSpan) -> tuple[dict[str, str], int]:
    """The attributes to keep as text: neither content nor documents nor who the user is; and how many more there are.

    What explains a failure and what is asked for by name comes first.
    """
    first = {key: told for slot, key in _NAMED.items() if (told := said.text(slot))}
    if span.status_message:
        first["otel.status_description"] = span.status_message
    if span.scope:
        first["otel.scope.name"] = span.scope
    if message := exception(span, "message"):
        first["exception.message"] = message
    resource = {key: as_text(span.resource[key]) for key in _KEEP_RESOURCE if key in span.resource}
    lead = first | resource
    more = ((key, value) for key, value in said.kept.items() if key not in first)
    kept = lead | {
        key: value if type(value) is str else as_text(value) for key, value in islice(more, MAX_ATTRIBUTES - len(lead))
    }
    every = len(first) + sum(key not in first for key in said.kept) + sum(key not in said.kept for key in resource)
    return kept, every - len(kept)


def _named(found: list[Document] | None, clean: dict[str, str]) -> None:
    """Give documents their redacted ids."""
    for n, document in enumerate(found or ()):
        if found is not None and document.id != clean[f"document.{n}"]:
            found[n] = msgspec.structs.replace(document, id=clean[f"document.{n}"])
