"""Answers in Valkey (or Redis), for all workers of all hosts. Extra `valkey`.

It fails open: whoever asks while the server does not answer gets nothing, at once, and makes a call of their own.
"""

from typing import Any

from pilothouse.domain.clock import Clock
from pilothouse.domain.errors import StoreError

PREFIX = "pilothouse:answer:"
TIMEOUT_S = 0.25  # a cache that is slower than this is none
AGAIN_S = 1.0  # after a failure, how long nobody asks
ENTRY_MAX = 8 << 20  # bytes
CONNECTIONS = 64


class ValkeyAnswers:
    """One worker's connections. `url`: `valkey://`, `valkeys://`, `redis://`, `rediss://` or `unix://`."""

    def __init__(self, url: str, clock: Clock) -> None:
        """Raises StoreError where the extra is not installed or the URL cannot be read; connects later."""
        try:
            import valkey.asyncio as client  # noqa: PLC0415  # optional extra
        except ImportError as error:
            raise StoreError("Valkey needs an extra", where="cache", hint="pip install 'pilothouse[valkey]'") from error
        try:
            pool = client.BlockingConnectionPool.from_url(
                url,
                max_connections=CONNECTIONS,
                timeout=TIMEOUT_S,
                socket_timeout=TIMEOUT_S,
                socket_connect_timeout=TIMEOUT_S,
            )
        except ValueError as error:
            hint = "write valkey://HOST:PORT/DB"
            raise StoreError("the URL of the cache cannot be read", where="cache", hint=hint) from error
        self._client: Any = client.Valkey(connection_pool=pool)
        self._errors = (client.ValkeyError, OSError, TimeoutError)
        self._clock = clock
        self._again = 0.0  # Clock.monotonic
        self.failures = 0

    async def get(self, key: str) -> bytes | None:
        """What is kept under `key`; None too where the server does not answer."""
        if self._clock.monotonic() < self._again:
            return None
        try:
            found: bytes | None = await self._client.get(PREFIX + key)
        except self._errors:
            self._failed()
            return None
        return found

    async def put(self, key: str, data: bytes, keep_s: float) -> None:
        """Keep `data` for `keep_s` seconds, if the server answers."""
        if len(data) > ENTRY_MAX or self._clock.monotonic() < self._again:
            return
        try:
            await self._client.set(PREFIX + key, data, px=max(1, round(keep_s * 1000)))
        except self._errors:
            self._failed()

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose(close_connection_pool=True)

    def _failed(self) -> None:
        self.failures += 1
        self._again = self._clock.monotonic() + AGAIN_S
