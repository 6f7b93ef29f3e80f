"""OTLP events and data points in our own terms, with nothing sensitive left in them.

Whatever came from outside as text goes through redaction before it is returned, as with spans. Where redaction fails,
an event keeps its ids, its time and a name of the conventions; a data point, whose words are its meaning, is not kept.
"""

import hashlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from pilothouse.domain.errors import PilothouseError
from pilothouse.domain.policy import LogMode
from pilothouse.domain.record import EventRecord, MetricRecord, Redaction, ScoreRecord
from pilothouse.domain.wires import Redact
from pilothouse.telemetry.content import as_text
from pilothouse.telemetry.dialects import DIALECTS
from pilothouse.telemetry.otlp_logs import OtlpEvent
from pilothouse.telemetry.otlp_metrics import OtlpPoint

EVALUATION = "gen_ai.evaluation.result"
NAMES = frozenset(
    {
        *(f"gen_ai.{role}.message" for role in ("system", "user", "assistant", "tool")),
        *("gen_ai.choice", "gen_ai.client.inference.operation.details", "gen_ai.client.operation.exception"),
        EVALUATION,
    }
)
# Messages that a newer exporter puts into attributes rather than into the body.
_CONTENT = frozenset(
    {
        *("gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.system_instructions", "gen_ai.tool.definitions"),
        *("gen_ai.tool.call.arguments", "gen_ai.tool.call.result", "gen_ai.prompt", "gen_ai.completion"),
    }
)
MAX_BODY = 1 << 20  # characters of an event's body
MAX_COMMENT = 8_192  # of a score's explanation
MAX_VALUE = 2_048  # of an attribute's value
MAX_NAME = 256
MAX_ATTRIBUTES = 128
BLOCKED = "its words could not be redacted"
_TORN = 4_096  # characters before a cut that may be a part of something longer
_VERDICTS = {"pass": 1.0, "passed": 1.0, "true": 1.0, "yes": 1.0, "fail": 0.0, "failed": 0.0, "false": 0.0, "no": 0.0}
_ENVIRONMENTS = {"production": "prod", "live": "prod", "stage": "staging", "development": "dev", "local": "dev"}
_IDENTITY = frozenset(
    key for dialect in DIALECTS for field in ("session", "user") for key in dialect.fields.get(field, ())
)
_SCORE_NAME, _SCORE_VALUE = "gen_ai.evaluation.name", "gen_ai.evaluation.score.value"
_SCORE_LABEL, _SCORE_WHY = "gen_ai.evaluation.score.label", "gen_ai.evaluation.explanation"


class Origin(msgspec.Struct, frozen=True):
    """Where a batch comes from and when: `env`, where given, holds whatever it says; else `default_env` where it
    says nothing.
    """

    now_us: int
    env: str = ""
    default_env: str = ""


