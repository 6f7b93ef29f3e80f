"""The SQL of joins.py, over temporary tables on the writer's connection; `t` is the row that is read.

call_span      spans that ask a model, and plain ones (HTTP, say) that may lie between: of the batch, and stored near it
call_request   requests likewise; call_answer: the response ids that they gave to their clients
nested, twins, matched                      what belongs together
joined, stopping, stopped, moved            what changes
"""

from pilothouse.store.telemetry.recall import Amend, Recall

SLACK_US = 250_000  # by which the clocks of a client and the gateway may differ before "at the same time" is doubted
NEAR_US = 600_000_000
LONG_ID = 20  # characters; a shorter id may be a local server's constant
SAME_ID_MAX = 100  # what more spans than these tell is no id
HOPS_MAX = 8  # plain spans between two of one call

Columns = dict[str, tuple[str, str]]

_FAMILY = """CASE WHEN t.operation IN ('embeddings', 'rerank') THEN t.operation
  WHEN t.operation IN ('chat', 'text_completion', 'generate_content', 'decide') OR t.input_uncached IS NOT NULL
  THEN 'chat' ELSE '' END"""
_ASKS_OR_PLAIN = f"AND ({_FAMILY} <> '' OR coalesce(t.operation, '') = '')"
_NEWEST = f"QUALIFY row_number() OVER (PARTITION BY t.response_id ORDER BY t.ts DESC) <= {SAME_ID_MAX + 1}"
_TIMES: Columns = {
    "ts_us": ("epoch_us(t.ts)", "BIGINT"),
    "end_us": ("epoch_us(t.ts) + coalesce(t.duration_ms, 0) * 1000", "BIGINT"),
}
_SPAN: Columns = {
    **_TIMES,
    "trace_id": ("t.trace_id", "VARCHAR"),
    "span_id": ("t.span_id", "VARCHAR"),
    "parent": ("coalesce(t.parent_span_id, '')", "VARCHAR"),
    "family": (_FAMILY, "VARCHAR"),  # chat, embeddings, rerank; empty: a plain span
    "response_id": ("coalesce(t.response_id, '')", "VARCHAR"),
    "scope": ("concat(t.dialect, '/', t.attributes['otel.scope.name'])", "VARCHAR"),  # whose instrumentation
    "used": ("t.input_uncached IS NOT NULL", "BOOLEAN"),
    "priced": ("t.cost_usd IS NOT NULL", "BOOLEAN"),
    "request_id": ("coalesce(t.request_id, '')", "VARCHAR"),
    "counted_by": ("coalesce(t.counted_by, '')", "VARCHAR"),
}
_REQUEST: Columns = {
    **_TIMES,
    "id": ("t.id", "VARCHAR"),
    "trace_id": ("t.trace_id", "VARCHAR"),
    "parent": ("coalesce(t.parent_span_id, '')", "VARCHAR"),
    "family": ("CASE WHEN t.api = 'embeddings' THEN 'embeddings' ELSE 'chat' END", "VARCHAR"),
    "own_trace_id": ("coalesce(t.own_trace_id, '')", "VARCHAR"),
}
_ANSWER: Columns = {"id": ("t.request_id", "VARCHAR"), "response_id": ("t.response_id", "VARCHAR")}


def _empty(name: str, columns: Columns, more: str = "") -> str:
    return f"CREATE OR REPLACE TEMP TABLE {name} ({', '.join(f'{n} {t}' for n, (_, t) in columns.items())}{more})"


def _chosen(columns: Columns) -> str:
    return ", ".join(f"({sql})::{type_} AS {name}" for name, (sql, type_) in columns.items())


NEW = (
    _empty("call_span", _SPAN, ", fresh BOOLEAN"),
    _empty("call_request", _REQUEST, ", fresh BOOLEAN"),
    _empty("call_answer", _ANSWER),
    "CREATE OR REPLACE TEMP TABLE call_trace (trace_id VARCHAR)",
)

