import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from structlog.testing import capture_logs

from pilothouse.config.app import Person
from pilothouse.domain.errors import ConfigError
from pilothouse.monitoring.notify import Notice, deliver, make_notify

# Apprise loads its plugins when the first URL is read; one imports a module that Python deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:.imghdr. is deprecated:DeprecationWarning")

NOTICE = Notice(
    title="[r prod] errors fires", text="error.rate 0.4", alert="a1", rule="errors", route="r", env="prod",
    state="firing", owner="ana", value=0.4, threshold=0.05, n=50, since_us=7, actions_taken=("rollback: done",),
)  # fmt: skip


def no_secret(reference: str) -> str:
    raise ConfigError("not set", where=reference)


class Hook(BaseHTTPRequestHandler):
    """Takes what is posted; answers with the status that its path names."""

    taken: list[tuple[str, dict[str, object]]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.taken.append((self.path, json.loads(body)))  # type: ignore[attr-defined]
        self.send_response(int(self.path.rpartition("/")[2]))
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def hook() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    server.taken = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def url(hook: ThreadingHTTPServer, path: str, scheme: str = "http") -> str:
    return f"{scheme}://127.0.0.1:{hook.server_address[1]}{path}"


def test_a_webhook_gets_the_whole_notice_as_json(hook: ThreadingHTTPServer) -> None:
    delivery = deliver([url(hook, "/hook/204")], NOTICE, no_secret)
    assert delivery.ok
    assert delivery.message == "told by http://127.0.0.1"
    ((path, body),) = hook.taken  # type: ignore[attr-defined]
    assert path == "/hook/204"
    assert body == {
        "title": "[r prod] errors fires", "text": "error.rate 0.4", "alert": "a1", "rule": "errors", "route": "r",
        "env": "prod", "state": "firing", "owner": "ana", "value": 0.4, "threshold": 0.05, "n": 50, "since_us": 7,
        "actions_taken": ["rollback: done"], "item": "", "runbook": "",
    }  # fmt: skip


def test_a_channel_that_fails_is_reported_and_the_next_one_tried(hook: ThreadingHTTPServer) -> None:
    urls = [url(hook, "/secret-token/500"), "http://127.0.0.1:1/gone", "nonsense://x", url(hook, "/ok/200")]
    with capture_logs() as logs:
        delivery = deliver(urls, NOTICE, no_secret)
    assert delivery.ok
    assert [one.ok for one in delivery.tried] == [False, False, False, True]
    assert [one.message for one in delivery.tried] == [
        "answered 500", "ConnectError", "not a URL that Apprise knows", "",
    ]  # fmt: skip
    assert "secret-token" not in json.dumps(logs) + delivery.message
    assert logs[0]["event"] == "[r prod] errors fires"
    assert [one["event"] for one in logs[1:]] == ["a notification was not delivered"] * 3


def test_apprise_delivers_and_says_why_it_did_not(hook: ThreadingHTTPServer) -> None:
    taken = deliver([url(hook, "/hook/200", "json")], NOTICE, no_secret)
    assert taken.ok
    ((_, body),) = hook.taken  # type: ignore[attr-defined]
    assert (body["title"], body["message"], body["type"]) == ("[r prod] errors fires", "error.rate 0.4", "failure")
    refused = deliver([url(hook, "/hook/503", "json")], NOTICE, no_secret)
    assert not refused.ok
    assert "503" in refused.tried[0].message


def test_without_a_channel_nobody_was_told_but_the_log_has_it() -> None:
    notify = make_notify({"ana": Person(id="ana", name="Ana")}, no_secret)
    with capture_logs() as logs:
        delivery = notify(NOTICE)
    assert not delivery.ok
    assert delivery.message == "nobody was told: no channel; it is in the log"
    assert logs[0]["actions_taken"] == ("rollback: done",)


def test_the_log_is_a_channel_and_urls_may_be_references(hook: ThreadingHTTPServer) -> None:
    def secret(reference: str) -> str:
        return {"env://HOOK": url(hook, "/a/200")}.get(reference) or no_secret(reference)

    people = {
        "ana": Person(id="ana", name="Ana", notify=("log://",)),
        "ben": Person(id="ben", name="Ben", notify=("env://NONE", "env://HOOK")),
    }
    notify = make_notify(people, secret)
    assert notify(NOTICE).message == "told by the log"
    by_ben = notify(Notice(**{**{name: getattr(NOTICE, name) for name in NOTICE.__struct_fields__}, "owner": "ben"}))
    assert by_ben.ok
    assert by_ben.message == "told by http://127.0.0.1 (env://… failed: not set — env://NONE)"