class EventNormaliser(msgspec.Struct, frozen=True):
    """Turns events and points into records. `redact` for text, `redact_json` for JSON."""

    redact: Redact
    redact_json: Redact

    def event(self, event: OtlpEvent, origin: Origin, mode: LogMode = "redacted") -> EventRecord | ScoreRecord:
        """A score where the event is an evaluation's result with a value, else an event. Never raises for what it
        holds. In mode `metadata` it has no text: neither body nor attributes, and a score no explanation.
        """
        ts_us = event.time_ns // 1_000 if 0 < event.time_ns < 1 << 63 else origin.now_us
        try:
            value = _score(event.attributes) if event.name == EVALUATION else None
            if value is not None:
                return self._score(event, value, ts_us, origin, text=mode != "metadata")
            if mode == "metadata":
                return _bare(event, ts_us, origin, Redaction(status="skipped", reason="log mode metadata"))
            return self._event(event, ts_us, origin)
        except PilothouseError as failure:
            return _bare(event, ts_us, origin, Redaction(status="blocked", reason=failure.what))

    def point(self, point: OtlpPoint, origin: Origin) -> MetricRecord | None:
        """The record of a data point; None where its words could not be redacted."""
        seen = Redaction(status="clean")
        try:
            words = self._clean(
                {"name": point.name[:MAX_NAME], "unit": point.unit[:MAX_NAME], **_who(point.resource, {}, origin)}, seen
            )
            kept = self._attributes(point.attributes, seen)
        except PilothouseError:
            return None
        return MetricRecord(
            ts_us=point.time_ns // 1_000 or origin.now_us,
            start_us=point.start_ns // 1_000,
            name=words["name"],
            unit=words["unit"],
            type=point.type,
            temporality=point.temporality,
            env=words["env"],
            app=words["app"],
            value=point.value,
            count=point.count,
            bounds=point.bounds,
            counts=point.counts,
            attributes=kept,
        )

    def _event(self, event: OtlpEvent, ts_us: int, origin: Origin) -> EventRecord:
        seen = Redaction(status="clean")
        said = {key: value for key, value in event.attributes.items() if key in _CONTENT}
        body = as_text(event.body)
        if said:  # whole: attributes are cut
            body = as_text(said if event.body is None else {"body": event.body, **said})
        words = self._clean({"name": event.name[:MAX_NAME], **_who(event.resource, event.attributes, origin)}, seen)
        return EventRecord(
            ts_us=ts_us,
            trace_id=event.trace_id,
            span_id=event.span_id,
            name=words["name"],
            env=words["env"],
            app=words["app"],
            body=self._long(body, MAX_BODY, seen),
            attributes=self._attributes({k: v for k, v in event.attributes.items() if k not in said}, seen),
            redaction=seen,
        )

    def _score(self, event: OtlpEvent, value: float, ts_us: int, origin: Origin, *, text: bool) -> ScoreRecord:
        seen = Redaction(status="clean")
        told = event.attributes
        words = self._clean(
            {
                "name": as_text(told.get(_SCORE_NAME))[:MAX_NAME] or "evaluation",
                "label": as_text(told.get(_SCORE_LABEL))[:MAX_NAME],
                "route": as_text(told.get("pilothouse.route") or event.resource.get("pilothouse.route"))[:MAX_NAME],
                **_who(event.resource, told, origin),
            },
            seen,
        )
        # Made of what it says, so that an exporter's retry is the same score.
        same = f"{event.trace_id}/{event.span_id}/{words['name']}/{event.time_ns}/{value!r}/{words['label']}"
        return ScoreRecord(
            id=hashlib.sha256(same.encode("utf-8", "replace")).hexdigest()[:32],
            ts_us=ts_us,
            trace_id=event.trace_id,
            span_id=event.span_id,
            route=words["route"],
            env=words["env"],
            name=words["name"],
            value=value,
            label=words["label"],
            comment=self._long(as_text(told.get(_SCORE_WHY)), MAX_COMMENT, seen) if text else "",
            source="scorer",
        )

    # ---- words -------------------------------------------------------------------------------------------------------

    def _attributes(self, told: Mapping[str, Any], seen: Redaction) -> dict[str, str]:
        """At most 128 attributes of bounded length, without who the user is."""
        kept = [(key[:MAX_NAME], value) for key, value in told.items() if key not in _IDENTITY]
        few = {key: self._long(text, MAX_VALUE, seen, only_long=True) for key, text in _texts(kept[:MAX_ATTRIBUTES])}
        clean = self._clean(few, seen, keys=True)
        bounded = {key: _cut(value, MAX_VALUE) for key, value in clean.items()}
        dropped = len(kept) - MAX_ATTRIBUTES
        return {**bounded, "pilothouse.dropped_attributes": str(dropped)} if dropped > 0 else bounded

    def _clean(self, texts: Mapping[str, str], seen: Redaction, *, keys: bool = False) -> dict[str, str]:
        """Redacted values, and keys where asked. One look over all of them tells whether any needs work."""
        joined = "\n".join(f"{key}: {text}" for key, text in texts.items() if text)
        if not joined or not self.redact(joined).classes:
            return dict(texts)
        clean: dict[str, str] = {}
        for key, text in texts.items():
            name = self._one(self.redact, key, seen) if keys else key
            label = f"{key}: " if keys else ""  # a phone number or a password is told by what stands before it
            value = self._one(self.redact, label + text, seen)
            clean[name] = value.removeprefix(label)
        return clean

    def _long(self, text: str, limit: int, seen: Redaction, *, only_long: bool = False) -> str:
        """`text` redacted and bounded. What the first cut tears apart is cut off again, wherever redaction moved it."""
        if only_long and len(text) <= limit:
            return text
        whole = len(text) <= limit + 2 * _TORN
        clean = self._one(self.redact_json if text[:1] in ("{", "[") else self.redact, text[: limit + 2 * _TORN], seen)
        return _cut(clean if whole else clean[: max(0, len(clean) - _TORN)], limit)

    def _one(self, redact: Redact, text: str, seen: Redaction) -> str:
        if not text:
            return ""
        result = redact(text)
        for kind, n in result.classes.items():
            seen.status = "redacted"
            seen.classes[kind] = seen.classes.get(kind, 0) + n
        seen.secrets += result.secrets
        return result.text


def _bare(event: OtlpEvent, ts_us: int, origin: Origin, redaction: Redaction) -> EventRecord:
    """An event without a word from outside."""
    return EventRecord(
        ts_us=ts_us,
        trace_id=event.trace_id,
        span_id=event.span_id,
        name=event.name if event.name in NAMES else "gen_ai",
        env=origin.env or origin.default_env,
        redaction=redaction,
    )


def _texts(told: list[tuple[str, Any]]) -> Iterator[tuple[str, str]]:
    return ((key, as_text(value)) for key, value in told)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _score(attributes: Mapping[str, Any]) -> float | None:
    """The score's value, else what its label stands for; None where it says neither."""
    value = attributes.get(_SCORE_VALUE)
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return _VERDICTS.get(as_text(attributes.get(_SCORE_LABEL)).strip().lower()) if value is None else None


def _who(resource: Mapping[str, Any], attributes: Mapping[str, Any], origin: Origin) -> dict[str, str]:
    """`env` and `app`, the record's word before its resource's."""
    found = {}
    for field in ("env", "app"):
        keys = [key for dialect in DIALECTS for key in dialect.fields.get(field, ())]
        texts = (as_text(source[key]) for source in (attributes, resource) for key in keys if source.get(key))
        found[field] = next(texts, "")[:MAX_NAME]
    found["env"] = origin.env or _ENVIRONMENTS.get(found["env"].lower(), found["env"]) or origin.default_env
    return found
