"""Small blocking questions to our own processes: do you answer, who is connected?"""

import http.client
import socket
import urllib.parse

import msgspec

from pilothouse.domain.errors import StateError
from pilothouse.server.datadir import ControlAddress, DataDir, control_address

TIMEOUT_S = 2.0


def shown(host: str) -> str:
    """The address under which this machine reaches a listener on `host`."""
    if host in ("0.0.0.0", "", "::"):  # noqa: S104  # compared with, not listened on
        return "127.0.0.1"
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def ask(method: str, url: str, token: str = "") -> tuple[int, bytes]:
    """Status and body; raises OSError or HTTPException where nobody answers."""
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=TIMEOUT_S)
    try:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        connection.request(method, parts.path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def answers(url: str) -> bool:
    """Whether a GET is answered with 2xx."""
    try:
        return 200 <= ask("GET", url)[0] < 300
    except (OSError, http.client.HTTPException):
        return False


def listens(host: str, port: int) -> bool:
    """Whether somebody accepts connections there."""
    try:
        with socket.create_connection((host.strip("[]"), port), timeout=TIMEOUT_S):
            return True
    except OSError:
        return False


def workers_ready(data: DataDir, wanted: set[str]) -> bool:
    """Whether control answers and every wanted worker holds its table."""
    address = control_address(data)
    if address is None:
        return False
    try:
        status, body = ask("GET", f"{address.url}/api/v1/status", address.token)
    except (OSError, http.client.HTTPException):
        return False
    if status != 200:
        return False
    told = msgspec.json.decode(body)
    holding = {w["worker"] for w in told["workers"] if w["revision"] == told["revision"]}
    return wanted <= holding


def sign_in_token(address: ControlAddress) -> str:
    """A fresh one-time token from control."""
    status, body = ask("POST", f"{address.url}/api/v1/sign-in-links", address.token)
    if status != 200:
        raise StateError(f"control gave no sign-in link (HTTP {status})", where=address.url)
    token: str = msgspec.json.decode(body)["token"]
    return token
