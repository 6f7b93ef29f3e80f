"""Entries: a row for each line of the traces list, with everything that it may be asked for by.

A line is a request of the gateway, or a trace that came over OTLP alone. Entries are made of the raw rows in the load's
transaction. What belongs to a trace that is known already (a root that comes late, a request that comes after its
spans) makes its entries anew, from all of its rows; so the order in which they come plays no part. The spans of a trace
with requests have an entry too, which is not listed: it says when they were.
"""

from typing import Any

import msgspec

from pilothouse.store.telemetry import TelemetryStore
from pilothouse.store.telemetry.recall import Amend, Recall
from pilothouse.telemetry import marks, rollups
from pilothouse.telemetry.arrivals import ranges

SPREAD_US = 3_600_000_000  # a trace's spans lie at most so long after the first of them
GONE_AT_ONCE = 5_000  # numbers in one statement: a server takes no longer one
JUDGED_US = 35 * 86_400_000_000  # so long after a request it may be judged, to be found by that
OWN = "coalesce(t.counted_by, '') = ''"  # a call that two have seen counts once
MODEL = "coalesce(nullif(t.response_model, ''), t.request_model)"
COST = "coalesce(t.cost_usd, t.reported_cost_usd)"
IS_TOOL = "(t.operation = 'execute_tool' OR t.stage = 'tool')"
TOOL = "coalesce(nullif(t.attributes['gen_ai.tool.name'], ''), t.name)"
SEPARATOR = "\x1f"  # around each name of a set

_SPAN: dict[str, str] = {
    **dict.fromkeys(
        ("trace_id", "span_id", "parent_span_id", "name", "operation", "stage", "env", "app", "route", "session",
         '"user"', "provider", "request_model", "response_model", "status", "error_type", "preview_in", "preview_out",
         "release", "request_id", "counted_by"),
        "VARCHAR",
    ),
    **dict.fromkeys(("input_uncached", "cache_read", "cache_write", "output_text", "reasoning"), "BIGINT"),
    **dict.fromkeys(("duration_ms", "ttft_ms", "cost_usd", "reported_cost_usd"), "DOUBLE"),
    "ts": "TIMESTAMP",
    "documents": "STRUCT(id VARCHAR, score DOUBLE, age_s DOUBLE)[]",
    "attributes": "MAP(VARCHAR, VARCHAR)",
}  # fmt: skip
_REQUEST: dict[str, str] = {
    **dict.fromkeys(
        ("id", "trace_id", "span_id", "source", "env", "route", "app", "outcome", "error_type", "error_message",
         "asked_model", "served_model", "requested_model", "provider", "session", '"user"', "preview_in",
         "preview_out", "api", "cache", "segment", "key_id", "way", "own_trace_id"),
        "VARCHAR",
    ),
    **dict.fromkeys(("input_uncached", "cache_read", "cache_write", "output_text", "reasoning"), "BIGINT"),
    **dict.fromkeys(("duration_ms", "ttft_ms", "cost_usd"), "DOUBLE"),
    **dict.fromkeys(("release", "status", "attempt_count"), "INTEGER"),
    **dict.fromkeys(("canary", "fallback_used", "stream"), "BOOLEAN"),
    "ts": "TIMESTAMP",
    "guard_hits": "VARCHAR[]",
    "labels": "MAP(VARCHAR, VARCHAR)",
}  # fmt: skip


def _set(expression: str, where: str = "true") -> str:
    """SQL for a group's distinct names as one text, each between separators."""
    names = f"list_sort(list(DISTINCT {expression}) FILTER ({expression} <> '' AND {where}))"
    return f"coalesce(chr(31) || array_to_string({names}, chr(31)) || chr(31), '')"


def _one(expression: str) -> str:
    """SQL for one name as such a text."""
    return f"CASE WHEN {expression} <> '' THEN chr(31) || {expression} || chr(31) ELSE '' END"


_TRACES = f"""CREATE OR REPLACE TEMP TABLE entry_traces AS
SELECT t.trace_id, count(*) AS span_count, min(t.ts) AS first,
  max(t.ts + to_microseconds((coalesce(t.duration_ms, 0) * 1000)::BIGINT)) AS last,
  sum(t.input_uncached + t.cache_read + t.cache_write) FILTER ({OWN})::BIGINT AS input_tokens,
  sum(t.output_text + t.reasoning) FILTER ({OWN})::BIGINT AS output_tokens, sum({COST}) FILTER ({OWN}) AS cost_usd,
  count(*) FILTER (t.stage = 'model')::INTEGER AS calls, min(t.ttft_ms) AS ttft_ms,
  min(nullif(t.error_type, '')) AS error_type,
  max_by({MODEL}, (t.duration_ms, t.span_id)) FILTER (concat(t.request_model, t.response_model) <> '') AS model,
  {_set(MODEL)} AS models, {_set("t.provider")} AS providers, {_set("t.error_type")} AS errors,
  {_set(TOOL, IS_TOOL)} AS tools, coalesce(bool_or(t.status = 'error'), false) AS failed,
  coalesce(bool_or(len(t.documents) > 0), false) AS documents,
  min_by(t.preview_in, (t.ts, t.span_id)) FILTER (t.preview_in <> '') AS preview_in,
  max_by(t.preview_out, (t.ts, t.span_id)) FILTER (t.preview_out <> '') AS preview_out,
  min(nullif(t.session, '')) AS session, min(nullif(t."user", '')) AS "user"
FROM entry_spans t GROUP BY t.trace_id"""  # noqa: S608  # own fragments

