"""How a connection to a provider comes about: DNS, happy eyeballs, TLS, and proxies from the environment."""

import asyncio
import base64
import contextlib
import socket
import ssl
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import NamedTuple

import aiohappyeyeballs

from pilothouse.providers.connection import Connection

EYEBALLS_S = 0.25  # the next address is tried after this long (RFC 8305, section 8)
TUNNEL_HEAD_MAX = 16 << 10  # bytes of a proxy's answer to CONNECT
_PORTS = {"http": 80, "https": 443}


class Origin(NamedTuple):
    """Where a connection leads: what connections are shared by."""

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """Host and port as they stand in a URL, the port left out where it is the scheme's own."""
        return self.full if self.port != _PORTS[self.scheme] else self.full.rpartition(":")[0]

    @property
    def full(self) -> str:
        """Host and port."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def origin_of(parts: urllib.parse.SplitResult) -> Origin:
    """The origin of a URL; raises ValueError where it has none that HTTP can reach."""
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError("it must begin with http:// or https:// and name a host")
    host = parts.hostname.encode("idna").decode("ascii")
    return Origin(parts.scheme, host, parts.port or _PORTS[parts.scheme])


def basic(parts: urllib.parse.SplitResult) -> str:
    """The value of an authorization header for the user and password in a URL; "" where there are none."""
    if parts.username is None:
        return ""
    pair = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
    return "Basic " + base64.b64encode(pair.encode()).decode()


class Proxy(NamedTuple):
    """A proxy from the environment."""

    origin: Origin
    authorization: str


def proxy_for(origin: Origin) -> Proxy | None:
    """The proxy that HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY name for an origin; raises ValueError."""
    proxies = urllib.request.getproxies()
    address = proxies.get(origin.scheme) or proxies.get("all")
    if not address or urllib.request.proxy_bypass(origin.full):
        return None
    parts = urllib.parse.urlsplit(address if "://" in address else f"http://{address}")
    try:
        return Proxy(origin_of(parts), basic(parts))
    except ValueError as error:
        raise ValueError(f"the proxy named by the environment is not usable: {error}") from error


def tls_context() -> ssl.SSLContext:
    """Certificates of the system, or of SSL_CERT_FILE and SSL_CERT_DIR."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


class Dialer:
    """Connects to one origin, through its proxy where it has one."""

    def __init__(self, origin: Origin, context: Callable[[], ssl.SSLContext]) -> None:
        """Raises ValueError where the environment's proxy is not usable."""
        self.origin = origin
        self.proxy = proxy_for(origin)
        self._context = context
        tunnel = self.proxy is not None and origin.scheme == "https"
        if tunnel and self.proxy is not None and self.proxy.origin.scheme == "https":
            raise ValueError("an https:// proxy cannot tunnel to https: name it as http://")
        self._tunnel = self.proxy if tunnel else None
        self._first = self.proxy.origin if self.proxy else origin  # whom the socket is connected to
        encrypted = origin if origin.scheme == "https" else self._first
        self._server_name = encrypted.host if encrypted.scheme == "https" else None

    @property
    def forwarded(self) -> bool:
        """Whether requests go to a proxy that must be told the whole URL."""
        return self.proxy is not None and self._tunnel is None

    async def open(self, make: Callable[[], Connection]) -> Connection:
        """A new connection; raises OSError, ssl errors among them."""
        loop = asyncio.get_running_loop()
        infos = await loop.getaddrinfo(self._first.host, self._first.port, type=socket.SOCK_STREAM)
        try:
            found = await aiohappyeyeballs.start_connection(infos, happy_eyeballs_delay=EYEBALLS_S, loop=loop)
        except RuntimeError as error:  # uvloop's, for addresses it cannot use
            raise OSError(str(error)) from error
        with contextlib.ExitStack() as undo:
            undo.callback(_shut, found)
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if self._tunnel is not None:
                await self._through(found, self._tunnel)
            context = self._context() if self._server_name else None
            _, connection = await loop.create_connection(
                make, sock=found, ssl=context, server_hostname=self._server_name
            )
            undo.pop_all()
        return connection

    async def _through(self, sock: socket.socket, proxy: Proxy) -> None:
        """Have the proxy lead this socket to the origin (CONNECT)."""
        loop = asyncio.get_running_loop()
        login = f"proxy-authorization: {proxy.authorization}\r\n" if proxy.authorization else ""
        asked = f"CONNECT {self.origin.full} HTTP/1.1\r\nhost: {self.origin.full}\r\n{login}\r\n"
        await loop.sock_sendall(sock, asked.encode("latin-1"))
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            if len(head) > TUNNEL_HEAD_MAX or b"\r\n\r\n" in head:
                raise OSError("the proxy's answer is not one to CONNECT")
            part = await loop.sock_recv(sock, 4096)
            if not part:
                raise OSError("the proxy closed the connection")
            head += part
        status = head.split(b"\r\n", 1)[0].decode("latin-1")
        if not status.startswith(("HTTP/1.1 2", "HTTP/1.0 2")):
            raise OSError(f"the proxy refused: {status[:200]}")


def _shut(sock: socket.socket) -> None:
    """Close a socket that a transport may hold already: the other side sees it at once."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()
