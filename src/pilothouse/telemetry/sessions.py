"""Conversations and users by their pseudonyms: lists with counts, cost and failures, and one session in time."""

from typing import Literal

import msgspec

from pilothouse.store.telemetry import TelemetryStore
from pilothouse.telemetry.filter import Query, Term
from pilothouse.telemetry.filter_sql import ASIDE, Window
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
    time = Window(since_us, until_us).of("ts")
    where = f"listed AND source NOT IN {ASIDE} AND {column} <> '' AND {time.sql}"
    begins = f" AND starts_with({column}, ?)" if typed else ""
    newest = store.query(
        f"SELECT {column} AS who, max(ts) AS seen, count(*) OVER () AS total FROM entries WHERE {where}{begins} "  # noqa: S608
        f"GROUP BY {column} ORDER BY seen DESC, who LIMIT {SHOWN_MAX}",
        [*time.params, *([typed] if typed else [])],
    )
    if not newest:
        return People(rows=(), total=0)
    found = store.query(
        f"""SELECT {column} AS id, count(*) AS n, count(*) FILTER (outcome = 'failed') AS failed,
  count(DISTINCT nullif(session, '')) AS sessions, epoch_us(min(ts)) AS first_us, epoch_us(max(ts)) AS last_us,
  sum(input_tokens + output_tokens)::BIGINT AS tokens, sum(cost_usd) AS cost_usd,
  list_sort(list(DISTINCT coalesce(nullif(route, ''), nullif(app, ''), name)))[1:3] AS routes
FROM entries WHERE {where} AND {column} IN ({", ".join("?" * len(newest))})
GROUP BY {column} ORDER BY last_us DESC, {column}""",  # noqa: S608  # own names
        [*time.params, *(row["who"] for row in newest)],
    )
    total = newest[0]["total"]
    return People(rows=tuple(msgspec.convert(row, Person) for row in found), total=total)


def turns(store: TelemetryStore, session: str, since_us: int = 0) -> tuple[list[Row], bool]:
    """The requests of a session in order of time, the newest two hundred of them; whether there are more."""
    page = find(store, Asked(query=Query((Term("session", (session,)),)), since_us=since_us, limit=TURNS_MAX))
    return page.rows[::-1], bool(page.next)
