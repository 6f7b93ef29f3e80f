"""A text of ten megabytes, from the exporter to the page: answered, kept in part, and how much is not is said."""

import json
import time
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pilothouse.server.pages.trace import BODY_SHOWN

pytestmark = pytest.mark.process

TRACE = "c" * 32
LONG = "word " * (2 << 20)  # ten megabytes
CONTENT, VALUE = 1 << 20, 2_048  # characters that are kept of what went in, and of an attribute


def span(number: int, **attributes: str) -> dict[str, Any]:
    now = time.time_ns()
    return {
        "traceId": TRACE, "spanId": f"{number:016x}", "name": f"step {number}", "kind": 3,
        "startTimeUnixNano": str(now - 10**7), "endTimeUnixNano": str(now),
        "attributes": [{"key": key, "value": {"stringValue": value}} for key, value in attributes.items()],
    }  # fmt: skip


def test_a_text_of_ten_megabytes_is_answered_kept_in_part_and_said_to_be(
    running: Any, scripted_app: Callable[..., Path]
) -> None:
    one = running(scripted_app())
    key = one.key()
    chat = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}
    for one_span in (
        span(1, note=LONG), span(2, **chat, **{"gen_ai.input.messages": LONG}), span(3, note="short"),
    ):  # fmt: skip
        status, _, said = one.fetch(
            "POST", f"{one.otlp}/v1/traces", json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [one_span]}]}]}),
            content_type="application/json", authorization=f"Bearer {key}",
        )  # fmt: skip
        assert (status, json.loads(said or "{}")) == (200, {})
    bearer = f"Bearer {one.address()['token']}"

    def page(path: str) -> tuple[int, str]:
        status, _, html = one.ask("GET", path, authorization=bearer)
        return status, html

    one.eventually(lambda: "step 3" in page(f"/traces/{TRACE}")[1], within_s=30)
    status, html = page(f"/traces/{TRACE}")
    assert "Something went wrong" not in html
    assert all(f"step {n}" in html for n in (1, 2, 3))

    for number, whole, kept in ((1, len(LONG), VALUE), (2, len(LONG), CONTENT)):
        status, html = page(f"/traces/{TRACE}/step?of={number:016x}")
        assert status == 200
        assert "pilothouse.cut_characters" in html
        assert _cut(html) in range(whole - kept, whole - kept + 8)
    status, html = page(f"/traces/{TRACE}/step?of={3:016x}")
    assert "cut_characters" not in html
    status, html = page(f"/payload?of={urllib.parse.quote(f'{TRACE}/{2:016x}', safe='')}")
    assert (status, "Something went wrong" in html) == (200, False)
    assert f"{CONTENT - BODY_SHOWN:,} further characters are in the JSON." in html
    one.stop()


def _cut(html: str) -> int:
    """The number beside the name."""
    rest = html.split("pilothouse.cut_characters", 1)[1]
    digits = "".join(letter if letter.isdigit() else " " for letter in rest[:200])
    return int(digits.split()[0])
