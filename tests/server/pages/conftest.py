"""The invented fleet, served in a process of its own, and a browser to look at it."""

import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Browser, sync_playwright

HERE = Path(__file__).parent
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox", "--headless=new", "--disable-gpu", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run",
]  # fmt: skip


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclass(frozen=True)
class Site:
    """Pages over a fixture, and a plain HTTP client for them. Cookies are given by hand."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, method: str, path: str, form: dict[str, str] | None = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        body = None
        if form is not None:
            body = urlencode(form)
            named["content-type"] = "application/x-www-form-urlencoded"
        try:
            connection.request(method, path, body=body, headers=named)
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        """Signed in."""
        return self.ask("GET", path, cookie="pilothouse_fixture=fixture", **headers)

    def post(self, path: str, csrf: str = "csrf-of-the-fixture", **form: str) -> Answer:
        """Signed in, with the CSRF token."""
        return self.ask("POST", path, {"csrf": csrf, **form}, cookie="pilothouse_fixture=fixture")


def _serve(*options: str) -> Iterator[Site]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    command = [sys.executable, str(HERE / "fixture.py"), str(port), *options]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        site = Site(port)
        deadline = time.monotonic() + 30
        while True:
            try:
                site.ask("GET", "/login")
                break
            except OSError:
                assert process.poll() is None, process.stderr and process.stderr.read()
                assert time.monotonic() < deadline, "the fixture did not start"
                time.sleep(0.05)
        yield site
        process.kill()


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    yield from _serve()


@pytest.fixture
def fresh_site() -> Iterator[Site]:
    """For a test that changes what the others would see."""
    yield from _serve()


@pytest.fixture(scope="session")
def empty_site() -> Iterator[Site]:
    yield from _serve("--empty")


@pytest.fixture(scope="module")  # its loop would be in the way of async tests that come after
def browser() -> Iterator[Browser]:
    if not Path(CHROMIUM).exists():
        pytest.skip(f"no browser at {CHROMIUM}: apt-get install chromium, or set CHROMIUM")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield opened
        opened.close()