# What the batches bring, by kind.
ARRIVED = {
    "span": (
        f"INSERT INTO call_span SELECT {_chosen(_SPAN)}, true FROM batch_span t WHERE true {_ASKS_OR_PLAIN}",  # noqa: S608
        """INSERT INTO call_trace SELECT DISTINCT trace_id FROM batch_span
WHERE span_id IN (SELECT span_id FROM call_span WHERE family <> '')
  OR coalesce(operation, '') = '' AND span_kind = 'client'""",
    ),
    "request": (
        """INSERT INTO call_answer SELECT id, a.response_id FROM (SELECT id, unnest(attempts) AS a FROM batch_request)
WHERE a.delivered AND a.response_id <> ''""",
        f"""INSERT INTO call_request SELECT {_chosen(_REQUEST)}, true FROM batch_request t
WHERE t.parent_span_id <> '' OR t.id IN (SELECT id FROM call_answer)""",  # noqa: S608
        "INSERT INTO call_trace SELECT DISTINCT trace_id FROM batch_request WHERE parent_span_id <> ''",
    ),
}  # fmt: skip
WHEN = """SELECT ts_us AS a, end_us AS b FROM call_request
UNION ALL SELECT ts_us, end_us FROM call_span WHERE trace_id IN (SELECT trace_id FROM call_trace)"""

# Look-ups of what is stored, in order; before each the keys that it wants, after it where its finds go.
_KEEP_SPANS = "INSERT INTO call_span SELECT *, false FROM found_span ANTI JOIN call_span USING (trace_id, span_id)"
_KEEP_REQUESTS = "INSERT INTO call_request SELECT *, false FROM found_request ANTI JOIN call_request USING (id)"
_TOLD = f"""SELECT response_id FROM call_span WHERE family <> '' AND response_id <> ''
GROUP BY response_id HAVING count(*) <= {SAME_ID_MAX}"""  # noqa: S608  # our own number
_OF_TRACES = "SELECT DISTINCT trace_id FROM call_trace"
LOOK_UPS: tuple[tuple[str, Recall, tuple[str, ...]], ...] = (
    (
        _OF_TRACES,
        Recall(
            into="found_span", table="spans", key="trace_id", wanted="call_wanted", columns=_SPAN, more=_ASKS_OR_PLAIN
        ),
        (_KEEP_SPANS,),
    ),
    (
        _TOLD,
        Recall(
            into="found_answer", table="attempts", key="response_id", wanted="call_wanted", columns=_ANSWER,
            more=f"AND t.delivered {_NEWEST}",
        ),
        ("INSERT INTO call_answer SELECT * FROM found_answer",),
    ),
    (
        f"{_TOLD} UNION SELECT response_id FROM call_answer",  # noqa: S608
        Recall(
            into="found_span", table="spans", key="response_id", wanted="call_wanted", columns=_SPAN, more=_NEWEST
        ),
        (
            """CREATE OR REPLACE TEMP TABLE call_trace AS
SELECT trace_id FROM found_span ANTI JOIN call_span USING (trace_id)""",
            _KEEP_SPANS,
        ),
    ),
    (
        _OF_TRACES,  # what is around the other side of a call
        Recall(
            into="found_span", table="spans", key="trace_id", wanted="call_wanted", columns=_SPAN, more=_ASKS_OR_PLAIN
        ),
        (_KEEP_SPANS,),
    ),
    (
        "SELECT DISTINCT trace_id FROM call_span",
        Recall(
            into="found_request", table="requests", key="trace_id", wanted="call_wanted", columns=_REQUEST,
            more="AND t.parent_span_id <> ''",
        ),
        (_KEEP_REQUESTS,),
    ),
    (
        "SELECT DISTINCT id FROM call_answer ANTI JOIN call_request USING (id)",
        Recall(into="found_request", table="requests", key="id", wanted="call_wanted", columns=_REQUEST),
        (_KEEP_REQUESTS,),
    ),
)  # fmt: skip


