"""The `metrics` wire: questions to the catalogue, answered from raw rows or, over long windows, minute rollups."""

import difflib
from typing import Any

from pilothouse.domain.clock import Clock
from pilothouse.domain.errors import BadRequest, NotFound
from pilothouse.domain.wires import MetricPoint, MetricQuery, Metrics
from pilothouse.stats import histogram
from pilothouse.stats.proportions import wilson
from pilothouse.store.telemetry import HISTOGRAM_MS, TelemetryStore, dialect
from pilothouse.telemetry import rollups
from pilothouse.telemetry.catalogue import CATALOGUE, MetricDef
from pilothouse.telemetry.questions import NO_QUALITY

__all__ = ["CATALOGUE", "MetricDef", "make_metrics"]

RAW_S = 6 * 3600  # up to here exact, from raw rows; beyond it from rollups, percentiles within 10 %
_MODEL = {
    "requests": rollups.REQUEST_MODEL,
    "attempts": "model",
    "scores": rollups.REQUEST_MODEL,
    "rollup_minute": "model",
}
_SCORES = """(SELECT s.ts, coalesce(nullif(s.route, ''), r.route, '') AS route,
  coalesce(nullif(s.env, ''), r.env, '') AS env, s.value, s.source AS score_source,
  coalesce(r.source, 'edge') AS source, r.release, r.canary, r.provider, r.served_model, r.asked_model,
  r.requested_model, r.outcome
FROM scores s LEFT JOIN requests r ON s.request_id <> '' AND r.id = s.request_id
WHERE s.name NOT IN ({}))""".format(", ".join(f"'{name}'" for name in NO_QUALITY))  # our own names


def make_metrics(store: TelemetryStore, clock: Clock, source: str = "edge") -> Metrics:
    """The wire over `store`; only requests of `source` are counted.

    Raises NotFound for an unknown metric, with the nearest name, and BadRequest for a dimension it does not have.
    """

    def metrics(query: MetricQuery) -> list[MetricPoint]:
        definition = CATALOGUE.get(query.metric)
        if definition is None:
            near = difflib.get_close_matches(query.metric, CATALOGUE, n=1, cutoff=0.3)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(CATALOGUE)}"
            raise NotFound(f"there is no metric {query.metric!r}", where="metric", hint=hint)
        _check(definition, query)
        return _answer(store, definition, query, query.until_us or clock.now_us(), source)

    return metrics


def _check(definition: MetricDef, query: MetricQuery) -> None:
    used = set(query.by)
    used |= {name for name in ("route", "env", "model") if getattr(query, name)}
    used |= {name for name in ("release", "canary") if getattr(query, name) is not None}
    if wrong := sorted(used - set(definition.dimensions)):
        raise BadRequest(
            f"{definition.name} has no dimension {', '.join(wrong)}",
            where="metric",
            hint=f"it has {', '.join(definition.dimensions)}",
        )
    if query.bucket_s < 0:
        raise BadRequest("a time bucket is at least one second", where="bucket_s", hint="leave it out for one number")


def _answer(
    store: TelemetryStore, definition: MetricDef, query: MetricQuery, until_us: int, source: str
) -> list[MetricPoint]:
    long = until_us - query.since_us > RAW_S * 1_000_000 and bool(definition.rollup or definition.histogram)
    calls = definition.table == "rollup_call_minute"
    rolled = rollups.CALLS if calls else rollups.REQUESTS if long else None
    groups = _groups(query, "rollup_minute" if rolled else definition.table, "minute" if rolled else "ts")
    part, whole = _expressions(definition, long or calls)
    if rolled:
        relation, params = rollups.source(rolled, query.since_us, until_us, query.bucket_s)
        where, more = _filters(query, "rollup_minute")
    else:
        relation = _SCORES if definition.table == "scores" else definition.table
        where, more = _filters(query, definition.table)
        where, params = f"{where} AND ts >= {dialect.at()} AND ts < {dialect.at()}", []
        more += [query.since_us, until_us]
    sources = "source IN (?, 'otlp')" if calls else "source = ?"
    rows = store.query(
        f"SELECT {', '.join([*groups, f'{part} AS part', f'{whole} AS whole'])} "  # noqa: S608  # whitelisted names
        f"FROM {relation} rolled WHERE {where} AND {sources} " + ("GROUP BY ALL ORDER BY ALL" if groups else ""),
        [*params, *more, source],
    )
    if "error_type" in query.by and definition.kind == "ratio":
        _whole_over_types(rows, query)
    return [_point(definition, query, row) for row in rows]


