"""A page context over an invented fleet: six routes, alerts, a canary taken back, failing items. Deterministic.

`python fixture.py PORT` serves the pages over it, for browsers and plain HTTP clients.
"""

# ruff: noqa: E501  # an invented record reads better in few lines

import asyncio
import atexit
import functools
import hashlib
import math
import random
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
from fleet import NOW, PEOPLE, ROUTES, manifests, replies
from fleet_flags import flag_pages
from fleet_plans import plan_pages
from fleet_releases import canaries, drills, runbook
from granian.constants import Interfaces
from granian.server.embed import Server
from starlette.applications import Starlette
from starlette.exceptions import HTTPException

from pilothouse.domain.alert import Alert
from pilothouse.domain.change import Actor, ChainedChange, Change
from pilothouse.domain.clock import FrozenClock
from pilothouse.domain.errors import NotFound, Refused
from pilothouse.domain.evaluation import Verdict
from pilothouse.domain.finding import Finding, Review, RouteReview
from pilothouse.domain.manifest import PARTS, Manifest
from pilothouse.domain.record import (
    Attempt,
    Document,
    EventRecord,
    GuardHit,
    LimitHit,
    Payload,
    Record,
    Redaction,
    SpanEvent,
    SpanRecord,
    Tokens,
    Validation,
)
from pilothouse.domain.tasks import Tasks
from pilothouse.review import render
from pilothouse.review.catalogue import ITEMS
from pilothouse.server.pages import context as c
from pilothouse.server.pages import mount as pages
from pilothouse.server.views import traces
from pilothouse.store.telemetry import TelemetryStore
from pilothouse.telemetry import listing, payloads, sessions, steps
from pilothouse.telemetry.filter import Query
from pilothouse.telemetry.journal import Journal
from pilothouse.telemetry.listing import Row
from pilothouse.telemetry.loader import Loader

MINUTE, HOUR, DAY = 60_000_000, 3_600_000_000, 86_400_000_000
TOKEN = "let-me-in-to-the-fixture"
ME = Actor(type="person", id="ana")


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# --- overview


def points(name: str, since: int, until: int, bucket_s: int) -> tuple[c.TrafficPoint, ...]:
    """Daily rhythm, noise, and on docs-answer a bad release two hours long."""
    spec = ROUTES[name]
    rng = random.Random(f"{name}{bucket_s}")
    made = []
    for ts in range(since, until, bucket_s * 1_000_000):
        hour = ts / HOUR % 24
        level = spec["rate"] * (0.55 + 0.45 * math.sin((hour - 8) / 24 * math.tau)) * rng.uniform(0.86, 1.14)
        n = round(level * bucket_s / 3_600)
        if not n:
            continue
        bad = name == "docs-answer" and NOW - 150 * MINUTE <= ts < NOW - 55 * MINUTE
        errors = sum(rng.random() < (0.11 if bad else spec["errors"]) for _ in range(min(n, 4_000)))
        p95 = spec["p95"] * rng.uniform(0.9, 1.12) * (1.7 if bad else 1) * (1 + 0.15 * math.sin(hour))
        quality = spec["quality"]
        made.append(
            c.TrafficPoint(
                ts_us=ts, requests=n, errors=errors, p50_ms=p95 * 0.42, p95_ms=p95,
                cost_usd=None if spec["cost"] is None else n * spec["cost"] * rng.uniform(0.93, 1.07),
                quality=None if quality is None else min(1.0, quality * rng.uniform(0.985, 1.01) - (0.09 if bad else 0)),
                quality_n=0 if quality is None else n,
            )
        )  # fmt: skip
    return tuple(made)


