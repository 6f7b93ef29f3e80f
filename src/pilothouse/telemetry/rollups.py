"""Rollups: counts by the minute and by the hour; what long windows read instead of raw rows, and what outlives them.

Two kinds: of the gateway's requests (`rollup_minute`, `rollup_hour`), and of calls of models, the gateway's and those
that apps' own spans tell of (`rollup_call_minute`, `rollup_call_hour`). Rows are added with each load and never read
before; readers sum, so nothing has to be merged then: `compact` does that later.
"""

from typing import Any, Literal

import duckdb
import msgspec

from pilothouse.store.telemetry import TelemetryStore, dialect

KEYS = "minute, source, route, env, release, canary, provider, model, outcome, error_type"
COUNTS = (
    *("requests", "attempts", "retried", "fallbacks", "structured", "valid_first", "valid"),
    *("with_tokens", "input_tokens", "output_tokens", "priced"),
)
HOUR_US = 3_600_000_000
HISTOGRAMS = ("duration_hist", "ttft_hist")
_CALL_COUNTS = ("calls", "with_tokens", "input_tokens", "output_tokens", "priced")
_SUMS = ("cost_usd", "duration_sum")
# What served a request; where nothing did, or its provider does not say, what was asked for.
REQUEST_MODEL = "coalesce(nullif(served_model, ''), nullif(asked_model, ''), requested_model)"
# What asks a model, by its span's operation.
ASKS = ("chat", "text_completion", "generate_content", "decide", "embeddings", "rerank")