def wanted(sql: str) -> str:
    """The statement that puts the keys of a look-up where it looks for them."""
    return f"CREATE OR REPLACE TEMP TABLE call_wanted AS {sql}"


def _up(start: str) -> str:
    """From rows (key, trace_id, family, above) up through plain spans; `u` joined with the span `o` that is reached."""
    return f"""WITH RECURSIVE up AS (
  SELECT key, trace_id, family, above, 1 AS hops FROM ({start})
  UNION ALL
  SELECT u.key, u.trace_id, u.family, p.parent, hops + 1 FROM up u
  JOIN call_span p ON p.trace_id = u.trace_id AND p.span_id = u.above
  WHERE p.family = '' AND p.parent <> '' AND hops <= {HOPS_MAX}),
reached AS (
  SELECT u.key, u.trace_id, o.span_id FROM up u JOIN call_span o ON o.trace_id = u.trace_id AND o.span_id = u.above
  WHERE o.family = u.family)"""  # noqa: S608  # our own fragments


_OVERLAP = "a.ts_us < b.end_us + {slack} AND b.ts_us < a.end_us + {slack}"
_REAL_IDS = f"SELECT response_id FROM call_span WHERE response_id <> '' GROUP BY 1 HAVING count(*) <= {SAME_ID_MAX}"  # noqa: S608

BELONG = (
    "CREATE OR REPLACE TEMP TABLE nested AS "  # noqa: S608
    + _up("SELECT span_id AS key, trace_id, family, parent AS above FROM call_span WHERE family <> '' AND parent <> ''")
    + " SELECT DISTINCT trace_id, key AS inner_id, span_id AS outer_id FROM reached WHERE key <> span_id",
    f"""CREATE OR REPLACE TEMP TABLE twins AS
SELECT a.trace_id, a.span_id, b.trace_id AS other_trace, b.span_id AS other_id
FROM call_span a JOIN call_span b USING (response_id)
WHERE response_id IN ({_REAL_IDS}) AND a.scope < b.scope AND a.family <> '' AND a.family = b.family
  AND {_OVERLAP.format(slack=0)}
QUALIFY row_number() OVER (PARTITION BY a.trace_id, a.span_id, b.scope ORDER BY abs(a.ts_us - b.ts_us), b.span_id) = 1
  AND row_number() OVER (PARTITION BY b.trace_id, b.span_id, a.scope ORDER BY abs(a.ts_us - b.ts_us), a.span_id) = 1""",  # noqa: S608
    "CREATE OR REPLACE TEMP TABLE matched AS "  # noqa: S608
    + _up("SELECT id AS key, trace_id, family, parent AS above FROM call_request WHERE parent <> ''")
    + """ SELECT m.key AS request_id, r.ts_us, m.trace_id, m.span_id, r.own_trace_id <> '' AS answer
FROM reached m JOIN call_request r ON r.id = m.key""",
    # Of each instrumentation one span, the nearest, and that no other request is nearer to.
    f"""INSERT INTO matched
SELECT r.id, r.ts_us, s.trace_id, s.span_id, true FROM (
  SELECT a.id, a.ts_us, b.trace_id, b.span_id, b.scope, abs(a.ts_us - b.ts_us) AS apart,
    {_OVERLAP.format(slack=SLACK_US)} AS together,
    len(response_id) >= {LONG_ID} AND count(*) OVER (PARTITION BY response_id, b.scope) = 1 AS sole
  FROM call_answer c JOIN call_request a USING (id) JOIN call_span b USING (response_id)
  WHERE response_id IN ({_REAL_IDS}) AND b.family = a.family AND b.request_id = ''
    AND (b.trace_id, b.span_id) NOT IN (SELECT (trace_id, span_id) FROM matched)
    AND (a.id, b.scope) NOT IN (SELECT (m.request_id, o.scope) FROM matched m JOIN call_span o USING (trace_id, span_id))
    AND (a.id, b.scope) NOT IN (SELECT (request_id, scope) FROM call_span WHERE request_id <> '')
) s JOIN call_request r USING (id) WHERE together OR sole
QUALIFY row_number() OVER (PARTITION BY r.id, s.scope ORDER BY apart, s.span_id) = 1
  AND row_number() OVER (PARTITION BY s.trace_id, s.span_id ORDER BY apart, r.id) = 1""",  # noqa: S608
)  # fmt: skip
INVOLVED = """SELECT trace_id, span_id, ts_us, used, priced, response_id, request_id, counted_by
FROM call_span WHERE (trace_id, span_id) IN (
  SELECT (trace_id, inner_id) FROM nested UNION SELECT (trace_id, outer_id) FROM nested
  UNION SELECT (trace_id, span_id) FROM twins UNION SELECT (other_trace, other_id) FROM twins
  UNION SELECT (trace_id, span_id) FROM matched)"""

