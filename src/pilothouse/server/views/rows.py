"""Rows of the telemetry store as the domain's structs again."""

from collections.abc import Mapping
from typing import Any

import msgspec

from pilothouse.domain.manifest import PARTS
from pilothouse.domain.record import (
    Attempt,
    Document,
    GuardHit,
    LimitHit,
    Record,
    Redaction,
    SpanRecord,
    Tokens,
    Validation,
)

_STAGES = ("queue", "preprocessing", "model", "postprocessing")
_SAME = (
    "id", "ts_us", "trace_id", "span_id", "source", "env", "route", "release", "inline", "canary", "manifest",
    "table_revision", "worker", "key_id", "stream", "outcome", "status", "duration_ms", "ttft_ms", "cost_usd",
)  # fmt: skip
_TEXT = (
    "parent_span_id", "app", "tier", "session", "user", "segment", "requested_model", "provider", "asked_model",
    "served_model", "fingerprint", "error_type", "error_message", "cost_source", "log_mode", "upstream_hash",
    "upstream_redacted_hash", "preview_in", "preview_out", "cache", "stream_end", "priority", "way",
)  # fmt: skip
_ATTEMPT = (
    "n", "kind", "provider", "model", "offset_ms", "duration_ms", "ttft_ms", "status", "error_type", "served_model",
    "fingerprint", "response_id", "finish_reason", "cost_usd", "delivered", "retry_after_s", "backoff_ms",
    "ratelimit_limit", "ratelimit_remaining",
)  # fmt: skip


def record(row: Mapping[str, Any]) -> Record:
    """A request's row (of `telemetry.read.request`) as its Record; the payload stays apart."""
    fields = {name: row[name] for name in _SAME} | {name: row.get(name) or "" for name in _TEXT}
    return msgspec.structs.replace(
        msgspec.convert(fields, Record),
        parts={part: row[f"part_{part}"] for part in PARTS if row.get(f"part_{part}")},
        stages={stage: row[f"stage_{stage}"] for stage in _STAGES if row.get(f"stage_{stage}") is not None},
        attempts=[attempt(one) for one in row.get("attempts", ())],
        tokens=tokens(row),
        validation=_validation(row),
        redaction=_redaction(row),
        labels=dict(row.get("labels") or {}),
        flags=dict(row.get("flags") or {}),
        api=row.get("api") or "chat",
        saved_usd=row.get("saved_usd"),
        queued_ms=row.get("queued_ms") or 0.0,
        delayed=bool(row.get("delayed")),
        limits=[_limit(text) for text in row.get("limit_hits") or ()],
        guards=[_guard(text) for text in row.get("guard_hits") or ()],
    )


def attempt(row: Mapping[str, Any]) -> Attempt:
    """A row of `attempts`."""
    known = msgspec.convert({name: row[name] for name in _ATTEMPT}, Attempt)
    return msgspec.structs.replace(
        known, tokens=tokens(row), cancelled=bool(row.get("cancelled")), trimmed=row.get("trimmed") or 0
    )


def _limit(text: str) -> LimitHit:
    """`name:what` or `name:what:shadow`; a name may hold colons, a period of a soft threshold too."""
    shadow = text.endswith(":shadow")
    name, _, what = text.removesuffix(":shadow").partition(":")
    return LimitHit(name, what, shadow=shadow)


def _guard(text: str) -> GuardHit:
    """`use:at:action:found`, from the right: the use of an app's own guardrail holds a colon."""
    use, at, action, found = text.rsplit(":", 3)
    return GuardHit(use, "input" if at == "input" else "output", action, found)


def tokens(row: Mapping[str, Any]) -> Tokens | None:
    """The buckets; None where none are known."""
    if row.get("input_uncached") is None:
        return None
    return Tokens(
        input_uncached=row["input_uncached"],
        cache_read=row["cache_read"] or 0,
        cache_write=row["cache_write"] or 0,
        output_text=row["output_text"] or 0,
        reasoning=row["reasoning"] or 0,
        estimated=bool(row.get("tokens_estimated")),
    )


def _validation(row: Mapping[str, Any]) -> Validation | None:
    if not row.get("structured"):
        return None
    return Validation(
        first_ok=bool(row["valid_first"]),
        ok=bool(row["valid"]),
        repairs=row["repairs"] or [],
        retried=row["validation_retries"] or 0,
        error=row["validation_error"] or "",
        missing=row["missing_fields"] or [],
        mismatched=row["mismatched_fields"] or [],
        delivered_invalid=bool(row["delivered_invalid"]),
        stages=row.get("validation_stages") or [],
        coerced=row.get("coerced_fields") or [],
        unlisted=row.get("unlisted_fields") or [],
    )


def _redaction(row: Mapping[str, Any]) -> Redaction | None:
    if not row.get("redaction_status"):
        return None
    return Redaction(
        status=row["redaction_status"], reason=row["redaction_reason"] or "", secrets=row["redaction_secrets"] or 0
    )


def span(row: Mapping[str, Any]) -> SpanRecord:
    """A row of `spans`."""
    documents = row.get("documents")
    text = (
        "parent_span_id", "operation", "stage", "env", "app", "route", "session", "user", "provider", "request_model",
        "response_model", "response_id", "trace_id", "span_id", "name",
        "error_type", "index_name", "index_version", "preview_in", "preview_out",
    )  # fmt: skip
    fields = {name: row.get(name) or "" for name in text}
    known = {"duration_ms": row["duration_ms"] or 0.0, "status": row["status"] or "unset", "ts_us": row["ts_us"]}
    return msgspec.structs.replace(
        msgspec.convert(fields | known, SpanRecord),
        tokens=tokens(row),
        documents=None if documents is None else [Document(**one) for one in documents],
        attributes=dict(row.get("attributes") or {}),
    )
