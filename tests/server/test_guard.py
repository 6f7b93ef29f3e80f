"""What stands before every request to the control plane, through the real app."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, MutableMapping
from pathlib import Path
from typing import Any

import pytest

from pilothouse.domain.clock import SystemClock
from pilothouse.domain.tasks import Tasks
from pilothouse.server.composition import Control, Listening, open_control
from pilothouse.server.control_app import make_app
from pilothouse.server.datadir import DataDir


class Answer:
    """Status, headers and body of one call."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[tuple[str, str]] = []
        self.body = b""

    def header(self, name: str) -> str:
        return next((value for found, value in self.headers if found == name), "")

    def json(self) -> Any:
        return json.loads(self.body)


class Browser:
    """Calls the app as a server would."""

    def __init__(self, control: Control) -> None:
        self.control = control
        self.app = make_app(control)
        self.token = control.secret.admin_token

    async def __call__(
        self, method: str, target: str, body: bytes = b"", *, host: str = "127.0.0.1:4001", **headers: str
    ) -> Answer:
        path, _, query = target.partition("?")
        named = {"host": host, **{name.replace("_", "-"): value for name, value in headers.items()}}
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
            "path": path, "raw_path": path.encode(), "query_string": query.encode(), "client": None, "server": None,
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in named.items()],
        }  # fmt: skip
        answer, waiting = Answer(), [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> MutableMapping[str, Any]:
            if waiting:
                return waiting.pop()
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                answer.headers = [(n.decode().lower(), v.decode("latin-1")) for n, v in message["headers"]]
            else:
                answer.body += message.get("body", b"")

        await self.app(scope, receive, send)
        return answer

    async def signed_in(self) -> tuple[str, str]:
        """A cookie header and the session's CSRF token."""
        answer = await self("GET", f"/?token={self.control.gate.issue_link()}")
        cookie = answer.header("set-cookie").partition(";")[0]
        name, _, value = cookie.partition("=")
        session = self.control.gate.session({name: value})
        assert session is not None
        return cookie, session.csrf


@pytest.fixture
async def browser(scripted_app: Callable[..., Path], tmp_path: Path) -> AsyncIterator[Browser]:
    control = await open_control(
        scripted_app(),
        DataDir(tmp_path / "data"),
        SystemClock(),
        Tasks(),
        Listening(port=4001, allow_hosts=("ph.test",)),
    )
    yield Browser(control)
    await control.close()


async def test_a_link_signs_in_once_and_leaves_the_address(browser: Browser) -> None:
    token = browser.control.gate.issue_link()
    first = await browser("GET", f"/traces?route=answer&token={token}")
    assert (first.status, first.header("location")) == (303, "/traces?route=answer")
    cookie = first.header("set-cookie")
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    second = await browser("GET", f"/overview.json?token={token}")
    assert second.status == 401
    assert second.json()["error"]["code"] == "link_used"
    again = await browser("GET", f"/?token={token}", cookie=cookie.partition(";")[0])
    assert again.status == 303  # the same person opened the same link again: they are signed in already


async def test_a_link_answers_a_twin_directly(browser: Browser) -> None:
    answer = await browser("GET", f"/overview.json?token={browser.control.gate.issue_link()}")
    assert answer.status == 200
    assert answer.header("set-cookie").startswith("pilothouse_4001=")
    assert [row["route"] for row in answer.json()["routes"]] == ["answer"]


async def test_a_link_never_leads_to_another_site(browser: Browser) -> None:
    answer = await browser("GET", f"//evil.example/?token={browser.control.gate.issue_link()}")
    assert answer.header("location") == "/evil.example/"


@pytest.mark.parametrize("path", ["/overview.json", "/traces/x.json", "/api/v1/status", "/api/v1/nothing"])
async def test_strangers_get_nothing(browser: Browser, path: str) -> None:
    answer = await browser("GET", path)
    assert answer.status == 401
    assert answer.json()["error"]["code"] == "not_signed_in"
    wrong = await browser("GET", path, authorization="Bearer nonsense")
    assert wrong.status == 401


async def test_pages_send_strangers_to_the_sign_in(browser: Browser) -> None:
    answer = await browser("GET", "/releases?route=answer")
    assert answer.status == 303
    assert answer.header("location").startswith("/login?next=")


async def test_a_session_needs_its_csrf_token_to_change_anything(browser: Browser) -> None:
    cookie, csrf = await browser.signed_in()
    body = b'{"name": "x", "env": "dev"}'
    for wrong in ({}, {"x_csrf_token": "0" * 64}):
        answer = await browser("POST", "/api/v1/keys", body, cookie=cookie, **wrong)
        assert (answer.status, answer.json()["error"]["code"]) == (409, "csrf")
    answer = await browser("POST", "/api/v1/keys", body, cookie=cookie, x_csrf_token=csrf)
    assert answer.status == 200
    assert answer.json()["key"].startswith("ph_dev_")


async def test_another_site_changes_nothing_even_with_the_token(browser: Browser) -> None:
    cookie, csrf = await browser.signed_in()
    for told in ({"origin": "https://evil.example"}, {"sec_fetch_site": "cross-site"}, {"origin": "null"}):
        answer = await browser("POST", "/api/v1/keys", b"{}", cookie=cookie, x_csrf_token=csrf, **told)
        assert (answer.status, answer.json()["error"]["code"]) == (409, "cross_site")
    same = await browser(
        "POST", "/api/v1/sign-in-links", cookie=cookie, x_csrf_token=csrf, origin="http://127.0.0.1:4001"
    )
    assert same.status == 200


async def test_the_bearer_token_needs_no_csrf_and_names_its_user(browser: Browser) -> None:
    answer = await browser(
        "POST", "/api/v1/keys", b'{"name": "x", "env": "dev"}',
        authorization=f"Bearer {browser.token}", x_pilothouse_actor="ana",
    )  # fmt: skip
    assert answer.json()["owner"] == "cli:ana"
    log = await browser("GET", "/api/v1/changes", authorization=f"Bearer {browser.token}")
    made = next(row["change"] for row in log.json()["changes"] if row["change"]["action"] == "key.create")
    assert made["actor"] == {"type": "cli", "id": "ana"}


@pytest.mark.parametrize(("host", "status"), [
    ("evil.example", 400), ("127.0.0.1.evil.example:4001", 400), ("", 400),
    ("localhost:4001", 200), ("127.0.0.1:4001", 200), ("[::1]:4001", 200), ("ph.test", 200),
])  # fmt: skip
async def test_a_rebound_name_is_refused(browser: Browser, host: str, status: int) -> None:
    answer = await browser("GET", "/overview.json", host=host, authorization=f"Bearer {browser.token}")
    assert answer.status == status


async def test_every_answer_carries_the_security_headers(browser: Browser) -> None:
    for method, path in (
        ("GET", "/"),
        ("GET", "/healthz"),
        ("GET", "/overview.json"),
        ("GET", "/nothing.json"),
        ("PUT", "/"),
    ):
        answer = await browser(method, path, authorization=f"Bearer {browser.token}")
        assert "frame-ancestors 'none'" in answer.header("content-security-policy"), path
        assert "unsafe" not in answer.header("content-security-policy")
        assert answer.header("x-content-type-options") == "nosniff"
        assert answer.header("x-frame-options") == "DENY"


async def test_control_counts_its_own_loops(browser: Browser) -> None:
    assert (await browser("GET", "/metrics")).status == 401
    answer = await browser("GET", "/metrics", authorization=f"Bearer {browser.token}")
    assert answer.status == 200
    text = answer.body.decode()
    assert "pilothouse_control_journal_backlog_bytes 0" in text
    assert "# TYPE gen_ai_client_operation_duration_seconds histogram" in text


async def test_errors_have_one_shape(browser: Browser) -> None:
    bearer = {"authorization": f"Bearer {browser.token}"}
    missing = await browser("GET", "/nothing.json", **bearer)
    assert (missing.status, missing.json()["error"]["type"]) == (404, "not_found")
    method = await browser("DELETE", "/overview.json", **bearer)
    assert (method.status, method.json()["error"]["code"]) == (405, "method_not_allowed")
    field = await browser("POST", "/api/v1/keys", b'{"nam": "x", "env": "dev"}', **bearer)
    assert field.status == 400
    assert "nam" in field.json()["error"]["message"]
    large = await browser("POST", "/api/v1/keys", b" " * (2 << 20), **bearer)
    assert large.status == 413
    route = await browser("POST", "/api/v1/routes/nope/releases", b"{}", **bearer)
    assert (route.status, "routes: answer" in route.json()["error"]["message"]) == (404, True)


async def test_no_secret_is_in_any_answer(browser: Browser) -> None:
    bearer = {"authorization": f"Bearer {browser.token}"}
    made = (await browser("POST", "/api/v1/keys", b'{"name": "x", "env": "dev"}', **bearer)).json()
    for path in ("/api/v1/keys", "/api/v1/status", "/overview.json", "/review.json", "/api/v1/changes"):
        said = (await browser("GET", path, **bearer)).body.decode()
        assert made["key"] not in said
        assert browser.token not in said
        assert browser.control.secret.pepper.hex() not in said
