"""Whoever reads text that was kept in full stands in the change log before they have it, whichever way they take."""

import json
import sqlite3
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.process
MAIL = "anna.schmidt@example.org"
ROUTE = "    policy: {log: {mode: full}}\n"
MORE = "  other: {model: fake/small-2026-01-01, owner: ana, backup: ben}\n"
SPAN = {
    "traceId": "ab" * 16, "spanId": "cd" * 8, "name": "chat", "startTimeUnixNano": "1795000000000000000",
    "endTimeUnixNano": "1795000000250000000",
    "attributes": [
        {"key": "pilothouse.route", "value": {"stringValue": "answer"}},
        {"key": "input.value", "value": {"stringValue": f"from {MAIL}"}},
    ],
}  # fmt: skip


class Kept:
    """A product with a request to a route in full, one to another route, and a span of the first."""

    def __init__(self, one: Any) -> None:
        self.one = one
        key = one.key()
        self.full, self.redacted = (self._ask(key, route) for route in ("answer", "other"))
        self.span = f"{SPAN['traceId']}/{SPAN['spanId']}"
        body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [SPAN]}]}]})
        headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
        assert one.fetch("POST", one.otlp + "/v1/traces", body, **headers)[0] == 200
        one.eventually(lambda: one.get("/traces.json")["total"] >= 3)

    def _ask(self, key: str, route: str) -> str:
        status, headers, _ = self.one.chat(key, route, f"write to {MAIL}")
        assert status == 200
        return str(headers["x-pilothouse-request-id"])

    def page(self, path: str) -> tuple[int, str]:
        status, _, text = self.one.ask("GET", path, authorization=f"Bearer {self.one.address()['token']}")
        return status, text

    def reads(self) -> list[dict[str, Any]]:
        found = self.one.get("/api/v1/changes?limit=500")["changes"]
        return [row["change"] for row in reversed(found) if row["change"]["action"] == "text.read"]


@pytest.fixture
def kept(running: Any, scripted_app: Callable[..., Path]) -> Iterator[Kept]:
    one = running(scripted_app(route=ROUTE, more=MORE), workers=1)
    one.release()
    one.release("other")
    yield Kept(one)


def of(owner: str) -> str:
    return "of=" + urllib.parse.quote(owner, safe="")


def test_every_way_out_leaves_one_entry_and_redacted_text_none(kept: Kept, tmp_path: Path) -> None:
    one = kept.one
    for path in (f"/payload?{of(kept.redacted)}", f"/traces/{kept.full}", "/traces", "/sessions"):
        assert MAIL not in kept.page(path)[1]
    for words in (("trace", "show", kept.full), ("trace", "list")):
        assert MAIL not in one.cli(*words).stdout
    assert MAIL not in json.dumps(one.get(f"/traces/{kept.redacted}.json"))
    assert kept.reads() == []

    ways: list[tuple[Callable[[], str], list[tuple[str, str]]]] = [
        (lambda: kept.page(f"/payload?{of(kept.full)}")[1], [("page", kept.full)]),
        (lambda: kept.page(f"/payload?{of(kept.span)}")[1], [("page", kept.span)]),
        (lambda: kept.page(f"/compare?{of(kept.full)}&{of(kept.span)}")[1], [("page", kept.full), ("page", kept.span)]),
        (lambda: json.dumps(one.get(f"/traces/{kept.full}.json")), [("json", kept.full)]),
        (lambda: json.dumps(one.verb("trace", "show", kept.full)), [("json", kept.full)]),
        (lambda: json.dumps(one.post(f"/api/v1/requests/{kept.full}/replay")), [("replay", kept.full)]),
    ]
    seen = 0
    for read, entries in ways:
        assert MAIL in read()
        told = kept.reads()
        new, seen = told[seen:], len(told)
        assert sorted((row["detail"]["by"], row["object_id"]) for row in new) == sorted(entries)
        assert {row["route"] for row in new} == {"answer"} and all(row["actor"] for row in new)

    one.verb("export", str(tmp_path / "out"), "--jsonl")
    assert any(MAIL in path.read_text() for path in (tmp_path / "out").rglob("*.jsonl"))
    new = [row for row in kept.reads() if row["detail"]["by"] == "export"]
    assert [(row["route"], row["detail"]["payloads"]) for row in new] == [("answer", 2)]
    assert one.verb("audit", "verify")["ok"]
    review = one.get("/api/v1/review?route=answer")
    line = next(f for route in review["routes"] for f in route["findings"] if f["id"] == "T8.4")
    assert "reads of text kept in full" in line["detail"]


def test_what_cannot_be_noted_is_not_read(kept: Kept, tmp_path: Path) -> None:
    with sqlite3.connect(kept.one.data / "state.db", timeout=10) as db:
        db.execute("CREATE TRIGGER full BEFORE INSERT ON changes BEGIN SELECT RAISE(FAIL, 'the disk is full'); END")
    status, text = kept.page(f"/payload?{of(kept.full)}")
    assert status >= 500 and MAIL not in text
    status, text = kept.page(f"/traces/{kept.full}.json")
    assert status >= 500 and MAIL not in text
    assert MAIL not in kept.one.cli("trace", "replay", kept.full).stdout
    kept.one.cli("export", str(tmp_path / "out"), "--jsonl")
    assert not any(MAIL in path.read_text() for path in (tmp_path / "out").rglob("*.jsonl"))
    assert kept.page(f"/payload?{of(kept.redacted)}")[0] == 200