JOINED = """CREATE OR REPLACE TEMP TABLE joined AS
SELECT make_timestamp(s.ts_us) AS ts, s.trace_id, s.span_id, c.request_id, c.counted_by, c.stops, s.fresh FROM (
  SELECT unnest($key::VARCHAR[]) AS key, unnest($request_id::VARCHAR[]) AS request_id,
    unnest($counted_by::VARCHAR[]) AS counted_by, unnest($stops::BOOLEAN[]) AS stops) c
JOIN call_span s ON s.trace_id = split_part(c.key, '/', 1) AND s.span_id = split_part(c.key, '/', 2)"""
# A request that came without a trace goes where its client's span is; of several, to one that is itself part of more.
MOVED = """CREATE OR REPLACE TEMP TABLE moved AS
SELECT make_timestamp(r.ts_us) AS ts, r.id, s.trace_id, s.span_id AS parent_span_id,
  CASE WHEN r.own_trace_id = '' THEN r.trace_id ELSE r.own_trace_id END AS own_trace_id, r.fresh
FROM matched m JOIN call_request r ON r.id = m.request_id
  JOIN call_span s ON s.trace_id = m.trace_id AND s.span_id = m.span_id
WHERE r.parent = '' OR r.own_trace_id <> ''
QUALIFY row_number() OVER (
  PARTITION BY r.id ORDER BY s.parent = '', s.trace_id <> r.trace_id, s.ts_us, s.span_id) = 1"""
STAY = "DELETE FROM moved m USING call_request r WHERE r.id = m.id AND r.trace_id = m.trace_id"
STOPPING = "CREATE OR REPLACE TEMP TABLE stopping AS SELECT * FROM joined WHERE stops AND NOT fresh"
WHOLE = """SELECT column_name, data_type FROM duckdb_columns()
WHERE table_name = 'spans' AND NOT internal AND database_name = current_database()"""
ONLY_STOPPED = (
    "DELETE FROM stopped t WHERE NOT EXISTS (FROM stopping s WHERE s.trace_id = t.trace_id AND s.span_id = t.span_id)"
)

SPANS = Amend(table="spans", keys=("trace_id", "span_id"), set=("request_id", "counted_by"), changes="joined")
REQUESTS = Amend(table="requests", keys=("id",), set=("trace_id", "parent_span_id", "own_trace_id"), changes="moved")
TABLES = ("call_span", "call_request", "call_answer", "call_trace", "call_wanted", "found_answer", "found_span",
          "found_request", "nested", "twins", "matched", "joined", "stopping", "stopped", "moved")  # fmt: skip


def stopped(columns: list[tuple[str, str]]) -> Recall:
    """The look-up of whole spans that stop counting."""
    chosen = {f'"{name}"': (f't."{name}"', type_) for name, type_ in columns}
    return Recall(into="stopped", table="spans", key="span_id", wanted="stopping", columns=chosen)


def on_batch(change: Amend, batch: str) -> str:
    """The statement that makes a change on rows that have not moved into their table yet."""
    assigned = ", ".join(f"{name} = c.{name}" for name in change.set)
    return f"UPDATE {batch} t SET {assigned} FROM {change.changes} c WHERE c.fresh AND {change.same}"  # noqa: S608
