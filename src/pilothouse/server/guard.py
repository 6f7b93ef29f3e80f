"""What stands before every request to the control plane: host check, sign-in, CSRF, and the security headers."""

import http.cookies
import ipaddress
import urllib.parse
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import structlog
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pilothouse.domain.change import Actor
from pilothouse.domain.errors import BadRequest, PilothouseError, Refused, Unauthorized
from pilothouse.server.auth import SESSION_S, Gate
from pilothouse.server.replies import failure

log = structlog.get_logger("pilothouse.control")

_SAFE = ("GET", "HEAD", "OPTIONS")
_OPEN = ("/healthz", "/static/")  # needs no sign-in: says nothing of the app
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; manifest-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = (
    (b"content-security-policy", CSP.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
)


class Guard:
    """ASGI middleware. Puts the caller's Actor in `scope["actor"]`; None there means nobody is signed in.

    The pages decide themselves what an unknown caller sees (their sign-in form); everything under `/api/` and every
    `.json` is refused here.
    """

    def __init__(self, app: ASGIApp, gate: Gate, allowed_hosts: frozenset[str]) -> None:
        self._app = app
        self._gate = gate
        self._allowed = allowed_hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = _headers(scope)
        cookie = ""
        try:
            self._check_host(headers.get("host", ""))
            cookie = self._sign_in(scope, headers)
            if cookie and not wants_json(scope["path"]):
                answer: ASGIApp = RedirectResponse(_without_token(scope), status_code=303)
            else:
                answer = self._admit(scope, headers)
        except PilothouseError as error:
            answer = failure(error)
        await answer(scope, receive, _decorated(send, self._set_cookie(cookie)))

    def _check_host(self, host: str) -> None:
        """A name that is not ours means DNS rebinding: a foreign page that has its own name resolve to us."""
        name = urllib.parse.urlsplit(f"//{host}").hostname or ""
        if name in self._allowed or name == "localhost" or _is_address(name):
            return
        raise BadRequest(f"unknown Host {name!r}", hint="pilothouse up --allow-host NAME", code="unknown_host")

    def _sign_in(self, scope: Scope, headers: dict[str, str]) -> str:
        """The new session's cookie where the address carries a good one-time token; else an empty string."""
        token = _token(scope)
        if not token or scope["method"] != "GET":
            return ""
        value = self._gate.open_link(token)
        if value is None:
            if self._gate.session(_cookies(headers)) is not None:
                return _cookies(headers)[self._gate.cookie]  # the link was opened before by this very browser
            raise Unauthorized(
                "this sign-in link was used before or is too old", hint="pilothouse status --link", code="link_used"
            )
        self._carry(scope, value)
        return value

    def _carry(self, scope: Scope, value: str) -> None:
        """Let the app see this session, as if the caller had sent its cookie."""
        sent = _headers(scope).get("cookie", "")
        cookies = "; ".join(
            filter(None, (sent, f"{self._gate.cookie}={value}"))
        )  # of two with one name the last counts
        others = [header for header in scope["headers"] if header[0].lower() != b"cookie"]
        scope["headers"] = [*others, (b"cookie", cookies.encode("latin-1"))]

    def _set_cookie(self, value: str) -> bytes | None:
        if not value:
            return None
        return f"{self._gate.cookie}={value}; Max-Age={SESSION_S}; Path=/; HttpOnly; SameSite=Lax".encode()

    def _admit(self, scope: Scope, headers: dict[str, str]) -> ASGIApp:
        """The app, once the caller is known as far as the path needs it."""
        scope["actor"] = None
        if self._gate.bearer(headers.get("authorization")):
            scope["actor"] = _program(headers)
            if not wants_json(scope["path"]):  # a program that reads a page: the pages know sessions only
                self._carry(scope, self._gate.passing())
            return self._app
        if scope["method"] not in _SAFE:
            _refuse_cross_site(headers)
        cookies = _cookies(_headers(scope))
        session = self._gate.session(cookies)
        if session is not None:
            scope["actor"] = session.actor
            if scope["method"] not in _SAFE and scope["path"].startswith("/api/"):
                shown = headers.get("x-csrf-token", "")
                if not self._gate.check_csrf_token(session.csrf, shown):
                    raise Refused("the CSRF token is missing or wrong", where="x-csrf-token", code="csrf")
        elif wants_json(scope["path"]) and not scope["path"].startswith(_OPEN):
            raise Unauthorized(
                "not signed in",
                hint="open the link that `pilothouse up` printed, or send the admin token as a bearer token",
                code="not_signed_in",
            )
        return self._app


def _program(headers: dict[str, str]) -> Actor:
    """Who holds the bearer token, in their own word: the change log names them."""
    name = headers.get("x-pilothouse-actor", "")
    return Actor(type="cli", id=name if name.isprintable() and 0 < len(name) <= 64 else "admin-token")


def _refuse_cross_site(headers: dict[str, str]) -> None:
    """A second lock beside the CSRF token: browsers say where a request comes from."""
    origin = headers.get("origin", "")
    foreign = bool(origin) and urllib.parse.urlsplit(origin).netloc != headers.get("host", "")
    if headers.get("sec-fetch-site", "") == "cross-site" or foreign:
        raise Refused("a change was asked for by another site", where=origin or "sec-fetch-site", code="cross_site")


def _decorated(send: Send, cookie: bytes | None) -> Callable[[MutableMapping[str, Any]], Awaitable[None]]:
    async def decorated(message: Message) -> None:
        if message["type"] == "http.response.start":
            present = {name.lower() for name, _ in message["headers"]}
            extra = [header for header in HEADERS if header[0] not in present]
            if b"cache-control" not in present:
                extra.append((b"cache-control", b"no-store"))
            if cookie:
                extra.append((b"set-cookie", cookie))
            message = {**message, "headers": [*message["headers"], *extra]}
        await send(message)

    return decorated


def _headers(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}


def _cookies(headers: dict[str, str]) -> dict[str, str]:
    jar: http.cookies.SimpleCookie = http.cookies.SimpleCookie()
    try:
        jar.load(headers.get("cookie", ""))
    except http.cookies.CookieError:
        return {}
    return {name: morsel.value for name, morsel in jar.items()}


def _token(scope: Scope) -> str:
    query: str = scope["query_string"].decode("latin-1")
    return urllib.parse.parse_qs(query).get("token", [""])[0]


def _without_token(scope: Scope) -> str:
    pairs = urllib.parse.parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    query = urllib.parse.urlencode([pair for pair in pairs if pair[0] != "token"])
    path = "/" + str(scope["path"]).lstrip("/\\")  # never `//host`, which a browser reads as another site
    return path + (f"?{query}" if query else "")


def wants_json(path: str) -> bool:
    """Whether a program asks: the API and the JSON twins."""
    return path.startswith("/api/") or path.endswith(".json")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
