"""The OTLP receiver as a process of its own, for its tests."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from pilothouse.domain.record import EventRecord, LossRecord, MetricRecord, ScoreRecord, SpanRecord
from pilothouse.domain.table import JournalSettings, Table
from pilothouse.security.keys import MintedKey
from pilothouse.server.link import save_table

WITHIN_S = 20.0
JSON, PROTOBUF = "application/json", "application/x-protobuf"
LINES: dict[str, Any] = {
    "span": SpanRecord, "event": EventRecord, "metric": MetricRecord, "score": ScoreRecord, "loss": LossRecord,
}  # fmt: skip
SPAN = {
    "traceId": "0af7651916cd43dd8448eb211c80319c",
    "spanId": "b7ad6b7169203331",
    "name": "chat m",
    "startTimeUnixNano": "1750000000000000000",
    "endTimeUnixNano": "1750000000250000000",
}


class Process:
    """A running receiver and its data directory."""

    def __init__(self, data: Path, port: int, popen: subprocess.Popen[bytes]) -> None:
        self.data, self.port, self.popen = data, port, popen

    def post(
        self, body: bytes, headers: dict[str, str], path: str = "/v1/traces", method: str = "POST"
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WITHIN_S)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def send(self, *spans: Any, key: str = "") -> tuple[int, Any]:
        headers = {"content-type": JSON} | ({"authorization": f"Bearer {key}"} if key else {})
        body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}).encode()
        status, _, answer = self.post(body, headers)
        return status, json.loads(answer)

    def journal(self) -> list[dict[str, Any]]:
        """Every line that stands in the journal now."""
        files = sorted((self.data / "journal" / "ingest-0").glob("*.ndjson"))
        return [json.loads(line) for file in files for line in file.read_bytes().split(b"\n") if line]

    def lines(self, kind: str) -> list[Any]:
        """Those of one kind."""
        return [msgspec.convert(line, LINES[kind]) for line in self.journal() if line["kind"] == kind]

    def records(self) -> list[SpanRecord]:
        """The spans."""
        return self.lines("span")


def wait_until_healthy(process: Process) -> None:
    deadline = time.monotonic() + WITHIN_S
    while time.monotonic() < deadline:
        assert process.popen.poll() is None, "the receiver ended"
        try:
            if process.post(b"", {}, "/healthz", "GET")[0] == 200:
                return
        except OSError:
            time.sleep(0.02)  # the process says nothing when it listens
    raise AssertionError("the receiver does not answer")


@contextmanager
def running(data: Path, table: Table | None, *options: str, ended: int = 0) -> Iterator[Process]:
    """A receiver, told to stop in the end; `ended`: the exit code that it then has."""
    data.mkdir(exist_ok=True)
    if table is not None:
        save_table(data, table)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "pilothouse.server.ingest", "--data", str(data), "--port", str(port), *options]
    process = Process(data, port, subprocess.Popen(command, env=os.environ))
    try:
        wait_until_healthy(process)
        yield process
    finally:
        process.popen.send_signal(signal.SIGTERM)
        assert process.popen.wait(WITHIN_S) == ended


def table(*keys: MintedKey, anonymous: bool = False, reserve_bytes: int = 1 << 20) -> Table:
    return Table(
        revision=1,
        issued_us=1,
        entries={},
        keys={k.entry.id: k.entry for k in keys},
        providers={},
        anonymous=anonymous,
        journal=JournalSettings(reserve_bytes=reserve_bytes),
    )