def overview(window: c.Window, env: str) -> c.Overview:
    bucket = c.BUCKET_S[window]
    since = NOW - c.WINDOW_S[window] * 1_000_000
    since -= since % (bucket * 1_000_000)
    rows = []
    for name, spec in ROUTES.items():
        mine = points(name, since, NOW, bucket) if env == "prod" else ()
        n, quality_n = sum(p.requests for p in mine), sum(p.quality_n for p in mine)
        costs = [p.cost_usd for p in mine if p.cost_usd is not None]
        ready = spec["ready"]
        rows.append(
            c.RouteOverview(
                route=name, app=spec["app"], tier=spec["tier"], owner=spec["owner"], backup=spec["backup"],
                stable=spec["stable"] if env == "prod" else None,
                canary=spec["canary"] if env == "prod" else None, share=spec["share"],
                disabled_reason=spec["disabled"], pinned_model=spec["pinned"],
                observe=ready[0], evaluate=ready[1], roll_back=ready[2],
                ready=None if None in ready else min(ready) >= 0.8,
                requests=n, errors=sum(p.errors for p in mine),
                p95_ms=max((p.p95_ms or 0 for p in mine), default=None) if mine else None,
                cost_usd=sum(costs) if costs else None, priced=n if costs else 0,
                quality=sum((p.quality or 0) * p.quality_n for p in mine) / quality_n if quality_n else None,
                quality_n=quality_n, points=mine,
            )
        )  # fmt: skip
    marks = [
        c.Mark(ts_us=NOW - 150 * MINUTE, route="docs-answer", kind="canary", text="12 at 10 %", actor="person:ana"),
        c.Mark(ts_us=NOW - 55 * MINUTE, route="docs-answer", kind="abort", text="12 taken back", actor="policy:canary"),
        c.Mark(ts_us=NOW - 9 * HOUR, route="ticket-triage", kind="promote", text="6 → 7", actor="person:ben"),
        c.Mark(ts_us=NOW - 17 * HOUR, route="invoice-extract", kind="promote", text="22 → 23", actor="person:cho"),
        c.Mark(ts_us=NOW - 4 * HOUR, route="code-review", kind="canary", text="4 at 5 %", actor="person:dee"),
        c.Mark(ts_us=NOW - 3 * DAY, route="docs-answer", kind="promote", text="10 → 11", actor="person:ana"),
        c.Mark(ts_us=NOW - 5 * DAY, route="search-rewrite", kind="rollback", text="31 → 30", actor="person:cho"),
    ]
    return c.Overview(
        window=window, env=env, since_us=since, until_us=NOW, bucket_s=bucket, routes=tuple(rows),
        alerts=tuple(a for a in ALERTS if a.state != "resolved" and a.env == env),
        marks=tuple(m for m in marks if m.ts_us >= since and env == "prod"),
    )  # fmt: skip


ALERTS = [
    Alert(
        id="al-1", rule="schema-validity", route="invoice-extract", env="prod", state="firing", since_us=NOW - 12 * MINUTE,
        value=0.913, n=1_204, times_fired=1, threshold=0.95, owner="cho", actions_taken=["notify: cho by Slack, delivered"],
        message="first-attempt schema pass 91.3 %, fails under 95 %; since release 23",
    ),
    Alert(
        id="al-2", rule="cost-per-request", route="code-review", env="prod", state="acknowledged", since_us=NOW - 3 * HOUR,
        value=0.0412, n=912, times_fired=1, threshold=0.03, owner="dee", acknowledged_by="dee",
        actions_taken=["pin_model: openai/gpt-5-mini"], message="mean cost +37 % on the median of this hour of the week",
    ),
    Alert(
        id="al-3", rule="judged-good", route="search-rewrite", env="prod", state="no_data", since_us=NOW - 26 * HOUR,
        value=None, n=0, threshold=0.9, owner="cho", message="no scores for 26 h: is the sampler running?",
    ),
    Alert(
        id="al-4", rule="failures", route="docs-answer", env="prod", state="resolved", since_us=NOW - 55 * MINUTE,
        value=0.11, n=430, times_fired=1, threshold=0.05, owner="ana", actionable=True, acknowledged_by="ana",
        actions_taken=["rollback: canary 12 → 11 on 2 of 2 workers in 0.14 s"], message="failed 11.0 %, fires over 5 %",
    ),
    Alert(
        id="al-5", rule="latency-p95", route="ticket-triage", env="prod", state="resolved", since_us=NOW - 2 * DAY,
        value=2_140, n=3_410, times_fired=1, threshold=2_000, owner="ben", acknowledged_by="ben", message="p95 2.14 s, fires over 2 s",
    ),
]  # fmt: skip


# --- traces


