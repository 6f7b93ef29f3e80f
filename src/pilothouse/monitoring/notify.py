"""Telling people: webhooks (our own JSON over HTTP), the log, and every service that Apprise knows.

Channels are tried in order until one takes the notice. Every notice is in the log too, whatever becomes of it.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from urllib.parse import urlsplit

import apprise
import msgspec
import structlog
from pyreqwest.client import SyncClientBuilder
from pyreqwest.exceptions import PyreqwestError

from pilothouse.config.app import Person
from pilothouse.domain.alert import AlertState
from pilothouse.domain.errors import ConfigError
from pilothouse.domain.wires import SecretReader

log = structlog.get_logger("pilothouse.alert")

TIMEOUT_S = 5.0
_REFERENCES = ("env://", "file://")


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """What is said about an alert; a webhook's body is this struct as JSON."""

    title: str
    text: str
    alert: str
    rule: str
    route: str
    env: str
    state: AlertState
    owner: str
    value: float | None
    threshold: float
    n: int
    since_us: int
    actions_taken: tuple[str, ...] = ()
    item: str = ""
    runbook: str = ""


class Tried(msgspec.Struct, frozen=True):
    """One channel's word. `channel` is scheme and host: the rest of a URL may hold a token."""

    channel: str
    ok: bool
    message: str = ""


class Delivery(msgspec.Struct, frozen=True):
    """Whether anybody was told, and every channel that was tried on the way."""

    ok: bool
    tried: tuple[Tried, ...]

    @property
    def message(self) -> str:
        """One sentence: who took it and who did not."""
        failed = "; ".join(f"{one.channel} failed: {one.message}" for one in self.tried if not one.ok)
        taken = next((one.channel for one in self.tried if one.ok), "")
        if taken:
            return f"told by {taken}" + (f" ({failed})" if failed else "")
        return f"nobody was told: {failed or 'no channel'}; it is in the log"


Notify = Callable[[Notice], Delivery]


def make_notify(people: Mapping[str, Person], secret: SecretReader) -> Notify:
    """A wire that tells a notice's owner by their own channels. A URL may be a reference (`env://`, `file://`)."""

    def notify(notice: Notice) -> Delivery:
        person = people.get(notice.owner)
        return deliver(person.notify if person is not None else (), notice, secret)

    return notify


def deliver(urls: Sequence[str], notice: Notice, secret: SecretReader) -> Delivery:
    """Write `notice` to the log, then try `urls` in order until one takes it."""
    said = {name: value for name, value in msgspec.structs.asdict(notice).items() if name != "title"}
    log.warning(notice.title, **said)
    tried: list[Tried] = []
    for url in urls:
        tried.append(_send(url, notice, secret))
        if tried[-1].ok:
            return Delivery(True, tuple(tried))
        log.error("a notification was not delivered", alert=notice.alert, channel=tried[-1].channel,
                  error=tried[-1].message)  # fmt: skip
    return Delivery(False, tuple(tried))


def _send(url: str, notice: Notice, secret: SecretReader) -> Tried:
    try:
        target = secret(url) if url.startswith(_REFERENCES) else url
    except ConfigError as error:
        return Tried(url.partition("://")[0] + "://…", False, str(error))
    try:
        parts = urlsplit(target)
        channel = f"{parts.scheme}://{parts.hostname or ''}"
    except ValueError:
        return Tried("?", False, "not a URL")
    if parts.scheme == "log":
        return Tried("the log", True)
    if parts.scheme in ("http", "https"):
        return _post(target, channel, notice)
    return _through_apprise(target, channel, notice)


def _post(url: str, channel: str, notice: Notice) -> Tried:
    builder = SyncClientBuilder().timeout(timedelta(seconds=TIMEOUT_S)).follow_redirects(False)
    try:
        with builder.build() as client:
            request = client.post(url).header("content-type", "application/json")
            response = request.body_bytes(msgspec.json.encode(notice)).build().send()
    except (PyreqwestError, ValueError) as error:
        return Tried(channel, False, f"{type(error).__name__}")  # its text would show the URL
    if 200 <= response.status < 300:
        return Tried(channel, True)
    return Tried(channel, False, f"answered {response.status}")


_KINDS = {"resolved": apprise.NotifyType.SUCCESS, "firing": apprise.NotifyType.FAILURE}


def _through_apprise(url: str, channel: str, notice: Notice) -> Tried:
    """Apprise answers only yes or no; why is in its log, which is caught and cut to the first line."""
    service = apprise.Apprise()
    if not service.add(url):
        return Tried(channel, False, "not a URL that Apprise knows")
    kind = _KINDS.get(notice.state, apprise.NotifyType.WARNING)
    capture = apprise.LogCapture(level=logging.WARNING, fmt="%(message)s")  # type: ignore[no-untyped-call]  # no stubs
    with capture as said:
        taken = bool(service.notify(title=notice.title, body=notice.text, notify_type=kind))
        reason = said.getvalue().strip().splitlines()
    return Tried(channel, taken, "" if taken else (reason[0][:200] if reason else "not delivered"))
