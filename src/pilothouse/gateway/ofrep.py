"""Flags over OpenFeature's Remote Evaluation Protocol (OFREP 0.3): one flag, all flags, and news of changes.

A key reads the flags of its own environment, out of the worker's table. An answer to `all` has an ETag of its values
for that context, so that a client which asks again learns whether they changed and nothing else.
"""

import asyncio
import hashlib
import hmac
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from pilothouse.domain.clock import Clock
from pilothouse.domain.errors import LimitExceeded, PilothouseError, TooLarge, Unauthorized
from pilothouse.domain.flag_evaluation import KEY, ErrorCode, Evaluation, evaluate
from pilothouse.domain.principal import Principal
from pilothouse.domain.table import Table
from pilothouse.domain.wires import Authenticate, TableReader
from pilothouse.gateway.flag_counts import FlagCounts
from pilothouse.gateway.replies import JSON, SSE
from pilothouse.gateway.types import Client, Headers

ALL = "/ofrep/v1/evaluate/flags"
ONE = ALL + "/"
EVENTS = "/ofrep/v1/events"
PING_S = 15.0  # a comment line so often, so that what stands between does not take the stream for dead
INACTIVE_S = 120  # a client that nobody looks at may close its stream after so long
RATES_MAX = 10_000  # keys whose rate is remembered
_REASONS = {"DEFAULT": "UNKNOWN"}  # the protocol's list of reasons lacks it; `metadata` has it
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class Said(msgspec.Struct, frozen=True):
    """An answer."""

    status: int
    body: bytes = b""
    headers: Headers = []


class _Listener:
    """A client that waits for news of an environment's flags."""

    def __init__(self, env: str) -> None:
        self.env = env
        self.news = asyncio.Event()