def record(index: int) -> Record:
    """The request with this number, newest first."""
    rng = random.Random(index)
    name = rng.choices(list(ROUTES), weights=[r["rate"] for r in ROUTES.values()])[0]
    spec = ROUTES[name]
    model = spec["model"]
    outcome = rng.choices(
        ["success", "failed", "fallback", "degraded", "escalated", "refused"], weights=[88, 4, 4, 2, 1, 1]
    )[0]
    error = rng.choice(["timeout", "rate_limit", "server_error", "output_truncated"]) if outcome == "failed" else ""
    duration = min(30_000.0, rng.lognormvariate(math.log(spec["p95"] * 0.4), 0.6))
    ask, answer = rng.choice(replies(name))
    tokens = None if error == "timeout" else Tokens(
        input_uncached=rng.randint(300, 1_800), cache_read=rng.choice([0, 0, 1_024]), output_text=rng.randint(40, 420),
        reasoning=rng.choice([0, 0, 128]),
    )  # fmt: skip
    provider, _, bare = model.partition("/")
    attempts = [
        Attempt(
            n=1, kind="primary", provider=provider, model=bare, offset_ms=duration * 0.06, duration_ms=duration * 0.86,
            ttft_ms=duration * 0.21, status=200 if not error else 504, error_type=error, delivered=not error,
            served_model=bare, finish_reason="" if error else "stop", tokens=tokens, cost_usd=spec["cost"],
        )
    ]  # fmt: skip
    if outcome in {"fallback", "degraded"}:
        first = msgspec.structs.replace(
            attempts[0], duration_ms=duration * 0.3, status=429, error_type="rate_limit", delivered=False, tokens=None,
            cost_usd=None, ttft_ms=None, finish_reason="",
        )  # fmt: skip
        again = msgspec.structs.replace(
            first, n=2, kind="retry", offset_ms=duration * 0.42, duration_ms=duration * 0.1, backoff_ms=duration * 0.06
        )
        last = Attempt(
            n=3, kind="fallback", provider="local", model="smollm2", offset_ms=duration * 0.53, duration_ms=duration * 0.4,
            ttft_ms=duration * 0.1, status=200, delivered=True, served_model="smollm2-135m-instruct", tokens=tokens,
            finish_reason="stop", cost_usd=0.0,
        )  # fmt: skip
        attempts = [first, again, last]
    redacted = rng.random() < 0.2
    return Record(
        id=f"0198{index:04x}-7c3d-7{index % 4096:03x}-9f21-{digest(str(index))[:12]}", ts_us=NOW - index * 23_417_000 - 4_000_000,
        trace_id=digest(f"t{index}")[:32], span_id=digest(f"s{index}")[:16], env="prod", route=name, app=spec["app"],
        tier=spec["tier"], release=spec["stable"], canary=False, manifest=digest(f"{name}{spec['stable']}"),
        parts={p: digest(f"{name}{p}{spec['stable'] // 2}") for p in PARTS}, table_revision=418, worker="edge-0",
        key_id="k7Qm2xRa", session=f"s-{digest(str(index // 7))[:14]}", user=f"u-{digest(str(index % 23))[:14]}", segment=rng.choice(["free", "team", "enterprise"]),
        stream=rng.random() < 0.5, requested_model=name, provider=attempts[-1].provider,
        served_model=attempts[-1].served_model, fingerprint="fp_4c2f", outcome=outcome,
        status={"failed": 504, "refused": 400}.get(outcome, 200), error_type=error or ("missing_variable" if outcome == "refused" else ""),
        error_message="no answer within 30 s" if error == "timeout" else "", attempts=[] if outcome == "refused" else attempts,
        stages={"queue": 0.4, "preprocessing": duration * 0.05, "model": duration * 0.88, "postprocessing": duration * 0.05},
        duration_ms=duration, ttft_ms=None if error else duration * 0.27, tokens=tokens, cost_usd=spec["cost"],
        cost_source="genai-prices" if spec["cost"] else "",
        validation=Validation(first_ok=rng.random() < 0.9, ok=True, repairs=["fence", "trailing_comma"]) if spec["quality"] else None,
        redaction=Redaction(status="redacted", classes={"email": 2, "phone": 1}) if redacted else Redaction(status="clean"),
        log_mode="redacted", preview_in=ask, preview_out=answer,
    )  # fmt: skip


def guarded(r: Record) -> Record:
    """A request in which the safeguards had something to do: it waited, was hedged, asked again and trimmed."""
    first = msgspec.structs.replace(r.attempts[0], cancelled=True, error_type="cancelled", delivered=False)
    later = [
        msgspec.structs.replace(r.attempts[0], n=n, kind=kind, trimmed=trimmed, retry_after_s=wait)
        for n, kind, trimmed, wait in ((2, "hedge", 0, None), (3, "reask", 0, 1.5), (4, "fallback", 3, None))
    ]
    return msgspec.structs.replace(
        r, api="messages", cache="miss", way="trim", outcome="degraded", queued_ms=140.0, priority="low",
        stream_end="continued", attempts=[first, *later], limits=[LimitHit("slots", "concurrency")],
        guards=[GuardHit("pii", "output", "mask", "email")], error_type="",
    )  # fmt: skip


