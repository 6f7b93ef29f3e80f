"""Answers given to requests that mean the same though they are worded otherwise (extra `semantic`).

Only the last user message may differ, and only within one release, scope and conversation. Static embeddings put
“Paris” beside “Berlin”, so that similarity alone decides nothing: numbers, names, quoted text, negations and opposites
must agree, and each word that is in one text alone must have its like in the other.
"""

import asyncio
import hashlib
import importlib.util
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from pilothouse.domain.errors import ConfigError
from pilothouse.gateway.meaning import Said, agree, opposed, said

LONGEST = 400  # characters; a longer message is compared for equality alone
PER_BUCKET = 256  # messages remembered of one conversation and scope
BUCKETS = 4096
LIKE = 0.5  # cosine of two words; of 53 pairs of rivals 7 reach it, nearly all of which `meaning` tells apart
_NOT_ASKED = frozenset(("metadata", "user", "safety_identifier", "prompt_cache_key"))  # whose it is says the owner
_MEMORY = 8192  # words


class Wish(msgspec.Struct, frozen=True):
    """A last user message, and the hash of everything else that its answer depends on."""

    text: str
    bucket: str
    least: float  # cosine


def wish(body: Any, owner: str, least: float) -> Wish | None:
    """What of a client's body is compared by meaning; None where there is no short last user message of text alone."""
    if not isinstance(body, dict):
        return None
    for field in ("messages", "input"):
        given = body.get(field)
        if isinstance(given, str):
            return _wish(given, body | {field: ""}, owner, least)
        turns = given if isinstance(given, list) else []
        last = turns[-1] if turns else None
        if isinstance(last, dict) and last.get("role") == "user":
            text = _only_text(last.get("content"))
            rest = body | {field: [*turns[:-1], last | {"content": ""}]}
            return _wish(text, rest, owner, least) if text else None
    return None


def _only_text(content: Any) -> str:
    if isinstance(content, list) and len(content) == 1 and isinstance(content[0], dict):
        content = content[0].get("text") if set(content[0]) == {"type", "text"} else None
    return content if isinstance(content, str) else ""


def _wish(text: str, rest: dict[str, Any], owner: str, least: float) -> Wish | None:
    if not 0 < len(text) <= LONGEST:
        return None
    rest = {k: v for k, v in rest.items() if k not in _NOT_ASKED}
    digest = hashlib.sha256(owner.encode() + b"\0" + msgspec.json.encode(rest))
    return Wish(text, digest.hexdigest(), least)


def require() -> None:
    """Raises ConfigError where the extra is not installed."""
    if importlib.util.find_spec("wordllama") is None:
        raise ConfigError(
            "policy.cache.semantic needs word embeddings",
            where="policy.cache.semantic",
            hint="pip install 'pilothouse[semantic]'",
            code="missing_extra",
        )


class Embedder:
    """Static embeddings: 35 µs a text. The weights are in the package; nothing is fetched."""

    def __init__(self) -> None:
        require()
        import wordllama  # noqa: PLC0415  # optional extra

        folder = str(Path(wordllama.__file__).parent)
        self._model = wordllama.WordLlama.load(cache_dir=folder, disable_download=True)
        self._words: OrderedDict[str, Any] = OrderedDict()

    def text(self, text: str) -> Any:
        """Its vector, of length 1."""
        return self._model.embed([text], norm=True)[0]

    def like(self, one: str, other: str) -> bool:
        """Whether two words may stand for one another."""
        if opposed(one, other):
            return False
        return float(self._word(one) @ self._word(other)) >= LIKE

    def _word(self, word: str) -> Any:
        vector = self._words.get(word)
        if vector is None:
            if len(self._words) >= _MEMORY:
                self._words.popitem(last=False)
            vector = self._words[word] = self.text(word)
        return vector


class _Bucket:
    """The messages of one conversation and scope, newest last."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, Said, Any]] = []  # key, facts, vector

    def ranked(self, vector: Any, least: float) -> Iterator[tuple[str, Said]]:
        """Those at least so near, the nearest first."""
        near = [(float(row[2] @ vector), row) for row in self.rows]
        for cosine, row in sorted(near, key=lambda pair: -pair[0]):
            if cosine < least:
                return
            yield row[0], row[1]


class Near:
    """The messages that a worker has answers to. The embeddings, 80 MB, are loaded when they are first needed."""

    def __init__(self, embedder: Embedder | None = None) -> None:
        self._embedder = embedder
        self._loading = asyncio.Lock()
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    async def ready(self) -> None:
        """Wait for the embeddings, which are loaded beside the event loop; ConfigError where there are none."""
        if self._embedder is None:
            async with self._loading:
                self._embedder = self._embedder or await asyncio.to_thread(Embedder)

    def find(self, wish: Wish) -> list[str]:
        """Cache keys of the answers to messages that ask the same, the nearest first."""
        bucket = self._buckets.get(wish.bucket)
        if bucket is None or self._embedder is None:
            return []
        self._buckets.move_to_end(wish.bucket)
        facts = said(wish.text)
        near = bucket.ranked(self._embedder.text(wish.text), wish.least)
        return [key for key, other in near if agree(facts, other, self._embedder.like)]

    def add(self, wish: Wish, key: str) -> None:
        """Remember a message whose answer is kept under `key`."""
        if self._embedder is None:
            return
        bucket = self._buckets.setdefault(wish.bucket, _Bucket())
        bucket.rows = [row for row in bucket.rows[-PER_BUCKET + 1 :] if row[0] != key]
        bucket.rows.append((key, said(wish.text), self._embedder.text(wish.text)))
        while len(self._buckets) > BUCKETS:
            self._buckets.popitem(last=False)

    def forget(self, wish: Wish, key: str) -> None:
        """The answer under `key` is gone."""
        bucket = self._buckets.get(wish.bucket)
        if bucket is not None:
            bucket.rows = [row for row in bucket.rows if row[0] != key]