class Rollup(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of rollup: its tables by the minute and by the hour, what its rows are of, and what they count."""

    minute: str
    hour: str
    keys: str
    counts: tuple[str, ...]

    @property
    def columns(self) -> str:
        """All columns, in the order in which `rows` has them."""
        return ", ".join((self.keys, *self.counts, *_SUMS, *HISTOGRAMS))


REQUESTS = Rollup(minute="rollup_minute", hour="rollup_hour", keys=KEYS, counts=COUNTS)
CALLS = Rollup(
    minute="rollup_call_minute",
    hour="rollup_call_hour",
    keys="minute, source, app, route, env, release, operation, provider, model, status",
    counts=_CALL_COUNTS,
)
ROLLUPS = (REQUESTS, CALLS)


def _bucketed(source_sql: str) -> str:
    return (
        f"(SELECT *, {dialect.bucket_of('duration_ms')} AS duration_bucket, "  # noqa: S608  # our own fragments
        f"{dialect.bucket_of('ttft_ms')} AS ttft_bucket FROM {source_sql})"
    )


_HISTS = f"""{dialect.histogram("duration_bucket")} AS duration_hist, {dialect.histogram("ttft_bucket")} AS ttft_hist"""
_TOKENS = """count(input_uncached) AS with_tokens,
  coalesce(sum(input_uncached + cache_read + cache_write), 0)::BIGINT AS input_tokens,
  coalesce(sum(output_text + reasoning), 0)::BIGINT AS output_tokens"""


def of(source_sql: str) -> str:
    """SQL that computes rollup rows from rows shaped like `requests` (a table's name or a query in brackets)."""
    return f"""
SELECT date_trunc('minute', ts) AS minute, source, route, env, release, canary, provider,
  {REQUEST_MODEL} AS model, outcome, error_type,
  count(*) AS requests, sum(attempt_count)::BIGINT AS attempts, count(*) FILTER (retries > 0) AS retried,
  count(*) FILTER (fallback_used AND outcome NOT IN ('failed', 'refused')) AS fallbacks,
  count(*) FILTER (structured) AS structured, count(*) FILTER (valid_first) AS valid_first,
  count(*) FILTER (valid) AS valid, {_TOKENS}, count(cost_usd) AS priced,
  coalesce(sum(cost_usd), 0) AS cost_usd, sum(duration_ms) AS duration_sum, {_HISTS}
FROM {_bucketed(source_sql)}
GROUP BY ALL"""  # noqa: S608  # our own fragments


_ASKED = ", ".join(f"'{operation}'" for operation in ASKS)
CALL_COLUMNS: dict[Literal["request", "span"], str] = {
    "request": f"""ts, source, coalesce(app, '') AS app, coalesce(route, '') AS route, coalesce(env, '') AS env,
  coalesce(release::VARCHAR, '') AS release, coalesce(api, '') AS operation, coalesce(provider, '') AS provider,
  coalesce({REQUEST_MODEL}, '') AS model,
  CASE WHEN outcome = 'failed' THEN 'error' ELSE 'ok' END AS status, input_uncached, cache_read, cache_write,
  output_text, reasoning, cost_usd, duration_ms, ttft_ms""",
    "span": """ts, 'otlp' AS source, coalesce(app, '') AS app, coalesce(route, '') AS route, coalesce(env, '') AS env,
  coalesce(release, '') AS release, coalesce(operation, '') AS operation, coalesce(provider, '') AS provider,
  coalesce(nullif(response_model, ''), request_model, '') AS model,
  CASE WHEN status = 'error' THEN 'error' ELSE 'ok' END AS status, input_uncached, cache_read, cache_write,
  output_text, reasoning, coalesce(cost_usd, reported_cost_usd) AS cost_usd, duration_ms, ttft_ms""",
}
_IS_CALL = {
    "request": "true",
    # An agent sums up what its calls say; what is counted elsewhere is not counted here.
    "span": f"(operation IN ({_ASKED}) OR coalesce(operation, '') = '' AND stage = 'model') "
    "AND coalesce(counted_by, '') = ''",
}


_RAW: dict[Literal["request", "span"], str] = {"request": "requests", "span": "spans"}


def calls_of(kind: Literal["request", "span"], source_sql: str) -> str:
    """SQL that computes rollup rows of calls from rows shaped like `requests` or `spans`."""
    called = f"(SELECT {CALL_COLUMNS[kind]} FROM {source_sql} WHERE {_IS_CALL[kind]})"  # noqa: S608
    return f"""
SELECT date_trunc('minute', ts) AS minute, source, app, route, env, release, operation, provider, model, status,
  count(*) AS calls, {_TOKENS}, count(cost_usd) AS priced, coalesce(sum(cost_usd), 0) AS cost_usd,
  coalesce(sum(duration_ms), 0) AS duration_sum, {_HISTS}
FROM {_bucketed(called)}
GROUP BY ALL"""  # noqa: S608  # our own fragments


def _merged(rollup: Rollup) -> str:
    sums = ", ".join(f"sum({name})::BIGINT AS {name}" for name in rollup.counts)
    sums += ", " + ", ".join(f"sum({name}) AS {name}" for name in _SUMS)
    return sums + ", " + ", ".join(f"{dialect.merged(name)} AS {name}" for name in HISTOGRAMS)


def add(write: duckdb.DuckDBPyConnection, batch: str) -> int:
    """Append the rollup rows of a batch of requests, inside the caller's transaction; the µs of its oldest row."""
    _append(write, REQUESTS, of(batch))
    _append(write, CALLS, calls_of("request", batch))
    return _oldest(write, batch)


def add_spans(write: duckdb.DuckDBPyConnection, batch: str) -> int:
    """Append the rows of the calls that a batch of spans tells of; the µs of its oldest row, 0 where there is none."""
    _append(write, CALLS, calls_of("span", batch))
    return _oldest(write, batch)


def take_back(write: duckdb.DuckDBPyConnection, spans: str) -> int:
    """Count these spans no more: a row for each minute that counts less; the µs of the oldest.

    `spans`: a relation shaped like `spans`, as its rows were when they were counted.
    """
    oldest_us = _oldest(write, spans)
    if not oldest_us:
        return 0
    less = ", ".join(f"-{name} AS {name}" for name in (*CALLS.counts, *_SUMS))
    less += ", " + ", ".join(f"list_transform({name}, lambda c: -(c::BIGINT)) AS {name}" for name in HISTOGRAMS)
    _append(write, CALLS, f"SELECT {CALLS.keys}, {less} FROM ({calls_of('span', spans)})")  # noqa: S608
    return oldest_us


def count_anew(write: duckdb.DuckDBPyConnection) -> None:
    """Fill the rollups that a store of an earlier version lacks: by the hour, and of calls, from what is kept."""
    columns = REQUESTS.columns.replace("minute", "date_trunc('hour', minute) AS minute", 1)
    for table in (REQUESTS.hour, CALLS.minute, CALLS.hour):
        write.execute(f"DELETE FROM {table}")  # noqa: S608  # our own names
    write.execute(
        f"INSERT INTO {REQUESTS.hour} BY NAME SELECT {REQUESTS.keys}, {_merged(REQUESTS)} "  # noqa: S608  # our own names
        f"FROM (SELECT {columns} FROM {REQUESTS.minute}) GROUP BY ALL"
    )
    days = write.execute(
        "SELECT DISTINCT date_trunc('day', ts) AS day FROM (SELECT ts FROM spans UNION ALL SELECT ts FROM requests)"
    ).fetchall()
    for (day,) in days:
        for kind, table in _RAW.items():
            write.execute(
                f"CREATE OR REPLACE TEMP TABLE of_day AS SELECT * FROM {table} "  # noqa: S608  # our own names
                "WHERE ts >= ? AND ts < ?::TIMESTAMP + INTERVAL 1 DAY",
                [day, day],
            )
            _append(write, CALLS, calls_of(kind, "of_day"))
            write.execute("DROP TABLE of_day")


def _append(write: duckdb.DuckDBPyConnection, rollup: Rollup, sql: str) -> None:
    write.execute(f"CREATE OR REPLACE TEMP TABLE rolled AS {sql}")
    write.execute(f"INSERT INTO {rollup.minute} BY NAME SELECT * FROM rolled")  # noqa: S608  # our own names
    hourly = "* REPLACE (date_trunc('hour', minute) AS minute)"
    write.execute(f"INSERT INTO {rollup.hour} BY NAME SELECT {hourly} FROM rolled")  # noqa: S608  # our own names
    write.execute("DROP TABLE rolled")


def _oldest(write: duckdb.DuckDBPyConnection, batch: str) -> int:
    oldest = write.execute(f"SELECT {dialect.micros('min(ts)')} FROM {batch}").fetchone()  # noqa: S608  # our own name
    return int(oldest[0]) if oldest and oldest[0] is not None else 0


def compact(store: TelemetryStore, since_us: int, before_us: int) -> int:
    """Merge the rows of minutes and hours in [since_us, before_us) that have several per key; the number saved."""
    return sum(
        _compact(store, rollup, table, since_us // unit_us * unit_us, before_us)
        for rollup in ROLLUPS
        for table, unit_us in ((rollup.minute, 60_000_000), (rollup.hour, HOUR_US))
    )


def _compact(store: TelemetryStore, rollup: Rollup, table: str, since_us: int, before_us: int) -> int:
    keys = rollup.keys
    with store.transaction() as write:
        write.execute(
            f"""CREATE OR REPLACE TEMP TABLE merged_rows AS
SELECT {keys}, {_merged(rollup)} FROM {table} WHERE minute IN (
  SELECT minute FROM {table} WHERE minute >= {dialect.at()} AND minute < {dialect.at()}
  GROUP BY minute HAVING count(*) > count(DISTINCT ({keys})))
GROUP BY ALL""",  # noqa: S608  # our own fragments
            [since_us, before_us],
        )
        gone = write.execute(f"DELETE FROM {table} WHERE minute IN (SELECT minute FROM merged_rows)").fetchone()  # noqa: S608
        put = write.execute(f"INSERT INTO {table} BY NAME SELECT * FROM merged_rows").fetchone()  # noqa: S608
        write.execute("DROP TABLE merged_rows")
    return int(gone[0] if gone else 0) - int(put[0] if put else 0)


def source(rollup: Rollup, since_us: int, until_us: int, bucket_s: int = 0) -> tuple[str, list[Any]]:
    """A relation with the rollup's rows in [since, until), whole minutes, and its parameters.

    Whole hours of it are read from the rows by the hour, where the buckets asked for (in s; 0: one) are whole hours.
    """
    begin = -(-since_us // HOUR_US) * HOUR_US
    end = until_us // HOUR_US * HOUR_US
    minute = f"SELECT {rollup.columns} FROM {rollup.minute} WHERE minute >= {dialect.at()} AND minute < {dialect.at()}"  # noqa: S608
    since_us = since_us // 60_000_000 * 60_000_000
    if begin >= end or bucket_s % 3600:
        return f"({minute})", [since_us, until_us]
    hour = minute.replace(rollup.minute, rollup.hour, 1)
    return f"({hour} UNION ALL {minute} UNION ALL {minute})", [begin, end, since_us, begin, end, until_us]
