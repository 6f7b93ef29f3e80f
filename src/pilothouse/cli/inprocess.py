"""The control app in this process, for verbs that are used while no control runs: `keys create` before `up`."""

import asyncio
import contextlib
import queue
import threading
import urllib.parse
from collections.abc import Iterator, MutableMapping
from typing import Any

from starlette.types import ASGIApp

from pilothouse.cli.control import actor
from pilothouse.domain.clock import SystemClock
from pilothouse.domain.tasks import Tasks
from pilothouse.server import logs
from pilothouse.server.composition import Control, open_control
from pilothouse.server.control_app import make_app
from pilothouse.server.datadir import DataDir

Piece = bytes | int | BaseException | None  # body, status, failure, end


class InProcess:
    """Runs the app on an event loop in a thread of its own."""

    def __init__(self, data: DataDir, app_dir: Any) -> None:
        data.make()
        self._log = (data.logs / "verbs.log").open("a", encoding="utf-8")
        logs.configure(self._log)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="control", daemon=True)
        self._thread.start()
        with contextlib.ExitStack() as undo:
            undo.callback(self._end)
            self._control: Control = self._wait(open_control(app_dir, data, SystemClock(), Tasks()))
            undo.pop_all()
        self._app: ASGIApp = make_app(self._control)

    def send(self, method: str, target: str, body: bytes) -> tuple[int, Iterator[bytes]]:
        """Status and body of one call."""
        pieces: queue.Queue[Piece] = queue.Queue()
        asyncio.run_coroutine_threadsafe(self._call(method, target, body, pieces), self._loop)
        status = pieces.get()
        if isinstance(status, BaseException):
            raise status
        return (status if isinstance(status, int) else 500), _until_end(pieces)

    async def _call(self, method: str, target: str, body: bytes, pieces: "queue.Queue[Piece]") -> None:
        path, _, query = target.partition("?")
        headers = {
            "host": "localhost",
            "content-type": "application/json",
            "content-length": str(len(body)),
            "authorization": f"Bearer {self._control.secret.admin_token}",
            "x-pilothouse-actor": actor(),
        }
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": urllib.parse.unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            "client": None,
            "server": ("localhost", 0),
        }
        done = asyncio.Event()
        sent = False

        async def receive() -> MutableMapping[str, Any]:
            nonlocal sent
            if sent:
                await done.wait()
                return {"type": "http.disconnect"}
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                pieces.put(int(message["status"]))
            elif message["type"] == "http.response.body":
                pieces.put(bytes(message.get("body", b"")))

        try:
            await self._app(scope, receive, send)
        except Exception as error:  # noqa: BLE001  # request boundary: the failure is raised again in the caller's thread
            pieces.put(error)
        finally:
            done.set()
            pieces.put(None)

    def _wait(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def close(self) -> None:
        """Close the stores and the loop."""
        try:
            self._wait(self._control.close())
        finally:
            self._end()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        logs.configure()
        self._log.close()


def _until_end(pieces: "queue.Queue[Piece]") -> Iterator[bytes]:
    while (piece := pieces.get()) is not None:
        if isinstance(piece, BaseException):
            raise piece
        if isinstance(piece, bytes) and piece:
            yield piece
