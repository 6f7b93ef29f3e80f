"""The documents that a retrieval span reports: which, how well they matched, and how old their source was."""

import math
from datetime import UTC, datetime
from typing import Any

from pilothouse.domain.record import Document
from pilothouse.telemetry.content import rows
from pilothouse.telemetry.dialects.index import LISTS_DOCUMENTS
from pilothouse.telemetry.said import Said
from pilothouse.telemetry.spans import OtlpSpan
from pilothouse.telemetry.text import as_text, parsed

MAX_DOCUMENTS = 100
_IDS = ("id", "document_id", "doc_id", "source", "doc_uri", "uri", "url")
_SCORES = ("score", "relevance_score", "similarity")
_AGES = ("age_s", "age_seconds")  # seconds
_UPDATED = ("source_updated_at", "updated_at", "last_modified", "modified_at", "published_at")  # ISO 8601 or epoch
_FINDS = ("retrieval", "rerank")
_EPOCH_UNITS = ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3), (0.0, 1.0))  # from this size on, so many to a second


def documents(said: Said, span: OtlpSpan, dialect: str, operation: str) -> tuple[list[Document] | None, int]:
    """The documents, in order, and how many were left out; empty where the span says that nothing was found, None
    where it says nothing.
    """
    listed = said.best("documents")
    if not isinstance(listed, list):
        listed = rows(span.events) if span.events else None
    if listed is None and dialect in LISTS_DOCUMENTS and operation in _FINDS:
        listed = _in_output(parsed(said.best("output")))
    if listed is None:
        return None, 0
    end_us = span.end_ns // 1_000
    return [_document(item, end_us) for item in listed[:MAX_DOCUMENTS]], max(0, len(listed) - MAX_DOCUMENTS)


def _in_output(value: Any) -> list[Any] | None:
    """The list that a retrieval's output is, or holds under one of the usual names."""
    for name in ("documents", "output", "outputs", "result"):
        if isinstance(value, dict) and isinstance(value.get(name), list):
            value = value[name]
    found = isinstance(value, list) and all(isinstance(item, dict) for item in value)
    return value if found else None


def _document(item: Any, end_us: int) -> Document:
    entry = parsed(item)
    if not isinstance(entry, dict):
        return Document(id=as_text(entry))
    entry = _unwrapped(entry)
    about = parsed(entry.get("metadata"))
    sources = [entry, about] if isinstance(about, dict) else [entry]
    identity = _first(sources, _IDS)
    return Document(
        id="" if identity is None else as_text(identity),
        score=_number(_first(sources, _SCORES)),
        age_s=_age(sources, end_us),
    )


def _unwrapped(entry: dict[str, Any]) -> dict[str, Any]:
    """The document itself, where LangChain wrote down how to construct it."""
    inner = entry.get("kwargs")
    return inner if isinstance(inner, dict) and entry.get("type") == "constructor" else entry


def _first(sources: list[dict[str, Any]], names: tuple[str, ...]) -> Any:
    return next((s[n] for n in names for s in sources if s.get(n) is not None), None)


def _number(value: Any) -> float | None:
    """A finite number, else None: an unknown score is not 0."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _age(sources: list[dict[str, Any]], end_us: int) -> float | None:
    """Seconds from the source's last change to the end of the span; a source from the future is 0 old."""
    stated = _number(_first(sources, _AGES))
    if stated is not None:
        return max(0.0, stated)
    updated = _instant(_first(sources, _UPDATED))
    return None if updated is None else max(0.0, end_us / 1e6 - updated)


def _instant(value: Any) -> float | None:
    """Seconds since 1970 of an epoch in s, ms, µs or ns, or of an ISO 8601 time (UTC where it names no zone)."""
    number = _number(value)
    if number is not None:
        return number / next(per for size, per in _EPOCH_UNITS if abs(number) >= size)
    if not isinstance(value, str):
        return None
    try:
        time = datetime.fromisoformat(value.strip())
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
