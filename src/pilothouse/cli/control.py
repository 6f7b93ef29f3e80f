"""The verbs' way to control: over HTTP where it runs, else the same app in this process. One code path for both."""

import getpass
import http.client
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import msgspec

from pilothouse.domain.errors import PilothouseError, StateError
from pilothouse.server.datadir import ControlAddress, DataDir, control_address, supervisor_state

RETURN_S = 20.0  # how long a verb waits for a control that is being started again
CALL_S = 3_600.0  # an eval over a slow model answers with one line at a time, but may take long to its first


class RemoteError(PilothouseError):
    """An error that control answered with, told again in its own words."""


class Transport(Protocol):
    """Sends one request; the body comes in pieces."""

    def send(self, method: str, target: str, body: bytes) -> tuple[int, Iterator[bytes]]:
        """Status and body."""
        ...


class Control:
    """Calls of the control plane's API."""

    def __init__(self, transport: Transport, *, running: bool, url: str) -> None:
        self._transport = transport
        self.running = running
        self.url = url

    def get(self, path: str, **params: Any) -> Any:
        """The JSON at `path`; parameters that are None or empty are left out."""
        given = {name: value for name, value in params.items() if value not in (None, "")}
        return self._call("GET", path + (f"?{urllib.parse.urlencode(given)}" if given else ""), None)

    def post(self, path: str, **body: Any) -> Any:
        """The answer to a change."""
        return self._call("POST", path, body)

    def delete(self, path: str) -> Any:
        """The answer to an ending."""
        return self._call("DELETE", path, None)

    def stream(self, path: str, **body: Any) -> Iterator[dict[str, Any]]:
        """The lines of an NDJSON answer, as they come; an `error` line is raised."""
        status, pieces = self._transport.send("POST", path, msgspec.json.encode(body))
        if status != 200:
            raise _remote(b"".join(pieces), status)
        rest = b""
        for piece in pieces:
            *lines, rest = (rest + piece).split(b"\n")
            for text in filter(None, lines):
                told = msgspec.json.decode(text)
                if "error" in told and told.get("type") == "error":
                    raise _remote(text, 500)
                yield told

    def _call(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        status, pieces = self._transport.send(method, path, b"" if body is None else msgspec.json.encode(body))
        content = b"".join(pieces)
        if not 200 <= status < 300:
            raise _remote(content, status)
        return msgspec.json.decode(content)


def _remote(content: bytes, status: int) -> PilothouseError:
    try:
        told = msgspec.json.decode(content)["error"]
        return RemoteError(told["what"], where=told["where"], hint=told["hint"], code=told["code"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return RemoteError(f"control answered HTTP {status}", hint="see its log in the data directory's logs/")


def actor() -> str:
    """Who the change log will name: the user of this machine."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


class HttpTransport:
    """To a control that runs."""

    def __init__(self, address: ControlAddress) -> None:
        self._address = address
        self._host = urllib.parse.urlsplit(address.url)

    def send(self, method: str, target: str, body: bytes) -> tuple[int, Iterator[bytes]]:
        """Status and body; StateError where nobody answers."""
        connection = http.client.HTTPConnection(self._host.hostname or "", self._host.port, timeout=CALL_S)
        headers = {
            "authorization": f"Bearer {self._address.token}",
            "content-type": "application/json",
            "x-pilothouse-actor": actor(),
        }
        try:
            connection.request(method, target, body=body, headers=headers)
            answer = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise StateError(
                f"control does not answer: {error}", where=self._address.url, hint="pilothouse status", code="no_answer"
            ) from error
        return answer.status, _pieces(connection, answer)


def _pieces(connection: http.client.HTTPConnection, answer: http.client.HTTPResponse) -> Iterator[bytes]:
    try:
        while piece := answer.read1(65_536):
            yield piece
    except (OSError, http.client.HTTPException) as error:
        raise StateError(f"control's answer broke off: {error}", hint="see its log in logs/control.log") from error
    finally:
        connection.close()


def _address(folder: DataDir) -> ControlAddress | None:
    """Where control answers; None where nothing runs here. A supervisor that runs will have it back in a moment."""
    deadline = time.monotonic() + RETURN_S
    while (address := control_address(folder)) is None and supervisor_state(folder) is not None:
        if time.monotonic() > deadline:
            raise StateError(
                f"control has not come back for {RETURN_S:.0f} s",
                where=str(folder.logs / "control.log"),
                hint="the gateways go on serving; the log says why",
                code="no_answer",
            )
        time.sleep(0.1)
    return address


@contextmanager
def connect(data: Path, app: Path) -> Iterator[Control]:
    """Control as it runs on `data`, or else the same app in this process on the app in `app`."""
    folder = DataDir(data.absolute())
    address = _address(folder)
    if address is not None:
        yield Control(HttpTransport(address), running=True, url=address.url)
        return
    from pilothouse.cli.inprocess import InProcess

    local = InProcess(folder, app.absolute())
    try:
        yield Control(local, running=False, url="")
    finally:
        local.close()