class Ofrep:
    """A worker's flags. `sign`: a keyed hash, which opens the stream of events to who has read flags with a key."""

    def __init__(
        self,
        table: TableReader,
        authenticate: Authenticate,
        counts: FlagCounts,
        clock: Clock,
        sign: Callable[[str], str],
    ) -> None:
        self.counts = counts
        self._table = table
        self._authenticate = authenticate
        self._clock = clock
        self._sign = sign
        self._rates: dict[str, float] = {}  # key → when its bucket is empty again, Clock.monotonic
        self._listeners: set[_Listener] = set()
        self._seen: Mapping[str, Any] = {}
        self._stopping = False

    # --- values

    def one(self, key: str, body: bytes, authorization: str | None, refused: Exception | None = None) -> Said:
        """`POST /ofrep/v1/evaluate/flags/{key}`."""
        try:
            table, principal = self._admitted(authorization, refused)
        except PilothouseError as error:
            return _refused(error, key)
        context = _context(body)
        if not isinstance(context, dict):
            return _failed(400, context, key)
        flag = table.flags.get(principal.env, {}).get(key)
        if flag is None:
            said = f"there is no flag {key!r} in {principal.env}"
            return _failed(404, Evaluation(key, "ERROR", error="FLAG_NOT_FOUND", detail=said), key)
        made = evaluate(flag, context)
        self.counts.add(principal.env, made)
        return Said(400 if made.error else 200, _encode(wire(made)))

    def all(
        self, body: bytes, authorization: str | None, if_none_match: str | None, refused: Exception | None = None
    ) -> Said:
        """`POST /ofrep/v1/evaluate/flags`; 304 where the client has these very values."""
        try:
            table, principal = self._admitted(authorization, refused)
        except PilothouseError as error:
            return _refused(error)
        context = _context(body)
        if not isinstance(context, dict):
            return _failed(400, context)
        made = [evaluate(flag, context) for flag in table.flags.get(principal.env, {}).values()]
        flags = _encode([wire(one) for one in made])
        etag = f'"{hashlib.blake2b(flags, digest_size=12).hexdigest()}"'
        if matches(if_none_match, etag):
            return Said(304, headers=[("etag", etag)])
        for one in made:
            self.counts.add(principal.env, one)
        more = {
            "metadata": {"environment": principal.env, "revision": table.revision},
            "eventStreams": [
                {
                    "type": "sse",
                    "endpoint": {"requestUri": f"{EVENTS}?token={self._token(principal.key_id)}"},
                    "inactivityDelaySec": INACTIVE_S,
                }
            ],
        }
        return Said(200, b'{"flags":' + flags + b"," + _encode(more)[1:], [("etag", etag)])

    def _admitted(self, authorization: str | None, refused: Exception | None) -> tuple[Table, Principal]:
        """The table and who asks; raises Unauthorized, LimitExceeded, TooLarge."""
        table = self._table()
        principal = self._authenticate(authorization, table)
        rate = table.flag_rate
        if rate is not None:
            now, gap = self._clock.monotonic(), rate.per_s / rate.amount
            empty = max(self._rates.get(principal.key_id, 0.0), now) + gap
            if empty - now > rate.per_s + 1e-9:
                wait = empty - now - rate.per_s
                raise LimitExceeded("this key reads flags too often", hint="ask again later", retry_after_s=wait)
            if len(self._rates) >= RATES_MAX and principal.key_id not in self._rates:
                self._rates.clear()
            self._rates[principal.key_id] = empty
        if refused is not None:
            raise TooLarge("the body is over the limit")
        return table, principal

    # --- news

    def changed(self, table: Table) -> None:
        """There is another table: who waits for an environment whose flags differ is told."""
        before, self._seen = self._seen, table.flags
        for listener in self._listeners:
            if before.get(listener.env) != table.flags.get(listener.env):
                listener.news.set()

    def stop(self) -> None:
        """End every stream."""
        self._stopping = True
        for listener in self._listeners:
            listener.news.set()

    @property
    def listening(self) -> int:
        """Clients that wait for news."""
        return len(self._listeners)

    async def events(self, token: str, client: Client) -> None:
        """`GET /ofrep/v1/events`: an event at once, since something may have changed before; then at each change."""
        try:
            env = self._environment(token)
        except PilothouseError as error:
            said = _refused(error)
            client.whole(said.status, [("content-type", JSON)], said.body)
            return
        listener = _Listener(env)
        self._listeners.add(listener)
        try:
            client.begin(200, [("content-type", SSE)])
            await client.send(b"retry: 500\n\n" + self._event())
            while not self._stopping:
                try:
                    async with asyncio.timeout(PING_S):
                        await listener.news.wait()
                except TimeoutError:
                    await client.send(b": still here\n\n")
                    continue
                listener.news.clear()
                if not self._stopping:
                    await client.send(self._event())
        finally:
            self._listeners.discard(listener)

    def _event(self) -> bytes:
        table = self._table()
        at = f"{table.revision}-{table.issued_us}"
        told = {"type": "refetchEvaluation", "etag": at, "lastModified": table.issued_us // 1_000_000}
        return f"id: {at}\nevent: message\ndata: ".encode() + _encode(told) + b"\n\n"

    def _token(self, key_id: str) -> str:
        """Opens the stream of events, and nothing else, as long as the key lives."""
        return f"{key_id or '-'}.{self._sign('flag events ' + key_id)}"

    def _environment(self, token: str) -> str:
        """The environment that a token is for; raises Unauthorized."""
        shown, table = token.partition(".")[0], self._table()
        key_id = "" if shown == "-" else shown
        if hmac.compare_digest(token.encode(), self._token(key_id).encode()):
            if key_id in table.keys:
                return table.keys[key_id].env
            if not key_id and table.anonymous:
                return "dev"
        raise Unauthorized("the token opens no stream", where="token", hint="take the address from a new bulk answer")


def wire(made: Evaluation) -> dict[str, Any]:
    """An evaluation in the protocol's words."""
    if made.error:
        return {"key": made.key, "errorCode": made.error, "errorDetails": made.detail}
    said: dict[str, Any] = {
        "key": made.key,
        "reason": _REASONS.get(made.reason, made.reason),
        "variant": made.variant,  # there even where there is no value: clients look for it
    }
    if made.value is not None:
        said["value"] = made.value
    metadata = {"rule": made.rule} if made.rule else {}
    if made.reason in _REASONS:
        metadata["reason"] = made.reason
    if metadata:
        said["metadata"] = metadata
    return said


def matches(if_none_match: str | None, etag: str) -> bool:
    """Whether the header names this ETag (RFC 9110 section 13.1.2, compared weakly)."""
    if if_none_match is None:
        return False
    given = [one.strip().removeprefix("W/") for one in if_none_match.split(",")]
    return etag in given or etag.strip('"') in given or "*" in given


def _context(body: bytes) -> dict[str, Any] | Evaluation:
    """The evaluation context, or what is wrong with it. A body without one is an empty context."""
    try:
        given = _decode(body) if body.strip() else {}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return _wrong("PARSE_ERROR", f"the body is not JSON: {error}")
    if not isinstance(given, dict):
        return _wrong("PARSE_ERROR", "the body is not a JSON object: send {context: {targetingKey, …}}")
    context = given.get("context", {})
    if not isinstance(context, dict):
        return _wrong("INVALID_CONTEXT", "the context is not a JSON object")
    if not isinstance(context.get(KEY, ""), str):
        return _wrong("INVALID_CONTEXT", "targetingKey is not a string")
    return context


def _wrong(code: ErrorCode, detail: str) -> Evaluation:
    return Evaluation("", "ERROR", error=code, detail=detail)


def _failed(status: int, made: Evaluation, key: str | None = None) -> Said:
    named = {} if key is None else {"key": key}
    return Said(status, _encode(named | {"errorCode": made.error, "errorDetails": made.detail}))


def _refused(error: PilothouseError, key: str | None = None) -> Said:
    said = _failed(error.status, _wrong("GENERAL", str(error)), key)
    if isinstance(error, LimitExceeded):
        wait = max(1, -int(-(error.retry_after_s or 1.0) // 1))
        return msgspec.structs.replace(said, headers=[("retry-after", str(wait))])
    return said