# The root, or where none has come the earliest span. Of a trace with a request, or whose call another trace counts, it
# is not listed.
_OF_TRACES = """SELECT nextval('entry_numbers') AS n, s.trace_id AS id, s.ts, s.trace_id, s.span_id AS root_id,
  '' AS own_trace_id, true AS is_trace,
  (coalesce(s.counted_by, '') = '' OR starts_with(s.counted_by, s.trace_id))
    AND s.trace_id NOT IN (SELECT trace_id FROM entry_requests) AS listed,
  b.first, b.last, 'otlp' AS source, coalesce(s.env, '') AS env, coalesce(s.route, '') AS route,
  coalesce(s.app, '') AS app, coalesce(s.name, '') AS name, coalesce(s.release, '') AS release, false AS canary,
  CASE WHEN s.status = 'error' THEN 'failed' ELSE 'success' END AS outcome, 0 AS status,
  coalesce(nullif(s.error_type, ''), b.error_type, '') AS error_type, '' AS error_message,
  coalesce(b.model, '') AS model, '' AS requested_model, coalesce(nullif(s.session, ''), b.session, '') AS session,
  coalesce(nullif(s."user", ''), b."user", '') AS "user", b.calls AS attempt_count, b.span_count::INTEGER AS span_count,
  coalesce(s.duration_ms, 0) AS duration_ms, b.ttft_ms, b.input_tokens, b.output_tokens, b.cost_usd,
  coalesce(nullif(s.preview_in, ''), b.preview_in, '') AS preview_in,
  coalesce(nullif(s.preview_out, ''), b.preview_out, '') AS preview_out, '' AS api, '' AS cache, '' AS segment,
  '' AS key_id, b.models, b.providers, b.errors, b.tools, b.failed, false AS retry, false AS fallback, false AS guard,
  false AS stream, b.documents, s.trace_id IN (SELECT trace_id FROM entry_scores) AS scored
FROM (SELECT * FROM entry_spans QUALIFY row_number() OVER (
  PARTITION BY trace_id ORDER BY coalesce(parent_span_id, '') <> '', ts, span_id) = 1) s
JOIN entry_traces b USING (trace_id)"""

_OF_REQUESTS = f"""SELECT nextval('entry_numbers') AS n, r.id, r.ts, coalesce(r.trace_id, '') AS trace_id,
  coalesce(r.span_id, '') AS root_id, coalesce(r.own_trace_id, '') AS own_trace_id, false AS is_trace, true AS listed,
  r.ts AS first, r.ts + to_microseconds((coalesce(r.duration_ms, 0) * 1000)::BIGINT) AS last,
  coalesce(r.source, '') AS source,
  coalesce(r.env, '') AS env, coalesce(r.route, '') AS route, coalesce(r.app, '') AS app,
  coalesce(nullif(r.route, ''), r.requested_model, '') AS name, coalesce(r.release::VARCHAR, '') AS release,
  coalesce(r.canary, false) AS canary, coalesce(r.outcome, '') AS outcome, coalesce(r.status, 0) AS status,
  coalesce(r.error_type, '') AS error_type, coalesce(r.error_message, '') AS error_message,
  coalesce({rollups.REQUEST_MODEL}, '') AS model,
  coalesce(r.requested_model, '') AS requested_model, coalesce(r.session, '') AS session,
  coalesce(r."user", '') AS "user", coalesce(r.attempt_count, 0)::INTEGER AS attempt_count, 0 AS span_count,
  coalesce(r.duration_ms, 0) AS duration_ms, r.ttft_ms, r.input_uncached + r.cache_read + r.cache_write AS input_tokens,
  r.output_text + r.reasoning AS output_tokens, r.cost_usd, coalesce(r.preview_in, '') AS preview_in,
  coalesce(r.preview_out, '') AS preview_out, coalesce(r.api, '') AS api, coalesce(r.cache, '') AS cache,
  coalesce(r.segment, '') AS segment, coalesce(r.key_id, '') AS key_id,
  {_one(rollups.REQUEST_MODEL)} AS models, {_one("r.provider")} AS providers,
  {_one("r.error_type")} AS errors, coalesce(b.tools, '') AS tools,
  r.outcome = 'failed' OR coalesce(r.error_type, '') <> '' AS failed, coalesce(r.attempt_count > 1, false) AS retry,
  coalesce(r.fallback_used, false) OR coalesce(r.way, '') <> '' AS fallback,
  coalesce(len(r.guard_hits) > 0, false) AS guard, coalesce(r.stream, false) AS stream,
  coalesce(b.documents, false) AS documents, r.id IN (SELECT request_id FROM entry_scores) AS scored
FROM entry_requests r LEFT JOIN entry_traces b ON b.trace_id = r.trace_id AND r.trace_id <> ''"""  # noqa: S608

