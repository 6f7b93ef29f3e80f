"""OTLP over HTTP: `POST /v1/traces`, `/v1/logs`, `/v1/metrics`; `/healthz`, `/readyz`."""

import asyncio
import contextlib
import traceback
from typing import Any

import structlog
from granian.rsgi import HTTPProtocol, ProtocolClosed, ProtocolError, Scope  # type: ignore[attr-defined]

from pilothouse.domain.errors import ClientGone, NotFound, PilothouseError, RequestError, TooLarge
from pilothouse.server.ingest_receiver import UNREADABLE, Receiver
from pilothouse.telemetry import otlp
from pilothouse.telemetry.otlp_groups import LOGS, METRICS, TRACES

log = structlog.get_logger("pilothouse.ingest")

PATHS = {f"/v1/{signal.name}": signal for signal in (TRACES, LOGS, METRICS)}
RETRY_S = 5  # how long an exporter is asked to wait
DISCARD = 64 << 20  # bytes of a body over the limit that are read before the connection is given up
_STATUS = {
    "unavailable": 503,
    "backlog": 429,
    "method_not_allowed": 405,
}  # code → HTTP status where it is not the class's
_GRPC = {400: 3, 401: 16, 404: 5, 405: 12, 413: 8, 415: 3, 429: 8, 503: 14}  # HTTP status → gRPC code


class HttpDoor:
    """The RSGI application."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._live: set[asyncio.Task[Any]] = set()

    async def __rsgi__(self, scope: Scope, proto: HTTPProtocol) -> None:
        """One request, by path and method."""
        if scope.path in ("/healthz", "/readyz"):
            self._health(scope.path, proto)
            return
        task = asyncio.current_task()
        if task is not None:
            self._live.add(task)
        try:
            await self._export(scope, proto)
        except PilothouseError as error:
            _refuse(scope, proto, error)
        except Exception as error:  # noqa: BLE001  # the request boundary: one bad batch must not end the process
            # Where, but not the error's own text, which may quote what was sent.
            frames = traceback.format_tb(error.__traceback__)
            log.error("a batch could not be taken", error=type(error).__name__, frames=frames)
            _refuse(scope, proto, PilothouseError("the batch could not be taken", hint="see the log of ingest"))
        finally:
            if task is not None:
                self._live.discard(task)

    def _health(self, path: str, proto: HTTPProtocol) -> None:
        why = self._receiver.ready if path == "/readyz" else "ok"
        status = 200 if why in ("ok", "ready") else 503
        proto.response_str(status, [("content-type", "text/plain")], why + "\n")

    async def _export(self, scope: Scope, proto: HTTPProtocol) -> None:
        """Take a batch into the journal and answer; raises `PilothouseError` where it is not taken."""
        signal = PATHS.get(scope.path)
        if signal is None:
            raise NotFound(f"no such path: {scope.path}", where="path", hint=f"OTLP goes to POST {', '.join(PATHS)}")
        if scope.method != "POST":
            raise RequestError(f"{scope.method} is not allowed here", hint="use POST", code="method_not_allowed")
        headers = scope.headers
        principal = self._receiver.admit(headers.get("authorization"), headers.get("x-pilothouse-key"))
        try:
            kind = otlp.media_type(headers.get("content-type"))
            async with self._receiver.slots:
                data = otlp.decompress(await _body(scope, proto), headers.get("content-encoding"))
                answer = await self._receiver.keep(signal, data, kind, principal)
        except UNREADABLE as error:
            self._receiver.refuse(signal, error)
            raise
        proto.response_bytes(200, [("content-type", kind)], answer)

    async def drain(self, within_s: float) -> int:
        """Wait for the batches in flight, cancel the rest, which were not answered; the number cancelled."""
        if not self._live:
            return 0
        _, late = await asyncio.wait(set(self._live), timeout=within_s)
        for task in late:
            task.cancel()
        return len(late)


async def _body(scope: Scope, proto: HTTPProtocol) -> bytes:
    """The request's body; raises TooLarge, ClientGone.

    A body over the limit is read on and thrown away, to a bound: an exporter that is still sending would see a broken
    connection instead of the answer, and try for ever.
    """
    length = scope.headers.get("content-length")
    try:
        if length is not None and length.isdigit() and int(length) <= otlp.MAX_BODY:
            return await proto()
        parts, size = [], 0
        async for part in proto:
            size += len(part)
            if size <= otlp.MAX_BODY:
                parts.append(part)
            else:
                parts.clear()
            if size > DISCARD:
                break
    except (ProtocolClosed, ProtocolError) as error:
        raise ClientGone("the client closed the connection before its batch was complete") from error
    if size > otlp.MAX_BODY:
        raise TooLarge(
            f"the body is larger than {otlp.MAX_BODY >> 20} MiB", where="body", hint="export smaller batches"
        )
    return b"".join(parts)


def _refuse(scope: Scope, proto: HTTPProtocol, error: PilothouseError) -> None:
    """An error as OTLP wants it: a Status in the request's content type, JSON where that is not known."""
    sent = (scope.headers.get("content-type") or "").partition(";")[0].strip().lower()
    kind = otlp.PROTOBUF if sent == otlp.PROTOBUF else otlp.JSON
    status = _STATUS.get(error.kind, error.status)
    headers = [("content-type", kind)]
    if status in (429, 503):
        headers.append(("retry-after", str(RETRY_S)))
    if status == 405:
        headers.append(("allow", "POST"))
    with contextlib.suppress(ProtocolClosed, ProtocolError):  # the client may be gone
        proto.response_bytes(status, headers, otlp.failure(kind, _GRPC.get(status, 13), str(error)))
