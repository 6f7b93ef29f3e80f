"""The corpus holds its floors, and no cut and no escape hides what is in it."""

import asyncio
import json
from itertools import pairwise

import pytest
from tests.security import page
from tests.security.corpus.cases import HARD, LOOKALIKES, POSITIVES, Case, positives
from tests.security.corpus.values import VENDORS
from tests.security.measure import core, measured

from pilothouse.domain.policy import Guard
from pilothouse.gateway.guards.engine import Guards
from pilothouse.gateway.guards.holdback import Holdback
from pilothouse.gateway.guards.stream import GuardedStream
from pilothouse.security.detect import Detector
from pilothouse.security.redact import Redactor

REDACT = Redactor(b"salt")
GUARDS = Guards.compile((Guard("secrets", action="mask"), Guard("pii", action="mask")), Detector())
RECALL, PRECISION = 0.99, 0.99
LEAST = 8  # characters of a value that may not be left behind a cut
SOME = [case for label in POSITIVES for case in list(positives(each=14, seed=3)) if case.label == label]


def test_recall_and_precision_hold_their_floors() -> None:
    rows, lookalikes, wrong = measured(REDACT, REDACT.redact_json)
    assert {row.label for row in rows} == set(POSITIVES)
    for row in rows:
        assert row.recall >= RECALL, (row.label, row.missed[:3])
        assert row.named / row.n >= RECALL, row.label
        assert row.precision >= PRECISION, (row.label, wrong[:3])
    assert set(lookalikes) == set(LOOKALIKES)
    assert sum(lookalikes.values()) == 0, wrong[:5]


def test_the_keys_of_many_vendors_are_known_by_their_form() -> None:
    assert len(VENDORS) >= 15
    assert len(HARD) >= 5  # the page says what is not found


def test_the_page_says_what_was_measured() -> None:
    assert page.PAGE.read_text(encoding="utf-8") == page.page(), "run python -m tests.security.page"


def _leaves(out: str, value: str) -> bool:
    """Whether a piece of the value is left."""
    pieces = (value[i : i + LEAST] for i in range(max(1, len(value) - LEAST + 1)))
    return any(piece in out for piece in pieces)


async def _masked(pieces: list[str]) -> str:
    held = Holdback(GUARDS.output_rails, [])
    return "".join([*[await held.feed(piece) for piece in pieces], await held.end()])


@pytest.mark.parametrize("label", POSITIVES)
def test_a_stream_cut_at_any_index_is_masked_like_the_whole(label: str) -> None:
    async def every() -> None:
        for case in (c for c in SOME if c.label == label):
            whole = await _masked([case.text])
            assert core(case.value) not in whole, case
            for at in range(1, len(case.text)):
                assert await _masked([case.text[:at], case.text[at:]]) == whole, (at, case)
            assert await _masked(list(case.text)) == whole, case

    asyncio.run(every())


def _event(text: str, *, escaped: bool) -> bytes:
    body = json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]})
    if escaped:
        literal = "".join(f"\\u{ord(c):04x}" for c in text)
        body = body.replace(json.dumps(text), f'"{literal}"')
    return f"data: {body}\n\n".encode()


def _said(stream: bytes) -> str:
    events = [json.loads(e[6:]) for e in stream.decode().split("\n\n") if e.startswith("data: {")]
    return "".join(e["choices"][0]["delta"].get("content") or "" for e in events)


@pytest.mark.parametrize("escaped", [False, True], ids=["plain", "escaped"])
@pytest.mark.parametrize("label", POSITIVES)
def test_two_events_are_masked_like_one(label: str, escaped: bool) -> None:
    async def sent(*texts: str) -> str:
        stream = GuardedStream(GUARDS, "chat", [])
        out = [await stream.feed(_event(text, escaped=escaped)) for text in texts]
        return _said(b"".join([*out, await stream.feed(b"data: [DONE]\n\n"), await stream.end()]))

    async def every() -> None:
        for case in [c for c in SOME if c.label == label and c.text.isprintable() and max(map(ord, c.text)) < 65_536][
            :4
        ]:
            whole = await sent(case.text)
            assert core(case.value) not in whole
            for a, b in pairwise(range(0, len(case.text) + 1, 1)):
                assert await sent(case.text[:a], case.text[a:b], case.text[b:]) == whole, (a, case)

    asyncio.run(every())


@pytest.mark.parametrize("case", SOME, ids=lambda case: case.label)
def test_no_place_in_json_hides_it(case: Case) -> None:
    inner = core(json.loads(f'"{case.value}"') if "\\" in case.value and "\n" not in case.value else case.value)
    text = case.text
    literal = "".join(f"\\u{ord(c):04x}" for c in text if ord(c) < 65_536)
    for body in (
        json.dumps({text: 1}),
        json.dumps({"a": {text: {"b": [text]}}}, ensure_ascii=False),
        f'{{"a": "{literal}"}}',
        f'{{"{literal}": [true]}}',
        json.dumps({"arguments": json.dumps({"x": text})}),
        json.dumps({"arguments": json.dumps({text: "x"})}),
    ):
        result = REDACT.redact_json(body)
        assert result.classes, body
        decoded = str(json.loads(result.text))
        assert not inner or inner not in decoded, body
