"""Rows of every kind, and what tells two stores' rows apart."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from pilothouse.domain.clock import FrozenClock
from pilothouse.domain.record import (
    Attempt,
    Document,
    EventRecord,
    GuardHit,
    LimitHit,
    LossRecord,
    MetricRecord,
    Payload,
    Record,
    Redaction,
    ScoreRecord,
    SpanEvent,
    SpanRecord,
    Tokens,
    Validation,
)
from pilothouse.store.telemetry import TelemetryStore
from pilothouse.store.telemetry.schema import TABLES
from pilothouse.telemetry.loader import Loader

NOW_US = 1_750_000_000_000_000
HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
SEGMENT = f"{NOW_US}-1-1.ndjson"


def made(count: int = 120) -> Iterator[Any]:
    """Ten days of two routes: failures, fallbacks, schemas, caches, queues, traces with and without spans."""
    for n in range(count):
        ts = NOW_US - n * 2 * HOUR_US - n * 1_000_003
        failed, trace = n % 7 == 3, f"{n:032x}"
        yield Record(
            id=f"r{n:04}", ts_us=ts, trace_id=trace, span_id=f"{n:016x}", env="prod",
            route=("docs", "chat")[n % 2], app="docs", tier="high", release=3 + n % 2, canary=n % 5 == 0,
            manifest="a" * 64, parts={"prompt": "1" * 64, "model": "2" * 64}, worker="edge-0",
            key_id=f"k{n % 3}", session=f"s{n % 4}", user=f"u{n % 6}", segment=("", "gold")[n % 2],
            requested_model="m", provider="local", asked_model=("m1", "")[n % 2], served_model=("m1", "")[n % 3 == 0],
            outcome="failed" if failed else ("success", "fallback")[n % 11 == 0], status=500 if failed else 200,
            error_type="timeout_total" if failed else "", error_message="o'er — 100 %" if failed else "",
            attempts=[
                Attempt(n=k + 1, kind=("primary", "retry")[k], provider="local", model="m1", offset_ms=float(k),
                        duration_ms=30.0 + n, status=200, tokens=Tokens(input_uncached=10 + n, output_text=5),
                        cost_usd=0.001 * n, delivered=True)
                for k in range(1 + (n % 4 == 0))
            ],
            stages={"queue": 0.5, "model": 30.0 + n}, duration_ms=40.0 + 3 * n,
            ttft_ms=float(n) if n % 2 else None,
            tokens=None if n % 10 == 9 else Tokens(input_uncached=10 + n, cache_read=n % 3, output_text=5),
            cost_usd=None if n % 10 == 9 else 0.001 * n, queued_ms=float(n % 3 * 5),
            validation=Validation(first_ok=n % 3 == 0, ok=n % 3 != 2, repairs=["fences"] if n % 3 == 1 else [],
                                  missing=["a", "b"][: n % 3]) if n % 2 else None,
            limits=[LimitHit(name="all", what="requests", by="key", shadow=True)] if n % 8 == 0 else [],
            guards=[GuardHit(use="pii", at="input", action="block", found="mail")] if n % 9 == 0 else [],
            redaction=Redaction(status="redacted", secrets=n % 2), log_mode="redacted",
            upstream_hash="d" * 64, preview_in=f"Question {n}?", preview_out="ünïcode ✓",
            payload=Payload(request=f'{{"n":{n}}}', response="answer " * n), labels={"team": f"t{n % 2}"},
            api="chat", cache=("", "miss", "hit")[n % 3], flags={"beta": "two"} if n % 6 == 0 else {},
        )  # fmt: skip
        if n % 3 == 0:
            yield SpanRecord(
                trace_id=trace, span_id=f"a{n:015x}", parent_span_id=f"{n:016x}", ts_us=ts + 1_000, duration_ms=20.0,
                name="retrieve", operation="retrieval", stage="retrieval", env="prod", route=("docs", "chat")[n % 2],
                documents=[Document(id=f"d{k}", score=0.9 - k / 10, age_s=60.0 * k) for k in range(n % 4)],
                index_name="kb", index_version="7", attributes={"db": "x"}, status="ok",
            )  # fmt: skip
        if n % 5 == 0:
            own = f"{n + 5_000:032x}"
            yield SpanRecord(
                trace_id=own, span_id=f"b{n:015x}", ts_us=ts, duration_ms=100.0 + n, name="agent", stage="model",
                env="dev", app="agent", session=f"s{n % 4}", user=f"u{n % 6}", status=("ok", "error")[n % 2],
                request_model="gpt", response_model="gpt-1", cost_usd=0.01, error_type=("", "boom")[n % 2],
                tokens=Tokens(input_uncached=7, output_text=3), preview_in="hello", payload=Payload(request="hello"),
                events=[SpanEvent(name="exception", offset_ms=1.5, attributes={"type": "E"})],
            )  # fmt: skip
            yield SpanRecord(
                trace_id=own, span_id=f"c{n:015x}", parent_span_id=f"b{n:015x}", ts_us=ts + 5, duration_ms=9.0,
                name="look", operation="execute_tool", stage="tool", env="dev", app="agent",
                attributes={"gen_ai.tool.name": f"tool{n % 2}"},
            )  # fmt: skip
            yield ScoreRecord(id=f"q{n}", ts_us=ts + 9, request_id=f"r{n:04}", trace_id=trace, route="", env="",
                              name="good", value=n % 2 * 1.0, source="feedback")  # fmt: skip
    yield EventRecord(ts_us=NOW_US, trace_id=f"{5_000:032x}", span_id=f"b{0:015x}", name="gen_ai.choice", body="said",
                      attributes={"a": "b"})  # fmt: skip
    yield MetricRecord(ts_us=NOW_US, name="gen_ai.client.token.usage", type="histogram", value=5.0, count=2,
                       bounds=[1.0, 2.0], counts=[0, 1, 1], attributes={"m": "x"})  # fmt: skip
    for n in range(12):
        yield MetricRecord(ts_us=NOW_US - n * HOUR_US, name="pilothouse.flag.evaluations", type="sum", value=n + 1.0,
                           temporality="delta", env=("prod", "dev")[n % 4 == 3], app="pilothouse",
                           attributes={"flag": f"f{n % 2}", "variant": ("on", "off")[n % 3 == 0]})  # fmt: skip
    yield LossRecord(ts_us=NOW_US - 5, worker="edge-1", what="span", count=3, reason="full")


def journal(root: Path, lines: Any, name: str = SEGMENT) -> Path:
    path = root / "edge-0" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    return path


def loaded(store: TelemetryStore, root: Path, count: int = 120) -> TelemetryStore:
    journal(root, made(count))
    report = Loader(root, store, FrozenClock(NOW_US + 1)).load_once()
    assert report.torn == 0
    return store


def shape(value: Any) -> Any:
    """As plain values; numbers to nine digits, unknown lists as empty ones, rows of one rank in any order."""
    if isinstance(value, float):
        return float(f"{value:.9g}")
    if isinstance(value, dict):
        return {str(key): shape(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [shape(one) for one in value]
    if isinstance(value, msgspec.Struct):
        return shape({name: getattr(value, name) for name in value.__struct_fields__})
    return value


def loosely(value: Any) -> Any:
    """Lists and keys sorted: of equal counts either may come first. Empty is unknown."""
    if isinstance(value, dict):
        return {key: loosely(one) for key, one in sorted(value.items(), key=repr)}
    if isinstance(value, list):
        return sorted((loosely(one) for one in value), key=repr) or None
    return value


def differences(a: Any, b: Any, at: str = "") -> Iterator[str]:
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        for key, one in a.items():
            yield from differences(one, b[key], f"{at}.{key}")
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for number, (one, other) in enumerate(zip(a, b, strict=True)):
            yield from differences(one, other, f"{at}[{number}]")
    elif a != b:
        yield f"{at}: {str(a)[:300]} != {str(b)[:300]}"


NAMES = tuple(sql.split("(", 1)[0].split()[-1] for sql in TABLES)


def everything(store: TelemetryStore, tables: tuple[str, ...] = NAMES, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """Every row of every table with every column, in an order that is none of the engine's.

    An entry's number depends on how often it was made anew: marks stand with the id of their entry instead.
    """
    found = {table: store.query(f"SELECT * FROM {table}") for table in tables if table not in ("meta", *without)}
    if "entries" in found:
        ids = {row.pop("n"): (row["id"], row["is_trace"]) for row in found["entries"]}
        if "marks" in found:
            found["marks"] = [{"mark": row["mark"], "of": ids[row["n"]]} for row in found["marks"] if row["n"] in ids]
    return {table: sorted((shape(row) for row in rows), key=repr) for table, rows in found.items()}
