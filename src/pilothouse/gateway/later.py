"""What happens after the client was told to wait: answers that are worked on later, and requests handed to people.

A delayed request is answered with 202 and an address to ask at. The work goes on here, with a record of its own, and
its answer is kept for an hour in a directory that the host's workers share, so that any of them can be asked. What is
kept there is sealed under the address and the client's own API key, neither of which is on the disk: nobody but that
client can read it, whoever has the files.
"""

import asyncio
import contextlib
import hashlib
import os
import secrets
import urllib.parse
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pilothouse.domain.clock import Clock
from pilothouse.domain.errors import ConfigError, NotFound, PilothouseError, ServerError, UpstreamError
from pilothouse.domain.policy import Fallback
from pilothouse.domain.tasks import Tasks
from pilothouse.gateway.calls import Calls
from pilothouse.gateway.deadline import Alarm
from pilothouse.gateway.types import Answer, Client, Draft, Headers
from pilothouse.providers.upstream import Call

log = structlog.get_logger("pilothouse.later")

KEPT_S = 3600.0  # an answer can be fetched for so long
GRACE_S = 10.0  # after its time, work of which nothing is heard is lost
WEBHOOK_S = 5.0
ASK_AGAIN_S = 2.0  # Retry-After of work under way
AT_ONCE = 256  # requests that one worker works on later
KEPT_MAX = 10_000  # answers that are kept, those under way included
WEBHOOK = "x-pilothouse-webhook"
JSON = "application/json"
_encode = msgspec.json.Encoder().encode

Redo = Callable[[Client, float], Awaitable[None]]  # serve the request again, for a client, within so many seconds


class Kept(msgspec.Struct):
    """An answer as its client would have got it."""

    status: int
    headers: Headers
    body: bytes


class _Keeper:
    """The client of a request that is worked on later."""

    def __init__(self) -> None:
        self.kept = Kept(504, [], b"")

    def whole(self, status: int, headers: Headers, body: bytes) -> None:
        """The whole answer."""
        self.kept = Kept(status, headers, body)

    def begin(self, status: int, headers: Headers) -> None:
        """The head of a stream."""
        self.kept = Kept(status, headers, b"")

    async def send(self, data: bytes) -> None:
        """More of it."""
        self.kept.body += data