RECORDS = [record(i) for i in range(400)]
RECORDS[1] = guarded(RECORDS[1])
BY_ID = {r.id: r for r in RECORDS}


def kept(r: Record) -> Payload:
    ask = {
        "model": r.route,
        "messages": [
            {"role": "system", "content": "You answer from the documentation alone. Cite every source as [id]."},
            {"role": "user", "content": r.preview_in},
        ],
        "stream": r.stream,
    }
    said = {
        "choices": [{"index": 0, "message": {"role": "assistant", "content": r.preview_out}, "finish_reason": "stop"}]
    }
    return Payload(request=msgspec.json.encode(ask).decode(), response=msgspec.json.encode(said).decode())


def app_spans(r: Record, index: int) -> list[SpanRecord]:
    """An assistant's turn around a request: retrieval, the call of the gateway, a tool, post-processing."""
    d, before = r.duration_ms, r.duration_ms * 0.34
    start = r.ts_us - int(before * 1_000)
    root = digest(f"root{index}")[:16]

    def span(
        name: str, stage: str, at: float, length: float, ident: str = "", parent: str = root, **more: object
    ) -> SpanRecord:
        return SpanRecord(
            trace_id=r.trace_id, span_id=ident or digest(f"{name}{index}")[:16], parent_span_id=parent, ts_us=start + int(at * 1_000),
            duration_ms=length, name=name, stage=stage, env="prod", app=r.app, route=r.route, dialect="genai", **more,
        )  # fmt: skip

    retrieve = digest(f"retrieve{index}")[:16]
    return [
        span("answer question", "", 0, before + d * 1.22, root, ""),
        span("understand", "preprocessing", d * 0.01, before * 0.2),
        span("retrieve", "retrieval", before * 0.24, before * 0.62, retrieve),
        span("embed query", "retrieval", before * 0.26, before * 0.2, parent=retrieve, operation="embeddings",
             request_model="bge-small", response_model="bge-small"),
        span("search index docs", "retrieval", before * 0.47, before * 0.37, parent=retrieve, operation="retrieval",
             index_name="docs", index_version="2026-11-21",
             documents=[Document(f"guide/{n}", 0.91 - n * 0.07, 86_400.0 * (3 + n * n)) for n in range(4)]),
        span("log query", "tool", before * 0.5, before * 0.2),
        span(f"chat {r.route}", "model", before - 2, d + 3, digest(f"chat{index}")[:16], operation="chat", request_model=r.route,
             tokens=r.tokens, cost_usd=r.cost_usd),
        span("check citations", "postprocessing", before + d * 1.02, d * 0.14),
        span("save to memory", "tool", before + d * 1.03, d * 0.08),
    ]  # fmt: skip


def agent(index: int) -> list[object]:
    """A trace of an agent that sent its spans over OTLP alone: it thinks, calls tools, and fails now and then."""
    rng = random.Random(index + 7_000)
    trace, start = digest(f"agent{index}")[:32], NOW - index * 291_000_000 - 2_000_000
    root, failed = digest(f"{trace}root")[:16], index % 9 == 4
    who = {"session": f"s-{digest(f'as{index // 3}')[:14]}", "user": f"u-{digest(f'au{index % 4}')[:14]}"}
    made: list[object] = []
    at = 20.0
    for turn in range(rng.randint(2, 4)):
        chat, tool = digest(f"{trace}c{turn}")[:16], digest(f"{trace}t{turn}")[:16]
        think, work = rng.uniform(300, 1_900), rng.uniform(30, 900)
        name = rng.choice(["search_flights", "get_weather", "book_hotel"])
        made += [
            SpanRecord(
                trace_id=trace, span_id=chat, parent_span_id=root, ts_us=start + int(at * 1_000), duration_ms=think, name="chat gpt-5-mini",
                operation="chat", stage="model", env="prod", app="travel-agent", provider="openai", request_model="gpt-5-mini",
                response_model="gpt-5-mini-2026-08-07", finish_reason="tool_calls", dialect="genai", ttft_ms=think * 0.3,
                tokens=Tokens(input_uncached=600 + 240 * turn, cache_read=512 * turn, output_text=80, reasoning=64), cost_usd=0.0011 + 0.0004 * turn,
                preview_in="Plan three days in Bergen", preview_out=f"I will call {name}", attributes={"gen_ai.request.temperature": "0.2"},
            ),
            EventRecord(ts_us=start + int(at * 1_000), trace_id=trace, span_id=chat, name="gen_ai.user.message", body="Plan three days in Bergen for two, in June."),
            EventRecord(ts_us=start + int((at + think) * 1_000), trace_id=trace, span_id=chat, name="gen_ai.choice", body='{"tool_calls":[{"name":"' + name + '"}]}'),
            SpanRecord(
                trace_id=trace, span_id=tool, parent_span_id=root, ts_us=start + int((at + think + 4) * 1_000), duration_ms=work, name=f"execute_tool {name}",
                operation="execute_tool", stage="tool", env="prod", app="travel-agent", dialect="genai",
                status="error" if failed and turn == 1 else "ok", error_type="timeout" if failed and turn == 1 else "",
                attributes={"gen_ai.tool.name": name}, preview_in='{"city":"Bergen","nights":3}', preview_out='{"found":4}',
                payload=Payload(request=f'{{"city":"Bergen","nights":{3 + turn}}}', response=f'{{"found":{4 - turn},"best":"Bryggen Inn"}}'),
                events=[SpanEvent("exception", work, {"exception.type": "TimeoutError"})] if failed and turn == 1 else [],
            ),
        ]  # fmt: skip
        at += think + work + 9
    first = SpanRecord(
        trace_id=trace, span_id=root, ts_us=start, duration_ms=at + 30, name="invoke_agent concierge", operation="invoke_agent", env="prod",
        app="travel-agent", release="2026.11.3", status="error" if failed else "ok", error_type="timeout" if failed else "", dialect="genai",
        preview_in="Plan three days in Bergen for two, in June.", preview_out="" if failed else "Day 1: Bryggen and the fish market …", **who,
    )  # fmt: skip
    return [first, *made]


