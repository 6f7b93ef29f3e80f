"""Conversations and users by their pseudonyms: lists with counts, cost and failures, and one session in time."""

from typing import Literal

import msgspec

from pilothouse.store.telemetry import TelemetryStore
from pilothouse.telemetry.filter import Query, Term
from pilothouse.telemetry.filter_sql import OWN, SPAN_COST, SPREAD_US, Window
from pilothouse.telemetry.listing import Asked, Row, find

SHOWN_MAX = 100
TURNS_MAX = 200
By = Literal["session", "user"]


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """A session or user in the time looked at. `cost_usd` None: no call had a price."""

    id: str
    n: int  # requests, and traces over OTLP alone
    failed: int
    sessions: int
    first_us: int
    last_us: int
    tokens: int | None
    cost_usd: float | None
    routes: list[str]


class People(msgspec.Struct, frozen=True, kw_only=True):
    """The newest hundred, and how many there are in all."""

    rows: tuple[Person, ...]
    total: int


def people(store: TelemetryStore, by: By, since_us: int, until_us: int = 0, typed: str = "") -> People:
    """Sessions or users that were last seen in the window, newest first; `typed`: whose id begins with it."""
    column = '"user"' if by == "user" else "session"
    window = Window(since_us, until_us)
    r, s, q = window.of("r.ts"), window.of("s.ts"), window.of("q.ts", SPREAD_US)
    t = window.of("t.ts", SPREAD_US)
    found = store.query(
        f"""WITH alone AS (
  SELECT s.trace_id, s.{column} AS id, s.session, s.ts, s.status, coalesce(nullif(s.route, ''), s.app, s.name) AS route
  FROM spans s WHERE coalesce(s.parent_span_id, '') = '' AND s.{column} <> '' AND {s.sql}
    AND s.trace_id NOT IN (SELECT q.trace_id FROM requests q WHERE q.trace_id IS NOT NULL AND {q.sql})),
used AS (
  SELECT t.trace_id, sum({SPAN_COST}) AS cost,
    sum(t.input_uncached + t.cache_read + t.cache_write + t.output_text + t.reasoning)::BIGINT AS tokens
  FROM spans t WHERE {t.sql} AND {OWN} AND t.trace_id IN (SELECT trace_id FROM alone) GROUP BY t.trace_id),
every AS (
  SELECT r.{column} AS id, r.session, r.ts, r.outcome = 'failed' AS failed, r.cost_usd AS cost, r.route,
    r.input_uncached + r.cache_read + r.cache_write + r.output_text + r.reasoning AS tokens
  FROM requests r WHERE r.source = 'edge' AND r.{column} <> '' AND {r.sql}
  UNION ALL
  SELECT a.id, a.session, a.ts, a.status = 'error', u.cost, a.route, u.tokens
  FROM alone a LEFT JOIN used u USING (trace_id)),
grouped AS (
  SELECT id, count(*) AS n, count(*) FILTER (failed) AS failed, count(DISTINCT nullif(session, '')) AS sessions,
    epoch_us(min(ts)) AS first_us, epoch_us(max(ts)) AS last_us, sum(tokens)::BIGINT AS tokens, sum(cost) AS cost_usd,
    list_sort(list(DISTINCT route))[1:3] AS routes
  FROM every WHERE starts_with(id, ?) GROUP BY id)
SELECT *, count(*) OVER () AS total FROM grouped ORDER BY last_us DESC, id LIMIT {SHOWN_MAX}""",  # noqa: S608
        [*s.params, *q.params, *t.params, *r.params, typed],
    )
    total = found[0].pop("total") if found else 0
    return People(rows=tuple(msgspec.convert(row, Person) for row in found), total=total)


def turns(store: TelemetryStore, session: str, since_us: int = 0) -> tuple[list[Row], bool]:
    """The requests of a session in order of time, the newest two hundred of them; whether there are more."""
    page = find(store, Asked(query=Query((Term("session", (session,)),)), since_us=since_us, limit=TURNS_MAX))
    return page.rows[::-1], bool(page.next)
