"""Steady traffic over kept connections, every answer written down: by which release, whose words, and when."""

import asyncio
import contextlib
import http.client
import json
import threading
import time
import urllib.parse
from dataclasses import dataclass, field

CLIENTS = 16  # connections to each gateway
WORDS = {"1": "first", "2": "second"}  # what the scripted model says under each release's system prompt
SYSTEM = {"1": "You are number one.\n", "2": "You are number two.\n"}
SCRIPT = (
    "rules:\n"
    '  - {match: {anywhere: number one}, reply: "first", latency: [0.002, 0.02]}\n'
    '  - {match: {anywhere: number two}, reply: "second", latency: [0.002, 0.02]}\n'
)


@dataclass(frozen=True)
class Answered:
    """One request. `release` is what the answer's head says, `words` what the model was made to say; µs since 1970."""

    id: str
    status: int
    release: str
    words: str
    began_us: int

    @property
    def mixed(self) -> bool:
        """Whether one release is named and another one spoke."""
        return WORDS.get(self.release) != self.words


@dataclass
class Traffic:
    """`rate` requests a second to each gateway, spread over CLIENTS connections, until it is left."""

    gateways: list[str]
    key: str
    rate: float
    answered: list[Answered] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def __enter__(self) -> "Traffic":
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._all()), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    async def _all(self) -> None:
        await asyncio.gather(
            *(self._one(url, number) for url in self.gateways for number in range(CLIENTS)), return_exceptions=False
        )

    async def _one(self, url: str, number: int) -> None:
        parts = urllib.parse.urlsplit(url)
        body = json.dumps({"model": "answer", "messages": [{"role": "user", "content": "which?"}]})
        head = (
            f"POST {parts.path}/chat/completions HTTP/1.1\r\nHost: {parts.netloc}\r\n"
            f"Authorization: Bearer {self.key}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        asked = (head + body).encode()
        every = CLIENTS / self.rate
        due = time.monotonic() + every * number / CLIENTS
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        while not self._over.is_set():
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due = max(due + every, time.monotonic() - 1.0)  # what a stall has kept back is asked for, a second's worth
            began_us = time.time_ns() // 1_000
            try:
                writer.write(asked)
                self.answered.append(await _answer(reader, began_us))
            except (OSError, asyncio.IncompleteReadError, ValueError) as error:
                self.broken.append(repr(error))
                writer.close()
                reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    @property
    def failed(self) -> list[str]:
        """Everything but a whole answer."""
        return [*self.broken, *(f"{one.status} {one.id}" for one in list(self.answered) if one.status != 200)]

    @property
    def mixed(self) -> list[Answered]:
        """Answers that name one release and come from another."""
        return [one for one in list(self.answered) if one.status == 200 and one.mixed]


async def _answer(reader: asyncio.StreamReader, began_us: int) -> Answered:
    head = await reader.readuntil(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    body = await reader.readexactly(int(headers["content-length"]))
    told = json.loads(body)
    words = told["choices"][0]["message"]["content"] if "choices" in told else ""
    return Answered(
        id=headers.get("x-pilothouse-request-id", ""),
        status=int(status.split()[1]),
        release=headers.get("x-pilothouse-release", ""),
        words=words,
        began_us=began_us,
    )


def ask(method: str, url: str, token: str = "", body: object = None, timeout_s: float = 30.0) -> tuple[int, object]:
    """Status and JSON of one call to control."""
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
    try:
        headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request(method, target, json.dumps(body) if body is not None else None, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()