HUGE = digest("huge")[:32]
_HUGE_SPANS = """INSERT INTO spans (trace_id, span_id, parent_span_id, ts, duration_ms, name, stage, env, app, status, operation)
SELECT ?, CASE WHEN i = 0 THEN 'root' ELSE 'h' || i END,
  CASE WHEN i = 0 THEN '' WHEN i % 50 = 1 THEN 'root' WHEN i % 50 < 8 THEN 'h' || (i - i % 50 + 1) ELSE 'h' || (i - i % 50 + 2 + i % 6) END,
  make_timestamp(?::BIGINT + i * 1000), CASE WHEN i = 0 THEN 60000 ELSE 40 - i % 30 END,
  CASE WHEN i = 0 THEN 'nightly crawl' ELSE 'step ' || i END, CASE WHEN i % 5 = 0 THEN 'tool' ELSE '' END, 'prod', 'crawler', 'ok', ''
FROM range(50000) t(i)"""


def loaded(folder: Path) -> TelemetryStore:
    """A store with the fleet's requests and spans, as the journal would bring them."""
    clock = FrozenClock(NOW)
    store = TelemetryStore(folder / "telemetry.duckdb")
    journal = Journal(folder / "journal", "edge-0", clock, fsync="never", reserve_bytes=0)
    for index, r in enumerate(RECORDS):
        around = app_spans(r, index)
        journal.write(msgspec.structs.replace(r, payload=kept(r), parent_span_id=around[6].span_id))
        for span in around if index < 60 else ():
            journal.write(span)
    for index in range(36):
        for line in agent(index):
            journal.write(line)
    journal.close()
    while Loader(folder / "journal", store, clock).load_once().lines:
        pass
    with store.transaction() as write:
        write.execute(
            "UPDATE spans SET request_id = r.id, counted_by = r.id FROM requests r WHERE spans.trace_id = r.trace_id AND spans.operation = 'chat'"
        )
        write.execute(_HUGE_SPANS, [HUGE, NOW - 5 * HOUR])
    return store


def payloads_of(store: TelemetryStore, owners: Sequence[str]) -> dict[str, Payload]:
    return {owner: Payload(**found) for owner, found in payloads.fetch(store, owners).items()}


async def replay(ident: str, send: bool, actor: Actor) -> c.Replayed:
    if ident not in BY_ID:
        raise NotFound(f"no request {ident!r} is stored")
    again = c.Replayed(same=True, hash=digest(ident), recorded_hash=digest(ident), redacted=True)
    return (
        msgspec.structs.replace(
            again, sent=True, text="The same answer, once more.", duration_ms=412.0, cost_usd=0.0004
        )
        if send
        else again
    )


VIEWS: list[c.SavedView] = [c.SavedView(name="Failing now", filter="outcome:failed env:prod", age="1h")]


async def save_view(view: c.SavedView, actor: Actor) -> str:
    VIEWS[:] = [v for v in VIEWS if (v.name, v.owner) != (view.name, view.owner)] + [view]
    return "saved"