class Later:
    """The requests of a worker that are answered later. `folder` None: none can be, but they can be handed over."""

    def __init__(self, calls: Calls, clock: Clock, folder: Path | None) -> None:
        self._calls = calls
        self._clock = clock
        self._folder = folder
        self._tasks = Tasks()

    @property
    def pending(self) -> int:
        """Requests that are being worked on."""
        return len(self._tasks)

    async def close(self, within_s: float = 1.0) -> None:
        """Wait for what is under way, and give up the rest."""
        await self._tasks.drain(within_s)

    async def step(
        self, draft: Draft, redo: Redo, step: Fallback, error: PilothouseError, static: str | None
    ) -> Answer | None:
        """What the fallback steps `delayed` and `handoff` bring; None where they cannot help."""
        if step.handoff is not None:
            return await self._hand_over(draft, step, error, static)
        return await self._delay(draft, redo, step)

    # --- to people

    async def _hand_over(
        self, draft: Draft, step: Fallback, error: PilothouseError, static: str | None
    ) -> Answer | None:
        record, parsed = draft.record, draft.parsed
        told = {
            "id": record.id,
            "trace_id": record.trace_id,
            "ts_us": record.ts_us,
            "env": record.env,
            "route": record.route,
            "release": record.release,
            "error": {"code": error.kind, "message": error.what},
            "request": parsed.body if parsed is not None else {},
        }
        if not await self._post(step.handoff or "", _encode(told), record.id):
            return None
        if static is not None:
            return Answer(outcome=step.outcome, attempt=None, static=static)
        body = _encode({"id": record.id, "status": "escalated"})
        return Answer(step.outcome, None, body, content_type=JSON, ready=True, status=202)

    async def _post(self, webhook: str, body: bytes, name: str) -> bool:
        """Whether the webhook took it."""
        try:
            url = self._calls.secret(webhook) if webhook.startswith(("env://", "file://")) else webhook
            headers = [("content-type", JSON), ("idempotency-key", name)]
            loop = asyncio.get_running_loop()
            with Alarm(loop.time() + WEBHOOK_S, loop):
                reply = await self._calls.upstream.whole(Call(url, headers, body, WEBHOOK_S))
            if not 200 <= reply.status < 300:
                raise ServerError(f"the webhook answered with {reply.status}")
        except (TimeoutError, UpstreamError, ConfigError) as error:
            log.warning("a webhook did not take what it was sent", request=name, error=str(error) or "timeout")
            return False
        return True

    # --- to later

    async def _delay(self, draft: Draft, redo: Redo, step: Fallback) -> Answer | None:
        if self._folder is None or self.pending >= AT_ONCE:
            return None
        seconds = step.delayed or 0.0
        token = secrets.token_urlsafe(24)
        try:
            await asyncio.to_thread(self._reserve, token, seconds)
        except OSError as error:
            log.warning("a request cannot be answered later", request=draft.record.id, error=str(error))
            return None
        self._tasks.spawn(self._work(draft, redo, token, seconds))
        said = {"id": token, "status": "pending", "poll": f"/v1/delayed/{token}"}
        draft.headers.append(("retry-after", f"{ASK_AGAIN_S:g}"))
        return Answer(step.outcome, None, _encode(said), content_type=JSON, ready=True, status=202)

    async def _work(self, draft: Draft, redo: Redo, token: str, seconds: float) -> None:
        keeper = _Keeper()
        authorization, webhook = draft.incoming.authorization, draft.incoming.header(WEBHOOK)
        await redo(keeper, seconds)
        kept = keeper.kept
        await asyncio.to_thread(self._keep, token, authorization, kept)
        if webhook and draft.resolved is not None and allowed(webhook, draft.resolved.live.manifest.policy.webhooks):
            told = {"id": token, "status": kept.status, "body": msgspec.Raw(kept.body) if _is_json(kept) else ""}
            await self._post(webhook, _encode(told), token)

    async def poll(self, token: str, authorization: str | None) -> Kept:
        """What is there for a client that asks; raises NotFound, ServerError (`delayed_lost`)."""
        return await asyncio.to_thread(self._look, token, authorization)

    # --- the directory: a file's time of change is when it may go

    def _place(self, token: str) -> Path:
        if self._folder is None:
            raise NotFound("no answer is kept here", code="unknown_delayed")
        return self._folder / hashlib.blake2b(token.encode(), digest_size=16).hexdigest()

    def _reserve(self, token: str, seconds: float) -> None:
        place = self._place(token)
        place.parent.mkdir(mode=0o700, exist_ok=True)
        now, count = self._clock.now_us() * 1e-6, 0
        for other in os.scandir(place.parent):
            with contextlib.suppress(FileNotFoundError):
                if other.stat().st_mtime < now:
                    Path(other.path).unlink()
                else:
                    count += 1
        if count >= KEPT_MAX:
            raise OSError(f"{count} answers are kept already")
        until = now + seconds + GRACE_S
        _write(place, b"p%.3f" % until, until + KEPT_S)

    def _keep(self, token: str, authorization: str | None, kept: Kept) -> None:
        nonce = os.urandom(12)
        sealed = AESGCM(_key(token, authorization)).encrypt(nonce, msgspec.msgpack.encode(kept), None)
        _write(self._place(token), b"s" + nonce + sealed, self._clock.now_us() * 1e-6 + KEPT_S)

    def _look(self, token: str, authorization: str | None) -> Kept:
        unknown = NotFound("no such delayed answer, or no longer", where="id", code="unknown_delayed")
        place = self._place(token)
        try:
            data, now = place.read_bytes(), self._clock.now_us() * 1e-6
            if place.stat().st_mtime < now:
                raise unknown
        except FileNotFoundError:
            raise unknown from None
        if data.startswith(b"p"):
            if float(data[1:]) < now:
                raise ServerError(
                    "the delayed answer was lost: its worker ended", hint="ask again", code="delayed_lost"
                )
            body = _encode({"id": token, "status": "pending", "poll": f"/v1/delayed/{token}"})
            return Kept(202, [("content-type", JSON), ("retry-after", f"{ASK_AGAIN_S:g}")], body)
        try:
            plain = AESGCM(_key(token, authorization)).decrypt(data[1:13], data[13:], None)
        except InvalidTag:
            raise unknown from None
        return msgspec.msgpack.decode(plain, type=Kept)


def _key(token: str, authorization: str | None) -> bytes:
    return hashlib.blake2b(f"{token}\0{authorization or ''}".encode(), digest_size=32, person=b"ph-later").digest()


def _write(place: Path, data: bytes, goes: float) -> None:
    fresh = place.with_name(f"{place.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        out.write(data)
    os.utime(fresh, (goes, goes))
    fresh.replace(place)


def _is_json(kept: Kept) -> bool:
    return any(name == "content-type" and value.startswith(JSON) for name, value in kept.headers)


def allowed(webhook: str, hosts: tuple[str, ...]) -> bool:
    """Whether the policy names the webhook's host; only then is anything sent where a client says."""
    try:
        parts = urllib.parse.urlsplit(webhook)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and parts.username is None and parts.netloc in hosts