_KINDS = {"span": ("spans", _SPAN, "trace_id, span_id"), "request": ("requests", _REQUEST, "id")}
_KNOWN = Recall(
    into="entry_known", table="entries", key="trace_id", wanted="entry_touched",
    columns={"n": ("t.n", "BIGINT"), "trace_id": ("t.trace_id", "VARCHAR"),
             "id": ("t.id", "VARCHAR"), "ts": ("t.ts", "TIMESTAMP"),
             "since": ("epoch_us(least(t.first, t.ts))", "BIGINT"), "until": ("epoch_us(t.last)", "BIGINT")},
)  # fmt: skip


def add(store: TelemetryStore, write: Any, batches: dict[str, str], also: str = "") -> int:
    """Make the entries of what has come, inside the caller's transaction, after its rows; the number of entries.

    `batches`: kind (request, span, score) → the temporary table with its rows. `also`: SQL that finds the `id`s of
    traces and of requests whose stored rows were changed.
    """
    made = 0
    if {"span", "request"} & batches.keys():
        _find(store, write, batches, also)
        _gather(store, write, batches)
        _scores(store, write, batches)
        made = _make(store, write)
        for name in ("new", "traces", "spans", "requests", "scores", "known", "touched"):
            write.execute(f"DROP TABLE entry_{name}")
    if "score" in batches:
        _judge(store, write, batches["score"])
    return made


def remove(store: TelemetryStore, write: Any, since_us: int, until_us: int, condition: str) -> None:
    """Delete the stored entries of a time that meet a condition, with their marks, inside the caller's transaction."""
    meant = f"ts >= make_timestamp(?::BIGINT) AND ts < make_timestamp(?::BIGINT) AND ({condition})"
    low, high = store.rows(f"SELECT min(n), max(n) FROM entries WHERE {meant}", [since_us, until_us])[0]  # noqa: S608
    if low is None:
        return
    # The numbers stay in the store: a day may have very many. Marks first, while their entries tell which they are.
    write.execute(
        f"DELETE FROM marks WHERE n >= ? AND n <= ? AND n IN (SELECT n FROM entries WHERE {meant})",  # noqa: S608
        [low, high, since_us, until_us],
    )
    write.execute(f"DELETE FROM entries WHERE {meant}", [since_us, until_us])  # noqa: S608  # the caller's condition


def _find(store: TelemetryStore, write: Any, batches: dict[str, str], also: str) -> None:
    """The entries that the traces touched have already, looked for within their time."""
    arms = " UNION ALL ".join(
        f"SELECT trace_id, ts FROM {batches[kind]}"  # noqa: S608  # own names
        for kind in ("span", "request")
        if kind in batches
    )
    write.execute(
        f"CREATE OR REPLACE TEMP TABLE entry_touched AS SELECT DISTINCT trace_id, trace_id AS id FROM ({arms}) "  # noqa: S608
        "WHERE trace_id <> ''"
    )
    if also:
        write.execute(
            f"INSERT INTO entry_touched SELECT id, id FROM ({also}) "  # noqa: S608  # own fragments
            "WHERE id NOT IN (SELECT id FROM entry_touched)"
        )
    write.execute(_KNOWN.create())
    for low, high in ranges(write, f"SELECT epoch_us(ts) AS a, epoch_us(ts) AS b FROM ({arms})"):  # noqa: S608
        for what in (_KNOWN, msgspec.structs.replace(_KNOWN, key="id")) if also else (_KNOWN,):
            store.recall(write, what, (low - SPREAD_US, high + SPREAD_US))