async def drop_view(view: c.SavedView, actor: Actor) -> str:
    VIEWS[:] = [v for v in VIEWS if (v.name, v.owner) != (view.name, view.owner)]
    return "gone"


class Coming:
    """What the live tail sees: one more request with every look."""

    def __init__(self, store: TelemetryStore) -> None:
        self.store, self.looks = store, 0

    def fresh(self, queries: Sequence[Query], since_us: int) -> list[list[Row]]:
        self.looks += 1
        new = msgspec.structs.replace(
            RECORDS[0],
            id=f"live-{self.looks}",
            ts_us=NOW + self.looks,
            outcome="failed" if self.looks % 2 else "success",
        )
        journal = Journal(
            Path(str(self.store.path)).parent / "coming", "edge-1", FrozenClock(NOW), fsync="never", reserve_bytes=0
        )
        journal.write(new)
        journal.close()
        Loader(Path(str(self.store.path)).parent / "coming", self.store, FrozenClock(NOW)).load_once()
        return listing.fresh(self.store, queries, since_us)


def readers(store: TelemetryStore) -> dict[str, object]:
    """The readers of traces over a store, as control wires them."""
    trees = traces.Trees(store, FrozenClock(NOW))
    part = functools.partial
    return {
        "list_traces": part(listing.find, store), "values": part(listing.values, store), "fresh": Coming(store).fresh,
        "trace": trees.detail, "tree": trees.tree, "span": part(steps.span, store), "payloads": lambda owners, _: payloads_of(store, owners),
        "people": lambda by, since_us, typed: sessions.people(store, by, since_us, typed=typed), "turns": part(sessions.turns, store),
        "views": lambda person: tuple(v for v in VIEWS if v.owner in ("", person)),
        "replay": replay, "save_view": save_view, "drop_view": drop_view,
    }  # fmt: skip


# --- releases


def verdict(kind: str, delta: float, n: int) -> Verdict:
    return Verdict(
        verdict=kind, reason="", n=n, baseline_rate=0.894, candidate_rate=0.894 + delta, delta=delta, low=delta - 0.037,
        high=delta + 0.037, p_harm=0.0004 if delta < -0.05 else 0.4, broke=26, mended=7, errors=0, mde=0.046, margin=0.03,
    )  # fmt: skip


