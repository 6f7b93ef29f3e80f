"""Answers given again to equal requests of the same release and scope.

A key is the hash of all that the answer depends on and of whom it may be shown to, so that no other tenant's and no
other release's answer can be found under it. Kept is what the client got, as it got it: a whole body, or all events
of a stream that was complete. A cache that fails is a cache that has nothing.
"""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec
import structlog

from pilothouse.domain.clock import Clock
from pilothouse.domain.model_ref import ModelRef
from pilothouse.domain.policy import Cache, Policy
from pilothouse.domain.record import CacheUse, Record
from pilothouse.gateway.semantic import Near, Wish, wish
from pilothouse.providers.openai import Completion
from pilothouse.store.cache import Backend

log = structlog.get_logger("pilothouse.gateway")

_DONE = frozenset(("stop", "end_turn", "stop_sequence", "completed", ""))  # reasons to end that are the answer's own
_encode = msgspec.msgpack.Encoder().encode


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """An answer as its client got it."""

    body: bytes
    content_type: str
    made_us: int  # Clock.now_us
    text: str = ""  # its own text
    reply: bytes = b""  # what the record keeps, where that is not the body: the message that a stream made
    cost_usd: float | None = None  # of the request that made it
    provider: str = ""
    served_model: str = ""
    fingerprint: str = ""
    finish_reason: str = ""


_decode = msgspec.msgpack.Decoder(Kept).decode


class Hit(msgspec.Struct, frozen=True):
    """A kept answer that may be given."""

    kept: Kept
    use: Literal["hit", "semantic", "stale"]
    age_s: float


class Asked(msgspec.Struct):
    """A request as the cache sees it. `use` becomes the record's `cache`."""

    key: str
    ttl_s: float
    keep_s: float  # how long it is kept: a fallback may take an answer that is older than its ttl
    wait_s: float  # how long an equal request that is on its way is waited for
    may_look: bool = True
    may_keep: bool = True
    wish: Wish | None = None  # what is compared by meaning
    use: CacheUse = "miss"
    leading: bool = False  # equal requests wait for this one


def asked(
    policy: Policy,
    record: Record,
    *,
    form: str,
    model: ModelRef,
    upstream: bytes,
    body: Any,
    header: Callable[[str], str | None],
) -> Asked | None:
    """The request for the cache; None where its route keeps nothing.

    `form`: the API and all else that the answer's shape depends on and `upstream` does not say: whether the client
    wants a stream, and usage in it. `model`: the route's own, or the pinned one; `upstream`: the upstream body with it.
    `body`: the client's, for what is compared by meaning.
    """
    rule = policy.cache or Cache()
    stale_s = max((step.cached for step in policy.fallback if step.cached is not None), default=0.0)
    keep_s = max(rule.ttl, stale_s)
    if keep_s <= 0:
        return None
    owner = _owner(rule.scope, record)
    told = {word.strip() for word in (header("cache-control") or "").lower().split(",")}
    bypass = (header("x-pilothouse-cache") or "").strip().lower() == "bypass"
    may_look = owner is not None and rule.ttl > 0 and not bypass and not told & {"no-store", "no-cache"}
    parts = (record.env, record.route, rule.scope, owner or "", record.manifest, str(model), form)
    semantic = rule.semantic is not None and may_look
    return Asked(
        key=_hash(*parts, upstream),
        ttl_s=rule.ttl,
        keep_s=keep_s,
        wait_s=min(policy.timeout.first_token, policy.timeout.total / 2),
        may_look=may_look,
        may_keep=owner is not None and not bypass and "no-store" not in told,
        wish=wish(body, _hash(*parts), rule.semantic) if semantic and rule.semantic is not None else None,
        use="miss" if may_look else ("bypass" if rule.ttl > 0 else ""),
    )


def _owner(scope: str, record: Record) -> str | None:
    """Who shares an answer; None where nobody is known: strangers share nothing."""
    match scope:
        case "key":
            return record.key_id  # empty on a loopback without keys, where there is one user
        case "session":
            return record.session or None
        case "user":
            return record.user or None
        case "segment":
            return record.segment or None
        case _:
            return ""


