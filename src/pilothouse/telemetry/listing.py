"""The list of traces under a filter: gateway requests, and traces that came over OTLP alone, newest first.

It reads entries alone, the newest first, in slices of time: the first is short, the next as long as it takes for what
was found in the first; where that is nothing, it asks where they are. Lines that marks name are read at once. Totals,
facets and histograms are of the newest matches up to a cap, and say so.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import msgspec

from pilothouse.domain.errors import BadRequest
from pilothouse.store.telemetry import TelemetryStore
from pilothouse.telemetry import marks
from pilothouse.telemetry.filter import FIELDS, Query
from pilothouse.telemetry.filter_sql import SETS, Condition, Window, all_of, conditions
from pilothouse.telemetry.histograms import BINS, Bin, bin_of, bins

LIMIT_MAX = 500
HITS_MAX = 3_000
FACETS = ("outcome", "route", "env", "error", "model", "release", "app", "api", "cache", "source")
VALUES_MAX = 12
FRESH_MAX = 200
LATEST_US = 4_000_000_000_000_000  # of 2096
SLICE = 12_000  # entries that the first slice has, about
SLOW_SLICE = 8_000  # where much of each is read
MORE = 1.3  # than the slices so far say is needed
WIDER = 8  # than a slow slice without matches is the next
LOOKED_MAX = 400_000  # entries that are compared one by one only to be counted
_FACETS = {"error": "error_type"}
Ask = Callable[..., list[dict[str, Any]]]


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What to list. `before`: the `next` of the page before. 0: no bound in time."""

    query: Query = Query()
    since_us: int = 0
    until_us: int = 0
    before: str = ""
    limit: int = 50  # 500 at most


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A request, or the first span of a trace that came over OTLP alone (`source` otlp). None: unknown."""

    id: str  # of the request, or of the trace
    ts_us: int
    trace_id: str
    source: str
    env: str
    route: str
    app: str
    name: str  # of the span; of a request its route, or the model where it has none
    release: int | str | None  # one of ours, or the app's own word for its version
    canary: bool
    outcome: str
    status: int
    error_type: str
    model: str
    requested_model: str
    session: str
    user: str
    attempt_count: int
    span_count: int
    duration_ms: float
    ttft_ms: float | None
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: float | None
    preview_in: str
    preview_out: str


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A page. Counts are of the newest 3,000 matches, of those among so many entries as are looked at one by one, or of
    a page's where each costs much: `capped` says there may be more. `next`: empty at the end."""

    rows: list[Row]
    total: int
    capped: bool
    next: str
    facets: dict[str, dict[str, int]] = {}  # facet → value → matches, commonest first
    latency: tuple[Bin, ...] = ()
    cost: tuple[Bin, ...] = ()


_HIT = ", ".join(f"e.{_FACETS.get(name, name)} AS {name}" for name in FACETS)
_HIT = f"e.n AS n, e.ts AS ts, {_HIT}, e.duration_ms AS latency, e.cost_usd AS cost"
_NEWEST = "ORDER BY ts DESC, n DESC"


def _window(asked: Asked) -> Window:
    if any(term.field == "id" and not term.negated for term in asked.query.terms):
        return Window()  # an id is looked for wherever it may be
    return Window(asked.since_us, asked.until_us)


def find(store: TelemetryStore, asked: Asked) -> Found:
    """A page of the list, with facets and histograms on the first; BadRequest for a limit or cursor that cannot be."""
    if not 1 <= asked.limit <= LIMIT_MAX:
        raise BadRequest(f"a page has 1 to {LIMIT_MAX} rows", where="limit", hint=f"got {asked.limit}")
    condition, window = conditions(asked.query), _window(asked)
    if asked.before:
        ts_us, after = _cursor(asked.before)
        condition = all_of([condition, after])
        window = Window(window.since_us, ts_us + 1)
    with store.reading() as ask:
        total, more = _newest(ask, condition, window, asked.limit + 1, HITS_MAX + 1 if not asked.before else 0)
        found = ask(f"SELECT n, ts FROM hits {_NEWEST} LIMIT {asked.limit + 1}")  # noqa: S608  # own fragments
        page = Found(rows=rows(ask, found[: asked.limit]), total=total, capped=more, next=_next(found, asked.limit))
        if not asked.before:
            page = _counted(ask, page) if found else msgspec.structs.replace(page, facets={name: {} for name in FACETS})
        ask("DROP TABLE hits")
    return page