def releases(route: str) -> c.ReleaseBoard | None:
    spec = ROUTES.get(route)
    if spec is None:
        return c.ReleaseBoard(route=route, until_us=NOW) if route == "unborn" else None
    top, live = spec["top"], spec["stable"]
    notes = ["Answers shorter, two retries", "Cite every source", "Prompt names the product", "Lower temperature",
             "Schema: confidence may be null", "First version"]  # fmt: skip
    changed = [("prompt", "params", "policy"), ("system",), ("prompt",), ("params",), ("schema", "policy"), PARTS]
    rows = []
    for i in range(min(top, 6)):
        number = top - i
        judged = verdict("block", -0.077, 246) if number == 12 else verdict("pass", 0.012 - i * 0.002, 246)
        rows.append(
            c.ReleaseRow(
                number=number, created_us=NOW - (i * 41 + 3) * HOUR, author="ana" if i % 3 else "ben",
                notes=notes[i], vcs=digest(f"{route}{number}")[:40], hash=digest(f"m{route}{number}"),
                changed=changed[i], verdict=None if i == 5 else judged,
            )
        )  # fmt: skip
    canary = None
    if spec["canary"]:
        canary = c.CanaryState(
            release=spec["canary"], share=spec["share"], since_us=NOW - 4 * HOUR, n=412,
        )  # fmt: skip
    pointers = [
        c.PointerState(env="prod", stable=live, since_us=NOW - 3 * DAY, previous=live - 1, canary=canary,
                       disabled_reason=spec["disabled"], pinned_model=spec["pinned"]),
        c.PointerState(env="staging", stable=top, since_us=NOW - 5 * HOUR, previous=live),
        c.PointerState(env="dev", stable=top, since_us=NOW - 6 * HOUR),
    ]  # fmt: skip
    since = NOW - 7 * DAY
    lanes = [
        c.LaneSpan(
            env="prod", release=live - 1, kind="stable", from_us=NOW - 9 * DAY, to_us=NOW - 3 * DAY, ended="replaced"
        ),
        c.LaneSpan(env="prod", release=live, kind="stable", from_us=NOW - 3 * DAY),
        c.LaneSpan(
            env="prod", release=live, kind="canary", from_us=NOW - 4 * DAY, to_us=NOW - 3 * DAY, ended="promoted"
        ),
        c.LaneSpan(
            env="staging", release=live, kind="stable", from_us=NOW - 8 * DAY, to_us=NOW - 5 * HOUR, ended="replaced"
        ),
        c.LaneSpan(env="staging", release=top, kind="stable", from_us=NOW - 5 * HOUR),
    ]
    if top > live and not canary:
        lanes.append(
            c.LaneSpan(
                env="prod",
                release=top,
                kind="canary",
                from_us=NOW - 150 * MINUTE,
                to_us=NOW - 55 * MINUTE,
                ended="aborted",
            )
        )
    elif canary:
        lanes.append(c.LaneSpan(env="prod", release=canary.release, kind="canary", from_us=NOW - 4 * HOUR))
    log = [
        (
            "policy:canary",
            "canary.abort",
            "aborted: 41 of 430 requests failed against 2.7 % allowed; evidence 1.3e+04 ≥ 1,400",
            55 * MINUTE,
        ),
        ("person:ana", "canary.start", "gate overruled: urgent wording", 150 * MINUTE),
        ("person:ana", "release.create", "", 3 * HOUR),
        ("person:ben", "release.promote", "", 3 * DAY),
        ("cli:root", "release.create", "", 4 * DAY),
    ]
    history = [
        ChainedChange(
            seq=90 - i, ts_us=NOW - age, prev_hash="", hash=digest(f"{route}{i}"),
            change=Change(actor=Actor(*who.split(":")), action=action, object_type="release", object_id=str(top), route=route,
                          env="prod" if "create" not in action else "", reason=reason),
        )
        for i, (who, action, reason, age) in enumerate(log)
    ]  # fmt: skip
    return c.ReleaseBoard(
        route=route, owner=PEOPLE[spec["owner"]], since_us=since - since % 10_800_000_000, until_us=NOW, pointers=tuple(pointers),
        releases=tuple(rows), lanes=tuple(lanes), points=points(route, since - since % 10_800_000_000, NOW, 10_800), history=tuple(history),
        canaries=canaries(route), drills=drills(route),
    )  # fmt: skip


def releases_now(route: str) -> c.ReleaseNow | None:
    """What is now, and nothing of what only the whole page shows."""
    board = releases(route)
    names = c.ReleaseNow.__struct_fields__
    return c.ReleaseNow(**{name: getattr(board, name) for name in names}) if board is not None else None


def manifest(route: str, number: int) -> Manifest | None:
    spec = ROUTES.get(route)
    if spec is None or not 0 < number <= spec["top"]:
        return None
    old, new = manifests(spec["model"])
    return new if number == spec["top"] else old


# --- review

WRONG = {
    "docs-answer": {
        "T3.2": ("FAIL", "0.81", 246, "fail < 0.85", "\"multi-hop\" fails 19 of 31; since release 9",
                 "add cases and revisit the prompt; `pilothouse eval show 88`"),
        "T7.1": ("WARN", "+31 %", 48_211, "warn +25 %", "context +24 %, retries +6 %, 1 % unexplained", ""),
        "T10.2": ("WARN", "61 d ago", 1, "warn 30 d", "last probe of the fallback model", "`pilothouse drill model docs-answer`"),
    },
    "invoice-extract": {
        "T4.1": ("FAIL", "91.3 %", 1_204, "fail < 95 %", "`total` is a string in 61 answers; since release 23", "roll back to 22"),
        "T3.3": ("FAIL", "1 must-pass broke", 90, "fail ≥ 1", "case invoice-vat-07", ""),
    },
}  # fmt: skip
UNMEASURED = {"T3.4", "T5.2", "T5.3", "T9.5", "CM.1", "CQ.1", "G8"}


def review(route: str) -> Review:
    names = [route] if route else list(ROUTES)
    found = [route_review(name) for name in names]
    found.sort(key=lambda r: (r.ready, r.route))
    return Review(
        measured_at="2026-11-23T14:32:00Z", window="last 7 days", ready=all(r.ready for r in found), routes=found
    )