def _hash(*parts: str | bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big"))  # no two lists of parts read alike
        digest.update(data)
    return digest.hexdigest()


def worth(record: Record, completion: Completion | None) -> bool:
    """Whether this answer may be given again.

    Not: failures and fallbacks, refusals (the next sample may answer), truncated or invalid output, broken streams,
    and calls of tools (to act twice on one decision is another matter than to say it twice).
    """
    valid = record.validation is None or (record.validation.ok and not record.validation.delivered_invalid)
    if record.outcome != "success" or record.status != 200 or not valid or record.stream_end not in ("", "complete"):
        return False
    return completion is None or _complete(completion)


def _complete(completion: Completion) -> bool:
    called = any(c.message is not None and c.message.tool_calls for c in completion.choices)
    return not completion.refused and not called and all((c.finish_reason or "") in _DONE for c in completion.choices)


class Answers:
    """A worker's cache. Each `lookup` is followed by `done`, whatever becomes of the request."""

    def __init__(self, backend: Backend, clock: Clock, near: Near | None = None) -> None:
        self._backend = backend
        self._clock = clock
        self._near = near
        self._flights: dict[str, asyncio.Future[bytes | None]] = {}
        self.failures = 0  # of the backend

    async def lookup(self, asked: Asked) -> Hit | None:
        """A kept answer; waits for an equal request that is on its way. `asked.use` says what it was."""
        if not asked.may_look:
            return None
        hit = await self._exact(asked, asked.ttl_s, "hit") or await self._semantic(asked)
        if hit is None:
            hit = await self._follow(asked)
        if hit is not None:
            asked.use = hit.use
        return hit

    async def stale(self, asked: Asked, max_age_s: float) -> Hit | None:
        """The newest answer to an equal request, at most so old, whatever its ttl."""
        if not asked.may_keep:
            return None
        hit = await self._exact(asked, max_age_s, "stale")
        if hit is not None:
            asked.use = "stale"
        return hit

    async def store(self, asked: Asked, kept: Kept) -> None:
        """Keep an answer that is `worth` it, and hand it to those who wait for it."""
        if not asked.may_keep:
            return
        data = _encode(kept)
        if asked.leading and (flight := self._flights.get(asked.key)) is not None and not flight.done():
            flight.set_result(data)
        try:
            await self._backend.put(asked.key, data, asked.keep_s)
        except Exception as error:  # noqa: BLE001  # plugin call: a cache that fails keeps nothing
            self._failed(error)
            return
        if asked.wish is not None and self._near is not None:
            self._near.add(asked.wish, asked.key)

    def done(self, asked: Asked) -> None:
        """The request is over. Those who waited for it in vain go on by themselves."""
        if asked.leading and (flight := self._flights.pop(asked.key, None)) is not None and not flight.done():
            flight.set_result(None)

    async def close(self) -> None:
        """Let go of the backend's connections."""
        await self._backend.close()

    async def _exact(self, asked: Asked, max_age_s: float, use: Literal["hit", "stale"]) -> Hit | None:
        kept, age_s = await self._read(asked.key)
        return Hit(kept, use, age_s) if kept is not None and age_s <= max_age_s else None

    async def _semantic(self, asked: Asked) -> Hit | None:
        if asked.wish is None or self._near is None:
            return None
        await self._near.ready()
        for key in self._near.find(asked.wish):
            kept, age_s = await self._read(key)
            if kept is not None and age_s <= asked.ttl_s:
                return Hit(kept, "semantic", age_s)
            self._near.forget(asked.wish, key)
        return None

    async def _follow(self, asked: Asked) -> Hit | None:
        """Wait for the equal request that is on its way, or be the one that others wait for."""
        flight = self._flights.get(asked.key)
        if flight is None:
            self._flights[asked.key] = asyncio.get_running_loop().create_future()
            asked.leading = True
            return None
        try:
            data = await asyncio.wait_for(asyncio.shield(flight), asked.wait_s)
        except TimeoutError:
            return None
        kept = _decode(data) if data is not None else None
        return Hit(kept, "hit", self._age_s(kept)) if kept is not None else None

    async def _read(self, key: str) -> tuple[Kept | None, float]:
        try:
            data = await self._backend.get(key)
            kept = _decode(data) if data is not None else None
        except Exception as error:  # noqa: BLE001  # plugin call: a cache that fails has nothing
            self._failed(error)
            return None, 0.0
        return kept, self._age_s(kept) if kept is not None else 0.0

    def _age_s(self, kept: Kept) -> float:
        return max(0.0, (self._clock.now_us() - kept.made_us) / 1e6)

    def _failed(self, error: Exception) -> None:
        self.failures += 1
        if self.failures == 1 or self.failures % 1000 == 0:
            log.warning("the cache failed; requests go on without it", error=type(error).__name__, times=self.failures)


def note_hit(record: Record, hit: Hit) -> None:
    """What a record says of an answer from the cache: it cost nothing, and what it would have cost is known or not."""
    kept = hit.kept
    record.cache, record.saved_usd = hit.use, kept.cost_usd
    record.cost_usd, record.cost_source, record.tokens = 0.0, "cache", None
    record.provider, record.served_model, record.fingerprint = kept.provider, kept.served_model, kept.fingerprint
    record.status = 200
    record.outcome = "fallback" if hit.use == "stale" else "success"


def hit_headers(hit: Hit) -> Sequence[tuple[str, str]]:
    """What the client reads of it."""
    return (("x-pilothouse-cache", hit.use), ("age", str(int(hit.age_s))))
