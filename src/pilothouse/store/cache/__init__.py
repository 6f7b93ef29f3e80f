"""Where cached answers are kept: in the worker's memory, or in Valkey for all workers."""

from typing import Protocol


class Backend(Protocol):
    """Keeps bytes by key for a while. It may forget any of them at any time."""

    async def get(self, key: str) -> bytes | None:
        """What is kept under `key`, unless its time is up."""
        ...

    async def put(self, key: str, data: bytes, keep_s: float) -> None:
        """Keep `data` for `keep_s` seconds."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...
