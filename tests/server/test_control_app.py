"""An error of a page that nobody has foreseen: in the log, and said to who asked."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from pilothouse.cli.inprocess import InProcess
from pilothouse.server.control_app import make_app
from pilothouse.server.datadir import DataDir
from pilothouse.server.pages import mount
from pilothouse.server.verbs import runbooks


async def get(app: Any, path: str, cookie: str) -> tuple[int, str]:
    """Status and text of a page; what the app raises after its answer is dropped, as the server does."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"localhost"), (b"cookie", cookie.encode())]
    scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b"route=answer"}
    with pytest.raises(ValueError, match="dog"):
        await app(scope | {"headers": headers, "scheme": "http", "server": ("localhost", 80)}, receive, send)
    return sent[0]["status"], b"".join(one.get("body", b"") for one in sent).decode()


def test_a_fault_of_a_page_is_logged_with_its_traceback_and_said(
    scripted_app: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> str:
        raise ValueError("the dog ate it")

    monkeypatch.setattr(runbooks, "markdown", broken)
    home = InProcess(DataDir(tmp_path / "data"), scripted_app())
    try:
        gate = home._control.gate
        cookie = f"{gate.cookie}={gate.sign_in(gate.issue_link())}"
        status, html = asyncio.run(get(make_app(home._control), "/runbook", cookie))
    finally:
        home.close()
    assert status == 500 and "Pilothouse itself failed here (ValueError)" in html and "the dog" not in html
    lines = [json.loads(line) for line in (tmp_path / "data/logs/verbs.log").read_text().splitlines()]
    told = next(line for line in lines if line["event"] == "a request failed")
    assert (told["method"], told["path"], told["level"]) == ("GET", "/runbook", "error")
    assert "ValueError: the dog ate it" in told["exception"]


def test_who_asked_is_told_where_the_whole_of_it_is() -> None:
    request = Request({"type": "http", "path": "/releases", "headers": [], "query_string": b""})
    error = mount.fault(request, ValueError("secret words"))
    assert str(error).startswith("Pilothouse itself failed here (ValueError) — /releases — ")
    assert "control.log" in error.hint and "secret" not in str(error) and error.status == 500
