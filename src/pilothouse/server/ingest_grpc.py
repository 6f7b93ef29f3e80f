"""OTLP over gRPC, with the extra `grpc`: the same receiver behind the three services' `Export`."""

import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from pilothouse.domain.errors import PilothouseError, StateError
from pilothouse.server.ingest_receiver import UNREADABLE, Receiver
from pilothouse.server.preflight import require_grpc
from pilothouse.telemetry import otlp
from pilothouse.telemetry.otlp_groups import LOGS, METRICS, TRACES, Signal

log = structlog.get_logger("pilothouse.ingest")

_SERVICES = {
    "opentelemetry.proto.collector.trace.v1.TraceService": TRACES,
    "opentelemetry.proto.collector.logs.v1.LogsService": LOGS,
    "opentelemetry.proto.collector.metrics.v1.MetricsService": METRICS,
}
# An exporter tries UNAVAILABLE again, and drops a batch at every other code here.
_CODES = {"unavailable": "UNAVAILABLE", "backlog": "UNAVAILABLE"}
_BY_STATUS = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 413: "RESOURCE_EXHAUSTED"}


class GrpcDoor:
    """A gRPC server at `host:port`; without TLS, as the other doors. Raises StateError without the extra."""

    def __init__(self, receiver: Receiver, host: str, port: int) -> None:
        require_grpc()
        import grpc.aio  # noqa: PLC0415  # optional extra

        self._grpc = grpc
        self._receiver = receiver
        options = [("grpc.max_receive_message_length", otlp.MAX_DECODED), ("grpc.so_reuseport", 0)]
        self._server = grpc.aio.server(options=options)
        for service, signal in _SERVICES.items():
            handlers = {"Export": grpc.unary_unary_rpc_method_handler(self._exporter(signal))}
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        address = f"[{host}]" if ":" in host else host
        try:
            self._server.add_insecure_port(f"{address}:{port}")
        except RuntimeError:
            raise StateError(f"gRPC cannot listen on {address}:{port}", hint="is the port in use?") from None

    async def start(self) -> None:
        """Listen."""
        await self._server.start()

    async def stop(self, within_s: float) -> None:
        """Take no more, and let those in flight end."""
        await self._server.stop(within_s)

    def _exporter(self, signal: Signal) -> Callable[[bytes, Any], Awaitable[bytes]]:
        async def export(data: bytes, context: Any) -> bytes:
            sent = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
            try:
                principal = self._receiver.admit(sent.get("authorization"), sent.get("x-pilothouse-key"))
                async with self._receiver.slots:
                    return await self._receiver.keep(signal, data, otlp.PROTOBUF, principal)
            except UNREADABLE as error:
                self._receiver.refuse(signal, error)
                code, why = _BY_STATUS.get(error.status, "INVALID_ARGUMENT"), str(error)
            except PilothouseError as error:
                code, why = _CODES.get(error.kind) or _BY_STATUS.get(error.status, "INTERNAL"), str(error)
            except Exception as error:  # noqa: BLE001  # the request boundary: one bad batch must not end the process
                frames = traceback.format_tb(error.__traceback__)
                log.error("a batch could not be taken", error=type(error).__name__, frames=frames)
                code, why = "INTERNAL", "the batch could not be taken — see the log of ingest"
            await context.abort(getattr(self._grpc.StatusCode, code), why)
            raise AssertionError("abort raises")

        return export