def route_review(name: str) -> RouteReview:
    spec = ROUTES[name]
    findings = []
    for item in ITEMS:
        status, value, n, threshold, detail, fix = WRONG.get(name, {}).get(
            item.id, ("PASS", "100 %", 4_821, "", "", "")
        )
        if item.id in UNMEASURED:
            status, value, n = "NO_DATA", "not measured yet", None
        elif item.layer.startswith("5") and spec["app"] != "docs":
            status, value, n = "N/A", "no retrieval", None
        findings.append(
            Finding(
                id=item.id, title=item.title, layer=item.layer, status=status, value=value, n=n,
                threshold=threshold or item.fail, owner=PEOPLE[spec["owner"]], fallback=item.fallback, detail=detail,
                fix=fix, evidence=f"/traces?route={name}", measured_at="2026-11-23T14:32:00Z",
            )
        )  # fmt: skip
    counts: dict[str, int] = {}
    for finding in findings:
        counts[finding.status] = counts.get(finding.status, 0) + 1
    observe, evaluate, roll_back = spec["ready"]
    return RouteReview(
        route=name, env="prod", release=spec["stable"], tier=spec["tier"], owner=PEOPLE[spec["owner"]],
        backup=PEOPLE[spec["backup"]], window="last 7 days", requests=round(spec["rate"] * 92),
        ready=None not in spec["ready"] and min(spec["ready"]) >= 0.8, floor=0.8, observe=observe, evaluate=evaluate,
        roll_back=roll_back, security_fails=0, findings=findings, counts=counts,
    )  # fmt: skip


# --- the context

SESSIONS = {"fixture": c.Session(actor=ME, csrf="csrf-of-the-fixture")}


async def promote(order: c.Promotion, actor: Actor) -> str:
    if order.release == 12 and not order.force:
        raise Refused(
            "release 12 did not pass its gate", where=order.route, hint="overrule it with a reason, or fix it"
        )
    return f"Release {order.release} serves {order.env} on 2 of 2 workers in 0.14 s ({actor})."


async def rollback(order: c.Return, actor: Actor) -> str:
    if order.part:
        return f"{order.part} alone is as in release {order.to or 10}: release 13 serves {order.env}; 20 of 20 recorded inputs render."
    return f"Release 11 → {order.to or 10} in {order.env} on 2 of 2 workers in 0.14 s; 0 requests failed."


def _set(ident: str, **values: object) -> str:
    for i, alert in enumerate(ALERTS):
        if alert.id == ident:
            ALERTS[i] = msgspec.structs.replace(alert, **values)
            return "done"
    raise NotFound(f"no alert {ident}")


async def acknowledge(ident: str, actor: Actor) -> str:
    return _set(ident, state="acknowledged", acknowledged_by=actor.id)


async def set_actionable(ident: str, value: bool, actor: Actor) -> str:
    return _set(ident, actionable=value)


def make_context(empty: bool = False) -> c.PageContext:
    """The context over the fleet, or over an installation in which nothing has happened yet."""
    nothing = c.Overview(window="24h", env="prod", since_us=NOW - DAY, until_us=NOW, bucket_s=1_800, routes=())
    folder = Path(tempfile.mkdtemp(prefix="fleet-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    store = TelemetryStore(folder / "empty.duckdb") if empty else loaded(folder)
    return c.PageContext(
        **readers(store),
        clock=FrozenClock(NOW), tasks=Tasks(), version="0.1.0", gateway_url="http://127.0.0.1:4000/v1",
        session=lambda cookies: SESSIONS.get(cookies.get("pilothouse_fixture", "")),
        check_csrf=lambda session, token: token == session.csrf,
        sign_in=lambda secret: c.SignedIn(cookie="pilothouse_fixture", value="fixture", max_age_s=600) if secret == TOKEN else None,
        sign_out=lambda _: "pilothouse_fixture", password_set=True,
        overview=(lambda _w, _e: nothing) if empty else overview,
        routes=tuple if empty else (lambda: tuple(sorted(ROUTES))),
        releases=releases, releases_now=releases_now, manifest=manifest, plans=plan_pages(), runbook=runbook,
        review=(lambda _: Review(measured_at="2026-11-23T14:32:00Z", window="", ready=False, routes=[])) if empty else review,
        review_html=render.html, alerts=tuple if empty else (lambda: tuple(ALERTS)), promote=promote, rollback=rollback,
        acknowledge=acknowledge, set_actionable=set_actionable, flags=flag_pages(empty),
    )  # fmt: skip


def make_app(empty: bool = False) -> Starlette:
    ctx = make_context(empty)
    return Starlette(routes=pages.routes(ctx), exception_handlers={HTTPException: pages.refused(ctx)})


async def serve(port: int, empty: bool) -> None:
    await Server(make_app(empty), address="127.0.0.1", port=port, interface=Interfaces.ASGI).serve()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), "--empty" in sys.argv))
