"""One call to a model, seen by several, counted once: by the gateway's request, else by the innermost span that knows.

What may be of one call is looked for in the batch that arrives and in what is stored near it in time, so that either
may come first, also over a restart; `kin` says what belongs together, `one_call` who counts.

Until the load's end three temporary tables stand on the writer's connection: `joined` (what changes on spans: ts,
trace_id, span_id, request_id, counted_by, fresh), `stopped` (stored spans that counted until now, whole, as they were:
sums that hold them must lose them) and `moved` (requests in a trace of their own that go into their client's: ts, id,
trace_id, parent_span_id, own_trace_id, fresh). `fresh`: of the batch.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

from pilothouse.store.telemetry import TelemetryStore, lines
from pilothouse.store.telemetry.recall import Amend, Between, Recall, within
from pilothouse.telemetry.arrivals import clustered
from pilothouse.telemetry.kin import SAME_ID_MAX, Asked, Kin, Seen
from pilothouse.telemetry.one_call import Change

NEAR_US, NEARER_US = 600_000_000, 60_000_000  # how far around the batch is looked
LOOKED_AT_MAX = 300_000  # stored spans; where more lie in the wider of these times, the narrower is taken

Columns = dict[str, tuple[str, str]]

_FAMILY = """CASE WHEN t.operation IN ('embeddings', 'rerank') THEN t.operation
  WHEN t.operation IN ('chat', 'text_completion', 'generate_content', 'decide') OR t.input_uncached IS NOT NULL
  THEN 'chat' ELSE '' END"""
_PLAIN = "coalesce(t.operation, '') = ''"
_TIMES: Columns = {
    "ts_us": ("epoch_us(t.ts)", "BIGINT"),
    "end_us": ("epoch_us(t.ts) + coalesce(t.duration_ms, 0) * 1000", "BIGINT"),
}
_SPAN: Columns = {  # as `Seen`
    **_TIMES,
    "trace_id": ("t.trace_id", "VARCHAR"),
    "span_id": ("t.span_id", "VARCHAR"),
    "parent": ("coalesce(t.parent_span_id, '')", "VARCHAR"),
    "family": (_FAMILY, "VARCHAR"),
    "response_id": ("coalesce(t.response_id, '')", "VARCHAR"),
    "kind": ("coalesce(t.span_kind, '')", "VARCHAR"),
    "scope": ("concat(t.dialect, '/', t.name)", "VARCHAR"),
    "model": ("lower(concat(coalesce(nullif(t.request_model, ''), t.response_model)))", "VARCHAR"),
    "used": ("t.input_uncached IS NOT NULL", "BOOLEAN"),
    "priced": ("t.cost_usd IS NOT NULL", "BOOLEAN"),
    "request_id": ("coalesce(t.request_id, '')", "VARCHAR"),
    "counted_by": ("coalesce(t.counted_by, '')", "VARCHAR"),
}
_REQUEST: Columns = {  # as `Asked`
    **_TIMES,
    "id": ("t.id", "VARCHAR"),
    "trace_id": ("t.trace_id", "VARCHAR"),
    "parent": ("coalesce(t.parent_span_id, '')", "VARCHAR"),
    "family": ("CASE WHEN t.api = 'embeddings' THEN 'embeddings' ELSE 'chat' END", "VARCHAR"),
    "own_trace_id": ("coalesce(t.own_trace_id, '')", "VARCHAR"),
}
_ANSWER: Columns = {"request_id": ("t.request_id", "VARCHAR"), "response_id": ("t.response_id", "VARCHAR")}


def _chosen(columns: Columns) -> str:
    return ", ".join(f"({sql})::{type_}" for sql, type_ in columns.values())


_BATCH_SPANS = f"""SELECT {_chosen(_SPAN)}, true FROM batch_span t WHERE {_FAMILY} <> '' OR ({_PLAIN} AND
  (t.span_kind = 'client' OR t.trace_id IN (SELECT t.trace_id FROM batch_span t WHERE {_FAMILY} <> '')))"""  # noqa: S608
_BATCH_ANSWERS = """SELECT id, a.response_id FROM (SELECT id, unnest(attempts) AS a FROM batch_request)
WHERE a.delivered AND a.response_id <> ''"""
_BATCH_REQUESTS = f"SELECT {_chosen(_REQUEST)}, true FROM batch_request t"  # noqa: S608  # our own names
# Plain spans are looked at where they may lie between; of an id that very many tell only the newest.
_ASKS_OR_PLAIN = f"AND ({_FAMILY} <> '' OR {_PLAIN})"
_NEWEST = f"QUALIFY row_number() OVER (PARTITION BY t.response_id ORDER BY t.ts DESC) <= {SAME_ID_MAX + 1}"
_JOINED = """CREATE OR REPLACE TEMP TABLE joined AS SELECT make_timestamp(unnest($1::BIGINT[])) AS ts,
  unnest($2::VARCHAR[]) AS trace_id, unnest($3::VARCHAR[]) AS span_id, unnest($4::VARCHAR[]) AS request_id,
  unnest($5::VARCHAR[]) AS counted_by, unnest($6::BOOLEAN[]) AS fresh, unnest($7::BOOLEAN[]) AS stops"""
_MOVED = """CREATE OR REPLACE TEMP TABLE moved AS SELECT make_timestamp(unnest($1::BIGINT[])) AS ts,
  unnest($2::VARCHAR[]) AS id, unnest($3::VARCHAR[]) AS trace_id, unnest($4::VARCHAR[]) AS parent_span_id,
  unnest($5::VARCHAR[]) AS own_trace_id, unnest($6::BOOLEAN[]) AS fresh"""
_CALL_WANTED = "CREATE OR REPLACE TEMP TABLE call_wanted AS SELECT unnest($1::VARCHAR[])"
_STOPPING = "CREATE OR REPLACE TEMP TABLE stopping AS SELECT span_id FROM joined WHERE stops AND NOT fresh"
# The traces and requests of which stored rows change.
CHANGED = """SELECT trace_id AS id FROM joined WHERE NOT fresh
UNION SELECT unnest([trace_id, own_trace_id, id]) FROM moved WHERE NOT fresh"""
_SPANS = Amend(table="spans", keys=("trace_id", "span_id"), set=("request_id", "counted_by"), changes="joined")
_REQUESTS = Amend(table="requests", keys=("id",), set=("trace_id", "parent_span_id", "own_trace_id"), changes="moved")


class Changes:
    """What the staged batches change: `apply` it inside the load's transaction."""

    def __init__(self, store: TelemetryStore, write: Any, kinds: list[str]) -> None:
        self._store = store
        self._write = write
        self._kinds = kinds
        self._near: list[Between] = []  # where is looked
        kin = self._kin()
        changes = [(kin.spans[_ids(one.key)], one) for one in kin.joining().decide()]
        moves = list(kin.moves())
        changes += [
            (span, Change(key=span.key, request_id="", counted_by=asked.id, stops=True))
            for asked, _, left in moves
            for span in left
            if not span.counted_by
        ]
        self._put(_JOINED, 7, [
            (s.ts_us, s.trace_id, s.span_id, one.request_id, one.counted_by, s.fresh, one.stops) for s, one in changes
        ])  # fmt: skip
        self._put(_MOVED, 6, [
            (r.ts_us, r.id, s.trace_id, s.span_id, r.own_trace_id or r.trace_id, r.fresh) for r, s, _ in moves
        ])  # fmt: skip
        self._times = {
            "span": clustered((s.ts_us, s.ts_us) for s, _ in changes if not s.fresh),
            "request": clustered((r.ts_us, r.ts_us) for r, _, _ in moves if not r.fresh),
        }
        self._fresh = {
            "span": any(s.fresh for s, _ in changes),
            "request": any(r.fresh for r, _, _ in moves),
        }
        self._stopped()

    def apply(self) -> None:
        """On the batches before they move into their tables, and on what is stored."""
        for kind, change in (("span", _SPANS), ("request", _REQUESTS)):
            if self._fresh[kind]:
                assigned = ", ".join(f"{name} = c.{name}" for name in change.set)
                of_batch = f"FROM {change.changes} c WHERE c.fresh AND {change.same}"
                self._write.execute(f"UPDATE {lines.batch(kind)} t SET {assigned} {of_batch}")  # noqa: S608
            for between in self._times[kind]:
                self._store.amend(self._write, change, between)

    def _kin(self) -> Kin:
        """The batch, and what is stored near it that may belong with it."""
        rows = self._write.execute(_BATCH_SPANS).fetchall() if "span" in self._kinds else []
        spans = {(span.trace_id, span.span_id): span for span in (Seen(*row) for row in rows)}
        requests = {asked.id: asked for asked in self._asked()}
        self._near = self._around([*spans.values(), *requests.values()])
        self._spans(spans, "trace_id", _traces(spans) | _parents_traces(requests), _ASKS_OR_PLAIN)
        told = _told(spans.values())
        answers = self._find("attempts", "response_id", _ANSWER, told, f"AND t.delivered {_NEWEST}")
        told.update(*(asked.answers for asked in requests.values()))
        traces = _traces(spans)
        self._spans(spans, "response_id", told, _NEWEST)
        self._spans(spans, "trace_id", _traces(spans) - traces, _ASKS_OR_PLAIN)
        self._requests(requests, _traces(spans), answers)
        self._spans(spans, "trace_id", _parents_traces(requests) - _traces(spans), _ASKS_OR_PLAIN)
        self._elsewhere(spans, requests)
        return Kin(spans.values(), requests.values())

    def _elsewhere(self, spans: dict[tuple[str, str], Seen], requests: dict[str, Asked]) -> None:
        """Add the spans that tell the answers of stored requests: what a request hangs on may come after these have
        met in another trace.
        """
        under = {
            asked.id
            for asked in requests.values()
            if not (asked.fresh or asked.movable or asked.answers) and (asked.trace_id, asked.parent) in spans
        }
        answers = self._find("attempts", "request_id", _ANSWER, under, "AND t.delivered AND t.response_id <> ''")
        for ident, answer in answers:
            requests[ident].answers.add(answer)
        traces = _traces(spans)
        self._spans(spans, "response_id", {answer for _, answer in answers}, _NEWEST)
        self._spans(spans, "trace_id", _traces(spans) - traces, _ASKS_OR_PLAIN)

    def _requests(self, known: dict[str, Asked], traces: set[str], answers: list[tuple[Any, ...]]) -> None:
        """Add the stored requests of these traces, and those that gave these answers."""
        found = self._find("requests", "trace_id", _REQUEST, traces, "AND t.parent_span_id <> ''")
        found += self._find("requests", "id", _REQUEST, {ident for ident, _ in answers} - known.keys())
        for asked in (Asked(*row) for row in found):
            known.setdefault(asked.id, asked)
        for ident, answer in answers:
            if ident in known:
                known[ident].answers.add(answer)

    def _asked(self) -> list[Asked]:
        """The batch's requests that have a parent or told their client a response id."""
        if "request" not in self._kinds:
            return []
        answers: defaultdict[str, set[str]] = defaultdict(set)
        for ident, answer in self._write.execute(_BATCH_ANSWERS).fetchall():
            answers[ident].add(answer)
        every = [Asked(*row) for row in self._write.execute(_BATCH_REQUESTS).fetchall()]
        for asked in every:
            asked.answers = answers[asked.id]
        return [asked for asked in every if asked.parent or asked.answers]

    def _around(self, fresh: list[Seen | Asked]) -> list[Between]:
        """The times to look at: ten minutes around what arrives, or one where more than can be looked at is there."""
        times = clustered((one.ts_us, max(one.ts_us, one.end_us)) for one in fresh)
        wide = [(low - NEAR_US, high + NEAR_US) for low, high in times]
        stored = sum(self._store.rows(f"SELECT count(*) FROM spans t WHERE {within(one)}")[0][0] for one in wide)  # noqa: S608
        return wide if stored <= LOOKED_AT_MAX else [(low - NEARER_US, high + NEARER_US) for low, high in times]

    def _spans(self, known: dict[tuple[str, str], Seen], key: str, wanted: set[str], more: str) -> None:
        for row in self._find("spans", key, _SPAN, wanted, more):
            span = Seen(*row)
            known.setdefault((span.trace_id, span.span_id), span)

    def _find(self, table: str, key: str, columns: Columns, wanted: set[str], more: str = "") -> list[tuple[Any, ...]]:
        """Stored rows by their key."""
        if not wanted:
            return []
        self._write.execute(f"{_CALL_WANTED} AS {key}", [list(wanted)])
        what = Recall(into="call_found", table=table, key=key, wanted="call_wanted", columns=columns, more=more)
        self._write.execute(what.create())
        for between in self._near:
            self._store.recall(self._write, what, between)
        found: list[tuple[Any, ...]] = self._write.execute("SELECT * FROM call_found").fetchall()
        return found

    def _put(self, sql: str, width: int, rows: list[tuple[Any, ...]]) -> None:
        self._write.execute(sql, [[row[n] for row in rows] for n in range(width)])

    def _stopped(self) -> None:
        """Put the stored spans that stop counting into `stopped`, whole."""
        self._write.execute("CREATE OR REPLACE TEMP TABLE stopped AS FROM spans LIMIT 0")
        if not self._times["span"]:
            return
        columns = self._write.execute("DESCRIBE stopped").fetchall()
        self._write.execute(_STOPPING)
        what = Recall(
            into="stopped", table="spans", key="span_id", wanted="stopping", more="AND coalesce(t.counted_by, '') = ''",
            columns={f'"{name}"': (f't."{name}"', type_) for name, type_, *_ in columns},
        )  # fmt: skip
        for between in self._times["span"]:
            self._store.recall(self._write, what, between)


def forget(write: Any) -> None:
    """Let the temporary tables go."""
    for table in ("joined", "stopping", "stopped", "moved", "call_wanted", "call_found"):
        write.execute(f"DROP TABLE IF EXISTS {table}")


def _ids(key: str) -> tuple[str, str]:
    trace, _, span = key.partition("/")
    return trace, span


def _traces(spans: Iterable[tuple[str, str]]) -> set[str]:
    return {trace for trace, _ in spans}


def _parents_traces(requests: dict[str, Asked]) -> set[str]:
    return {asked.trace_id for asked in requests.values() if asked.parent}


def _told(spans: Iterable[Seen]) -> set[str]:
    """The response ids that spans tell which ask a model, but for what too many tell."""
    told = Counter(span.response_id for span in spans if span.family and span.response_id)
    return {answer for answer, n in told.items() if n <= SAME_ID_MAX}
