"""The documents that a retrieval span reports: which, how well they matched, and how old their source was."""

import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from pilothouse.domain.record import Document
from pilothouse.telemetry.dialects import DIALECTS, Flattened

MAX_DOCUMENTS = 100
_IDS = ("id", "document_id", "doc_id", "source", "uri", "url")
_SCORES = ("score", "relevance_score", "similarity")
_AGES = ("age_s", "age_seconds")  # seconds
_UPDATED = ("source_updated_at", "updated_at", "last_modified", "modified_at", "published_at")  # ISO 8601 or epoch
_KEYS = frozenset(key for dialect in DIALECTS for key in dialect.documents)
_PREFIXES = tuple(shape.prefix for dialect in DIALECTS for shape in dialect.flat_documents)
_EPOCH_UNITS = ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3), (0.0, 1.0))  # from this size on, so many to a second


def documents(attributes: Mapping[str, Any], end_us: int) -> list[Document] | None:
    """The documents, in order; empty where the span says that nothing was found, None where it says nothing."""
    for dialect in DIALECTS:
        for key in dialect.documents:
            if (listed := _listed(attributes.get(key))) is not None:
                return _all(listed, end_us)
        for shape in dialect.flat_documents:
            if spread := unflatten(attributes, shape):
                return _all(spread, end_us)
    return None


def is_document_key(key: str) -> bool:
    """Whether the attribute is part of the documents, which are kept as such."""
    return key in _KEYS or is_flattened(key, _PREFIXES)


def is_flattened(key: str, prefixes: tuple[str, ...]) -> bool:
    """Whether `key` is one of `prefixes` and a number: `gen_ai.prompt.0.role`, but not `gen_ai.prompt.name`."""
    return key.startswith(prefixes) and any(
        key.startswith(p) and key[len(p) : len(p) + 1].isdecimal() for p in prefixes
    )


def unflatten(attributes: Mapping[str, Any], shape: Flattened) -> list[dict[str, Any]]:
    """`{prefix}{i}.{infix}{name}` → one mapping per i, in order of i."""
    rows: dict[int, dict[str, Any]] = {}
    for key, value in attributes.items():
        if not key.startswith(shape.prefix):
            continue
        index, _, name = key[len(shape.prefix) :].partition(".")
        if index.isdecimal() and len(index) < 6:
            rows.setdefault(int(index), {})[name.removeprefix(shape.infix)] = value
    return [rows[i] for i in sorted(rows)]


def parsed(value: Any) -> Any:
    """`value`, or what it says where it is JSON text."""
    if isinstance(value, str) and value[:1] in ("[", "{"):
        try:
            return msgspec.json.decode(value)
        except (msgspec.DecodeError, RecursionError):
            return value
    return value


def _listed(value: Any) -> list[Any] | None:
    found = parsed(value)
    return found if isinstance(found, list) else None


def _all(items: Iterable[Any], end_us: int) -> list[Document]:
    return [_document(item, end_us) for _, item in zip(range(MAX_DOCUMENTS), items, strict=False)]


def _document(item: Any, end_us: int) -> Document:
    entry = parsed(item)
    if not isinstance(entry, dict):
        return Document(id=str(entry))
    about = parsed(entry.get("metadata"))
    sources = [entry, about] if isinstance(about, dict) else [entry]
    identity = _first(sources, _IDS)
    return Document(
        id="" if identity is None else str(identity),
        score=_number(_first(sources, _SCORES)),
        age_s=_age(sources, end_us),
    )


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
