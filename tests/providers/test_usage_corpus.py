"""The corpus of usage payloads: buckets and cost of each row, as its own arithmetic has them.

A row's `sum` is USD times a million, written out by hand from the row's prices; `cost_usd` is what it comes to, or what
the provider itself says (`stated`), or null where nobody says. `pytest -s` shows the table.
"""

import json
import re
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.providers.dialects import NOW_US, Pieces, drained, entry

from pilothouse.domain.provider_kinds import PROVIDER_KINDS
from pilothouse.domain.record import Attempt, Record, Tokens
from pilothouse.domain.table import Price, ProviderEntry, Table
from pilothouse.gateway.settle import PriceBook, settle
from pilothouse.providers.chat import CHAT
from pilothouse.providers.form import Form
from pilothouse.providers.openai import Completion
from pilothouse.providers.registry import wire_of
from pilothouse.providers.shapes.bedrock import event

ROWS: list[dict[str, Any]] = [
    json.loads(line) for line in (Path(__file__).parent / "corpus/usage.jsonl").read_text().splitlines()
]
TEXT = {"role": "assistant", "content": "x"}
WHOLE: dict[tuple[str, str], Any] = {
    ("", "chat"): {"id": "i", "model": "m", "choices": [{"message": TEXT, "finish_reason": "stop"}]},
    ("", "responses"): {"id": "i", "status": "completed", "output": []},
    ("", "messages"): {
        "id": "i",
        "type": "message",
        "content": [{"type": "text", "text": "x"}],
        "stop_reason": "end_turn",
    },
    ("", "embeddings"): {"object": "list", "data": []},
    ("", "any"): {"object": "text_completion", "choices": [{"text": "x"}]},
    ("gemini", "chat"): {"candidates": [{"content": {"parts": [{"text": "x"}]}, "finishReason": "STOP"}]},
    ("bedrock", "chat"): {"output": {"message": {"content": [{"text": "x"}]}}, "stopReason": "end_turn"},
}


def native_stream(row: dict[str, Any]) -> bytes:
    if row["kind"] == "bedrock":
        return b"".join(event(name, value) for name, value in row["events"])
    out = b"".join(b"data: " + msgspec.json.encode(value) + b"\n\n" for value in row["events"])
    return out + (b"data: [DONE]\n\n" if row["form"] == "chat" and row["kind"] != "gemini" else b"")


async def readings(row: dict[str, Any]) -> list[Completion]:
    """The row's answer in every way in which the gateway may come to read it."""
    kind, name = row["kind"], row["form"]
    wire = wire_of(entry(kind, "http://h"))
    form: Form | None = wire.native.get(name)
    found = []
    if "usage" in row:
        whole = WHOLE.get((kind, name)) or WHOLE["", name]
        counted = "usageMetadata" if kind == "gemini" else "usage"
        body = msgspec.json.encode(whole | {counted: row["usage"]})
        if form is not None:
            found.append(form.read(body))
        if name == "messages" or form is None:
            found.append(CHAT.read(wire.chat_whole(body)))
        return found
    data = native_stream(row)
    for reader in [form] if form is not None else []:
        assembly = reader.assembly()
        assembly.add(data)
        found.append(assembly.finished())
    if name == "messages" or form is None:
        assembly = CHAT.assembly()
        assembly.add(await drained(wire.chat_stream(Pieces(data))))
        found.append(assembly.finished())
    return found


def settled(row: dict[str, Any], completion: Completion) -> Record:
    """A record with one attempt whose answer that is, priced as the row says."""
    attempt = Attempt(n=1, kind="primary", provider="p", model="m", offset_ms=0.0)
    attempt.tokens, attempt.cost_usd = completion.tokens(), completion.cost_usd()
    prices = {"p/m": Price(**row["prices"])} if "prices" in row else {}
    provider = ProviderEntry("p", row["kind"], "http://h")
    record = Record(id="r", ts_us=NOW_US, trace_id="t", span_id="s", attempts=[attempt])
    settle(record, PriceBook(), Table(1, 1, {}, {}, {"p": provider}, prices=prices), 0.0)
    return record


@pytest.mark.parametrize("row", ROWS, ids=[row["id"] for row in ROWS])
async def test_a_payloads_buckets_and_cost(row: dict[str, Any]) -> None:
    expected = msgspec.convert(row["buckets"], Tokens | None)
    found = await readings(row)
    assert found
    for completion in found:
        assert completion.tokens() == expected
        record = settled(row, completion)
        assert record.tokens == expected
        assert record.cost_usd == (None if row["cost_usd"] is None else pytest.approx(row["cost_usd"], rel=1e-12))
        source = "" if row["cost_usd"] is None else ("provider" if row.get("stated") else "config")
        assert record.cost_source == source


@pytest.mark.parametrize("row", [row for row in ROWS if "sum" in row], ids=lambda row: row["id"])
def test_a_rows_arithmetic_is_right(row: dict[str, Any]) -> None:
    products = [term.split("*") for term in re.sub(r"\s", "", row["sum"]).split("+")]
    assert sum(Decimal(count) * Decimal(price) for count, price in products) == pytest.approx(
        Decimal(str(row["cost_usd"])) * 1_000_000
    )
    assert sum(int(count) for count, _ in products) == sum(
        value for name, value in row["buckets"].items() if name != "of_which"
    )


def test_the_corpus_is_wide_enough() -> None:
    kinds = Counter(row["kind"] for row in ROWS)
    print(f"\n{len(ROWS)} payloads: " + ", ".join(f"{kind} {n}" for kind, n in sorted(kinds.items())))
    print(f"{'payload':32} {'uncached':>9} {'read':>7} {'written':>7} {'text':>6} {'reason':>6} {'USD':>13}  of which")
    for row in ROWS:
        buckets = row["buckets"] or {}
        cells = [buckets.get(name, "") for name in ("input_uncached", "cache_read", "cache_write", "output_text")]
        cost = "unknown" if row["cost_usd"] is None else f"{row['cost_usd']:.7f}"
        parts = ", ".join(f"{name} {n}" for name, n in buckets.get("of_which", {}).items() if n)
        print("{:32} {:>9} {:>7} {:>7} {:>6} {:>6} {:>13}  {}".format(
            row["id"], *cells, buckets.get("reasoning", ""), cost, parts
        ))  # fmt: skip
    assert len(ROWS) >= 60 and len({row["id"] for row in ROWS}) == len(ROWS)
    hosted = {kind.name for kind in PROVIDER_KINDS.values() if kind.hosted}
    assert set(kinds) == PROVIDER_KINDS.keys() - hosted
    assert all(row["source"] for row in ROWS)