def _make(store: TelemetryStore, write: Any) -> int:
    """Put the entries made of what was gathered in the place of those that were found."""
    write.execute(_TRACES)
    write.execute(f"CREATE OR REPLACE TEMP TABLE entry_new AS {_OF_TRACES} UNION ALL BY NAME {_OF_REQUESTS}")
    # Where a later row of the same key takes an earlier one's place by itself, only those without one go.
    there = "EXISTS (SELECT 1 FROM entry_new e WHERE e.id = k.id AND e.ts = k.ts)" if store.replaces else "false"
    found = write.execute(f"SELECT n, since FROM entry_known k WHERE NOT {there}").fetchall()  # noqa: S608
    for at in range(0, len(found), GONE_AT_ONCE):
        gone = found[at : at + GONE_AT_ONCE]
        write.execute(
            "DELETE FROM entries WHERE ts >= make_timestamp(?::BIGINT) AND n IN (SELECT unnest(?::BIGINT[]))",
            [min(since for _, since in gone), [n for n, _ in gone]],
        )
    made = write.execute("INSERT INTO entries BY NAME SELECT * FROM entry_new ORDER BY ts").fetchone()
    write.execute(marks.adding("entry_new", "entry_spans", "entry_requests"))
    return int(made[0]) if made else 0


def _gather(store: TelemetryStore, write: Any, batches: dict[str, str]) -> None:
    """All rows of the traces touched: those of the batch, and those that stand in the store already; each once."""
    known = ranges(write, "SELECT since AS a, until AS b FROM entry_known")
    for kind, (table, columns, identity) in _KINDS.items():
        names = ", ".join(columns)
        what = Recall(
            into=f"entry_{table}", table=table, key="trace_id", wanted="entry_touched",
            columns={name: (f"t.{name}", type_) for name, type_ in columns.items()},
        )  # fmt: skip
        write.execute(what.create())
        if kind in batches:
            write.execute(f"INSERT INTO entry_{table} SELECT {names} FROM {batches[kind]}")  # noqa: S608  # own names
        for between in known:
            store.recall(write, what, between)
        if known:
            write.execute(
                f"CREATE OR REPLACE TEMP TABLE entry_{table} AS SELECT * FROM entry_{table} "  # noqa: S608  # own names
                f"QUALIFY row_number() OVER (PARTITION BY {identity}) = 1"
            )


def _scores(store: TelemetryStore, write: Any, batches: dict[str, str]) -> None:
    """Which of these requests and traces were judged, as far as that is known."""
    write.execute("CREATE OR REPLACE TEMP TABLE entry_ids AS SELECT id AS request_id, ts FROM entry_requests")
    columns = {"request_id": ("coalesce(t.request_id, '')", "VARCHAR"), "trace_id": ("t.trace_id", "VARCHAR")}
    by_trace = Recall(into="entry_scores", table="scores", key="trace_id", wanted="entry_touched", columns=columns)
    by_request = Recall(into="entry_scores", table="scores", key="request_id", wanted="entry_ids", columns=columns)
    write.execute(by_trace.create())
    if "score" in batches:
        write.execute(f"INSERT INTO entry_scores SELECT request_id, trace_id FROM {batches['score']}")  # noqa: S608
    row = write.execute(
        "SELECT epoch_us(min(ts)) FROM (SELECT ts FROM entry_spans UNION ALL SELECT ts FROM entry_requests)"
    ).fetchone()
    since = int(row[0]) - SPREAD_US if row and row[0] is not None else 0
    for what in (by_trace, by_request):
        store.recall(write, what, (since, since + JUDGED_US))
    write.execute("DROP TABLE entry_ids")


_JUDGED = Recall(
    into="entry_judged", table="entries", key="id", wanted="entry_judgements",
    columns={"ts": ("t.ts", "TIMESTAMP"), "id": ("t.id", "VARCHAR"), "scored": ("true", "BOOLEAN")},
    more="AND NOT t.scored",
)  # fmt: skip
_JUDGE = Amend(table="entries", keys=("id",), set=("scored",), changes="entry_judged")


def _judge(store: TelemetryStore, write: Any, batch: str) -> None:
    """Note of entries that stand there already that they were judged."""
    write.execute(
        "CREATE OR REPLACE TEMP TABLE entry_judgements AS SELECT DISTINCT unnest([request_id, trace_id]) AS id "  # noqa: S608
        f"FROM {batch}"
    )
    row = write.execute(f"SELECT epoch_us(min(ts)), epoch_us(max(ts)) FROM {batch}").fetchone()  # noqa: S608
    if row and row[0] is not None:
        write.execute(_JUDGED.create())
        store.recall(write, _JUDGED, (row[0] - JUDGED_US, row[1] + SPREAD_US))
        found = write.execute("SELECT epoch_us(min(ts)), epoch_us(max(ts)) FROM entry_judged").fetchone()
        if found and found[0] is not None:
            store.amend(write, _JUDGE, (found[0], found[1]))
        write.execute("DROP TABLE entry_judged")
    write.execute("DROP TABLE entry_judgements")