def _groups(query: MetricQuery, table: str, time: str) -> list[str]:
    """What to group by, as SELECT expressions; the names were checked against the metric's dimensions."""
    groups = [f"{_MODEL[table] if name == 'model' else name} AS {name}" for name in query.by]
    if query.bucket_s:
        groups.append(f"{dialect.micros(dialect.time_bucket(time, query.bucket_s))} AS bucket_us")
    return groups


def _expressions(definition: MetricDef, long: bool) -> tuple[str, str]:
    if definition.kind == "quantile":
        if long and definition.histogram:
            return dialect.merged(definition.histogram), "0"
        return dialect.quantile(definition.part, definition.q), definition.whole
    if long and definition.rollup:
        part, whole = definition.rollup
        return part, whole or part
    return definition.part, definition.part if definition.name == "requests.count" else definition.whole


def _filters(query: MetricQuery, table: str) -> tuple[str, list[Any]]:
    where, params = ["true"], list[Any]()
    for name in ("route", "env", "model"):
        if value := getattr(query, name):
            where.append(f"{_MODEL[table] if name == 'model' else name} = ?")
            params.append(value)
    for name in ("release", "canary"):
        if (value := getattr(query, name)) is not None:
            where.append(f"{name}::VARCHAR = ?" if name == "release" else f"{name} = ?")
            params.append(str(value) if name == "release" else value)
    return " AND ".join(where), params


def _whole_over_types(rows: list[dict[str, Any]], query: MetricQuery) -> None:
    """By error type, each type's share is of all requests of the same group, not of those with that type."""
    others = [name for name in (*query.by, "bucket_us") if name != "error_type"]
    wholes: dict[tuple[Any, ...], int] = {}
    for row in rows:
        group = tuple(row.get(name) for name in others)
        wholes[group] = wholes.get(group, 0) + (row["whole"] or 0)
    for row in rows:
        row["whole"] = wholes[tuple(row.get(name) for name in others)]


def _point(definition: MetricDef, query: MetricQuery, row: dict[str, Any]) -> MetricPoint:
    labels = {name: _label(row[name]) for name in query.by}
    ts_us = int(row.get("bucket_us") or 0)
    part, n = row["part"], int(row["whole"] or 0)
    if isinstance(part, list):
        counts = [count or 0 for count in part] if None in part else part
        value = histogram.quantile(counts, HISTOGRAM_MS, definition.q)
        return MetricPoint(value=value, n=sum(counts), labels=labels, ts_us=ts_us)
    if definition.kind in ("ratio", "mean"):
        if n == 0:
            return MetricPoint(value=None, n=0, labels=labels, ts_us=ts_us)
        k = part or 0
        if definition.kind == "mean":
            return MetricPoint(value=float(k) / n, n=n, labels=labels, ts_us=ts_us)
        low, high = wilson(int(k), n)
        return MetricPoint(value=float(k) / n, n=n, labels=labels, ts_us=ts_us, low=low, high=high)
    if definition.name == "requests.count":
        return MetricPoint(value=float(part or 0), n=n, labels=labels, ts_us=ts_us)
    return MetricPoint(value=None if part is None or n == 0 else float(part), n=n, labels=labels, ts_us=ts_us)


def _label(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