def _newest(ask: Ask, condition: Condition, window: Window, shown: int, counted: int) -> tuple[int, bool]:
    """Put at least the newest matches, as many as are shown and counted, into the temporary table `hits`, or all.

    Returns how many are there, and whether there may be more. What is slow to find is counted only as far as shown, and
    what no mark leads to among so many entries as can be compared at once.
    """
    marked = bool(condition.ways)
    condition = condition.with_marks(lambda ways: marks.few(ask, ways))
    named = marked and not condition.ways  # one by one
    need = shown if condition.slow else max(shown, counted)
    time = window.of("e.ts")
    entries, first, end = _spread(ask, time.sql, time.params)
    least = SLOW_SLICE if condition.slow else min(SLICE, 4 * need)
    width = end - first if named and not condition.slow else max(1, (end - first) * least // max(1, entries))
    enough = first if named else end - (end - first) * LOOKED_MAX // max(LOOKED_MAX, entries)
    put, found, until, newest, rate = "CREATE OR REPLACE TEMP TABLE hits AS", 0, end, "", 0.0
    while True:
        since = max(first, until - width)
        if found + rate * (until - enough) >= shown:  # there, or there by then
            since = max(since, enough)
        most = until - since > (end - first) // 2
        where, params = _bounded(ask, condition, Window(since, until), most)
        ask(f"{put} SELECT {_HIT} FROM entries e WHERE {where} {newest}", params)  # noqa: S608  # own fragments
        put, before = "INSERT INTO hits", found
        found = int(ask("SELECT count(*) AS n FROM hits")[0]["n"])
        if found >= need or since <= first or (found >= shown and since <= enough):
            return found, found >= need or since > first
        until, rate = since, (found - before) / width  # matches a µs, in this slice
        if rate:
            width = max(width // 4, int(MORE * (need - found) / rate))
        elif condition.slow:
            width *= WIDER
        elif condition.ways:  # they may be few, or all together somewhere
            width, newest = end - first, f"{_NEWEST} LIMIT {need}"
        else:  # where they are is quick to say
            n, first, until = _spread(ask, *_bounded(ask, condition, Window(first, until), most=True))
            if not n:
                return found, False
            width = max(1, int(MORE * (until - first) * (need - found) / n))


def _spread(ask: Ask, where: str, params: Sequence[Any]) -> tuple[int, int, int]:
    """How many entries `e` are so, the time of the first, and the time after the last."""
    said = "count(*) AS n, epoch_us(min(e.ts)) AS a, epoch_us(max(e.ts)) AS b"
    found = ask(f"SELECT {said} FROM entries e WHERE {where}", params)[0]  # noqa: S608  # own fragments
    return found["n"], found["a"] or 0, (found["b"] or 0) + 1


def _bounded(ask: Ask, condition: Condition, window: Window, most: bool) -> tuple[str, list[Any]]:
    """The condition on entries of a time, with few of the marks where that is not most of all time."""
    time = window.of("e.ts")
    if condition.ways:
        among = "true" if most else marks.among(ask, time.sql, time.params)
        condition = condition.with_marks(lambda ways: marks.having(ways, among))
    where = condition.of_spans(window.since_us, window.until_us)
    return f"{time.sql} AND {where}", [*time.params, *condition.params]


def _cursor(before: str) -> tuple[int, Condition]:
    found = re.fullmatch(r"(\d{1,18}):(\d{1,18})", before)
    if not found:
        raise BadRequest("the cursor is not one that a page gave", where="before", hint="leave it out to start anew")
    ts_us, n = int(found[1]), int(found[2])
    at = "make_timestamp(?::BIGINT)"
    return ts_us, Condition(f"(e.ts < {at} OR e.ts = {at} AND e.n < ?)", [ts_us, ts_us, n])


def _next(found: list[dict[str, Any]], limit: int) -> str:
    if len(found) <= limit:
        return ""
    last = found[limit - 1]
    return f"{_micros(last['ts'])}:{last['n']}"


def _micros(ts: datetime) -> int:
    """A naive UTC time of the store as µs since 1970, exactly."""
    days = ts.toordinal() - 719_163
    return ((days * 86_400 + ts.hour * 3_600 + ts.minute * 60 + ts.second) * 1_000_000) + ts.microsecond


def _counted(ask: Ask, page: Found) -> Found:
    """The page with what is counted over the newest matches."""
    since = Condition()
    if page.total > HITS_MAX:
        last = ask(f"SELECT ts, n FROM hits {_NEWEST} LIMIT 1 OFFSET {HITS_MAX - 1}")[0]  # noqa: S608  # own fragments
        since = Condition("(ts > ? OR ts = ? AND n >= ?)", [last["ts"], last["ts"], last["n"]])
    latency, cost = _bins(ask, since)
    return msgspec.structs.replace(
        page, total=min(page.total, HITS_MAX), facets=_facets(ask, since), latency=latency, cost=cost
    )


def _facets(ask: Ask, since: Condition) -> dict[str, dict[str, int]]:
    names = ", ".join(FACETS)  # counted together first: there are fewer different ones than matches, by far
    found = ask(f"SELECT {names}, count(*) AS n FROM hits WHERE {since.sql} GROUP BY {names}", since.params)  # noqa: S608
    counts: dict[str, Counter[str]] = {name: Counter() for name in FACETS}
    for row in found:
        for name in FACETS:
            counts[name][row[name]] += row["n"]
    return {name: _commonest(counted) for name, counted in counts.items()}


def _commonest(counted: Counter[str]) -> dict[str, int]:
    known = sorted((-n, value) for value, n in counted.items() if value)
    return {value: -n for n, value in known[:VALUES_MAX]}


def _bins(ask: Ask, since: Condition) -> list[tuple[Bin, ...]]:
    """The histograms of BINS."""
    bars = ", ".join(
        f"CASE WHEN {name} IS NOT NULL THEN {bin_of(name, bounds)} END AS {name}_bar" for name, bounds in BINS.items()
    )
    found = ask(
        f"SELECT {bars}, count(*) AS n, count(*) FILTER (outcome = 'failed') AS failed "  # noqa: S608  # own names
        f"FROM hits WHERE {since.sql} GROUP BY {', '.join(f'{name}_bar' for name in BINS)}",
        since.params,
    )
    return [bins(bounds, _summed(found, f"{name}_bar")) for name, bounds in BINS.items()]


def _summed(found: list[dict[str, Any]], bar: str) -> dict[int, tuple[int, int]]:
    sums: dict[int, tuple[int, int]] = {}
    for row in found:
        if row[bar] is not None:
            n, failed = sums.get(row[bar], (0, 0))
            sums[row[bar]] = n + row["n"], failed + row["failed"]
    return sums


_ROW = """SELECT n, id, epoch_us(ts) AS ts_us, trace_id, source, env, route, app, name, nullif(release, '') AS release,
  canary, outcome, status, error_type, model, requested_model, session, "user", attempt_count, span_count, duration_ms,
  ttft_ms, input_tokens, output_tokens, cost_usd, preview_in, preview_out FROM entries e
WHERE n IN ({numbers})"""


def rows(ask: Ask, found: list[dict[str, Any]]) -> list[Row]:
    """The rows of matches (`n`, `ts`) in their order."""
    if not found:
        return []
    numbers = ", ".join(str(one["n"]) for one in found)
    made = {row.pop("n"): _row(row) for row in ask(_ROW.format(numbers=numbers))}
    return [made[one["n"]] for one in found if one["n"] in made]


def _row(row: dict[str, Any]) -> Row:
    if row["source"] != "otlp" and row["release"] is not None:
        row["release"] = int(row["release"])
    return msgspec.convert(row, Row)


def fresh(store: TelemetryStore, queries: Sequence[Query], since_us: int) -> list[list[Row]]:
    """For each filter the matches from `since_us` on, oldest first: one question to the store for all of them."""
    if not queries:
        return []
    parts: list[str] = []
    params: list[Any] = []
    for number, query in enumerate(queries):
        time = Window(since_us).of("e.ts")
        condition = conditions(query).with_marks(marks.having)
        where = condition.of_spans(since_us, LATEST_US)
        parts.append(
            f"(SELECT {number} AS tail, e.n AS n, e.ts AS ts FROM entries e WHERE {time.sql} AND {where} "  # noqa: S608
            f"ORDER BY ts DESC LIMIT {FRESH_MAX})"
        )
        params += [*time.params, *condition.params]
    with store.reading() as ask:
        hits = ask(" UNION ALL ".join(parts), params)
        once = {one["n"]: one for one in hits}
        known = dict(zip(once, rows(ask, list(once.values())), strict=True))
    found: list[list[Row]] = [[] for _ in queries]
    for one in hits:
        found[one["tail"]].append(known[one["n"]])
    return [sorted(part, key=lambda row: (row.ts_us, row.id)) for part in found]


def values(store: TelemetryStore, asked: Asked, field: str, typed: str) -> list[tuple[str, int]]:
    """The commonest values of a field that begin with what is typed, with their counts among the newest matches."""
    if field not in _VALUED or field not in FIELDS:
        return []
    with store.reading() as ask:
        _newest(ask, conditions(asked.query), _window(asked), asked.limit, HITS_MAX + 1)
        names = SETS.get(field)
        value = f"unnest(string_split({names}, chr(31)))" if names else _VALUED[field]
        found = ask(
            f"SELECT v, count(*) AS n FROM (SELECT {value} AS v FROM entries e WHERE e.n IN "  # noqa: S608  # own names
            f"(SELECT n FROM hits ORDER BY ts DESC LIMIT {HITS_MAX}) AND e.ts >= (SELECT min(ts) FROM hits)) "
            f"WHERE starts_with(lower(v), ?) AND v <> '' GROUP BY v ORDER BY n DESC, v LIMIT {VALUES_MAX}",
            [typed.lower()],
        )
        ask("DROP TABLE hits")
    return [(row["v"], row["n"]) for row in found]


_VALUED = {
    **{name: f"e.{name}" for name in ("route", "env", "app", "session", "release", "api", "cache", "segment")},
    **{name: f"e.{name}" for name in ("outcome", "source", "name")},
    **SETS, "user": 'e."user"', "key": "e.key_id",
}  # fmt: skip
