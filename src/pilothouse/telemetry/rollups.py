"""Minute rollups: what dashboards, alerts and long windows read instead of raw rows, and what outlives them."""

import duckdb

from pilothouse.store.telemetry import TelemetryStore, dialect

KEYS = "minute, source, route, env, release, canary, provider, model, outcome, error_type"
COUNTS = (
    *("requests", "attempts", "retried", "fallbacks", "structured", "valid_first", "valid"),
    *("with_tokens", "input_tokens", "output_tokens", "priced"),
)
_SUMS = ("cost_usd", "duration_sum")
_HISTOGRAMS = ("duration_hist", "ttft_hist")


def of(source_sql: str) -> str:
    """SQL that computes rollup rows from rows shaped like `requests` (a table's name or a query in brackets)."""
    return f"""
SELECT date_trunc('minute', ts) AS minute, source, route, env, release, canary, provider,
  coalesce(nullif(served_model, ''), requested_model) AS model, outcome, error_type,
  count(*) AS requests, sum(attempt_count)::BIGINT AS attempts, count(*) FILTER (retries > 0) AS retried,
  count(*) FILTER (fallback_used AND outcome NOT IN ('failed', 'refused')) AS fallbacks,
  count(*) FILTER (structured) AS structured, count(*) FILTER (valid_first) AS valid_first,
  count(*) FILTER (valid) AS valid, count(input_uncached) AS with_tokens,
  coalesce(sum(input_uncached + cache_read + cache_write), 0)::BIGINT AS input_tokens,
  coalesce(sum(output_text + reasoning), 0)::BIGINT AS output_tokens,
  coalesce(sum(cost_usd), 0) AS cost_usd, count(cost_usd) AS priced, sum(duration_ms) AS duration_sum,
  {dialect.histogram("duration_bucket")} AS duration_hist, {dialect.histogram("ttft_bucket")} AS ttft_hist
FROM (SELECT *, {dialect.bucket_of("duration_ms")} AS duration_bucket, {dialect.bucket_of("ttft_ms")} AS ttft_bucket
      FROM {source_sql})
GROUP BY ALL"""  # noqa: S608  # our own fragments


def add(write: duckdb.DuckDBPyConnection, batch: str) -> int:
    """Append the rollup rows of a batch, inside the caller's transaction; the µs of its oldest row.

    Readers sum, so nothing is merged here: `compact` does that later.
    """
    write.execute(f"INSERT INTO rollup_minute BY NAME {of(batch)}")
    oldest = write.execute(f"SELECT {dialect.micros('min(ts)')} FROM {batch}").fetchone()  # noqa: S608  # our own name
    return int(oldest[0]) if oldest and oldest[0] is not None else 0


def compact(store: TelemetryStore, since_us: int, before_us: int) -> int:
    """Merge the rows of minutes in [since_us, before_us) that have several per key; the number of rows saved."""
    sums = ", ".join(f"sum({name})::BIGINT AS {name}" for name in COUNTS)
    sums += ", " + ", ".join(f"sum({name}) AS {name}" for name in _SUMS)
    sums += ", " + ", ".join(f"{dialect.merged(name)} AS {name}" for name in _HISTOGRAMS)
    with store.transaction() as write:
        write.execute(
            f"""CREATE OR REPLACE TEMP TABLE merged_minutes AS
SELECT {KEYS}, {sums} FROM rollup_minute WHERE minute IN (
  SELECT minute FROM rollup_minute WHERE minute >= date_trunc('minute', {dialect.at()}) AND minute < {dialect.at()}
  GROUP BY minute HAVING count(*) > count(DISTINCT ({KEYS})))
GROUP BY ALL""",  # noqa: S608  # our own fragments
            [since_us, before_us],
        )
        gone = write.execute("DELETE FROM rollup_minute WHERE minute IN (SELECT minute FROM merged_minutes)").fetchone()
        put = write.execute("INSERT INTO rollup_minute BY NAME SELECT * FROM merged_minutes").fetchone()
        write.execute("DROP TABLE merged_minutes")
    return int(gone[0] if gone else 0) - int(put[0] if put else 0)
