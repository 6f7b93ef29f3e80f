"""What a canary's two arms did, as telemetry has it: counts for the rates, moments for the means."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from pilothouse.releases.arms import Counts, Strata
from pilothouse.releases.shown import Arm, Parts, Sides, Sums
from pilothouse.stats.contrast import Moments
from pilothouse.store.telemetry import TelemetryStore, dialect

T = TypeVar("T")
CLOCKS_US = 300_000_000  # by which a host's clock may be off, where requests are told apart by the table they had
RUN = "canary_run"  # the label of a request that was asked for a canary run rather than by a user
_WINSOR = 0.995  # costs and tokens above this quantile count as much as it: one monster says nothing of a mean

# Nothing but the pointer chose what answers: a flag gave no other release and no other part, and no flow was off. Who a
# flag chooses is no matter of chance, so its requests count for neither side, whatever it chose.
OWN = "coalesce(cardinality(flags), 0) = 0"
_TABLES = "coalesce(table_revision, 0) >= ? AND coalesce(table_revision, 0) < ?"
# What a user asked, and what was asked again for this run. A request that its client left says nothing of the
# release.
_ARM = f"""(source = 'edge' OR (source IN ('replay', 'shadow') AND labels['{RUN}'] = ?))
  AND route = ? AND env = ? AND release = ? AND canary = ? AND ts >= {dialect.at()} AND ts < {dialect.at()}
  AND {_TABLES} AND status <> 499 AND {OWN}"""  # our own fragments
_FLAGGED = f"""SELECT count(*) FROM requests WHERE source = 'edge' AND route = ? AND env = ? AND canary = ?
  AND ts >= {dialect.at()} AND ts < {dialect.at()} AND {_TABLES} AND status <> 499 AND NOT ({OWN})"""  # noqa: S608
_ANSWERED = "(outcome NOT IN ('failed', 'refused') AND coalesce(cache, '') NOT IN ('hit', 'semantic', 'stale'))"
_COUNTS = f"""SELECT count(*), count(*) FILTER (outcome = 'failed'), count(*) FILTER (outcome = 'refused'),
  count(*) FILTER (structured),
  count(*) FILTER (structured AND NOT valid_first), count(*) FILTER (len(guard_hits) > 0), count(*) FILTER {_ANSWERED},
  count(*) FILTER ({_ANSWERED} AND duration_ms > ?), count(DISTINCT nullif(session, '')) FILTER (source = 'edge'),
  count(*) FILTER (source <> 'edge')
FROM requests WHERE {_ARM}"""  # noqa: S608  # likewise
_SCORES = f"""SELECT name, count(*) FILTER (value <= 0), count(*) FROM (
  SELECT s.name AS name, arg_max(s.value, s.ts) AS value FROM scores s
  WHERE s.ts >= {dialect.at()} AND s.request_id IN (SELECT id FROM requests WHERE {_ARM}) GROUP BY s.name, s.request_id)
GROUP BY name HAVING count(*) FILTER (value NOT IN (0, 1)) = 0"""  # noqa: S608  # likewise
# What a mean is of; NULL counts for nothing, and `least` would pass over it.
_COLUMNS = {
    "failed": "(outcome = 'failed')::INTEGER",
    "refused": "(outcome = 'refused')::INTEGER",
    "invalid": "CASE WHEN structured THEN (NOT valid_first)::INTEGER END",
    "guarded": "guarded::INTEGER",
    "slow": "CASE WHEN answered THEN (duration_ms > most_ms)::INTEGER END",
    "latency": "CASE WHEN answered THEN ln(greatest(duration_ms, 0.01)) END",
    "cost": "CASE WHEN answered AND cost_usd IS NOT NULL THEN least(cost_usd, most_usd) END",
    "tokens": "CASE WHEN answered AND tokens IS NOT NULL THEN least(tokens, most_tokens) END",
}
_LAST = f"""SELECT max(epoch_us(ts)) FROM requests WHERE source = 'edge' AND route = ? AND env = ? AND release = ?
  AND canary AND ts >= {dialect.at()}"""  # noqa: S608  # likewise
_FOREVER_US = 9_000_000_000_000_000  # the year 2255
_ANY_TABLE = 1 << 60


def counts(store: TelemetryStore, arm: Arm) -> Counts:
    """What one side of a canary did."""
    since_us = _since(arm.since_us, arm.table)
    until_us = arm.until_us + (CLOCKS_US if arm.until_table else 0) if arm.until_us else _FOREVER_US
    during = [since_us, until_us, arm.table, arm.until_table or _ANY_TABLE]
    where = [str(arm.run or ""), arm.route, arm.env, arm.release, arm.canary, *during]
    found = store.rows(_COUNTS, [arm.slo_ms, *where])[0]
    requests, failures, refusals, structured, invalid, guarded, answered, slow, sessions, fed = found
    scores = store.rows(_SCORES, [since_us, *where]) if requests else []
    flagged = store.rows(_FLAGGED, [arm.route, arm.env, arm.canary, *during])[0][0]
    return Counts(
        requests=requests,
        failures=failures,
        refusals=refusals,
        structured=structured,
        invalid_first=invalid,
        guarded=guarded,
        answered=answered,
        slow=slow,
        sessions=sessions or None,
        fed=fed,
        flagged=flagged,
        scores={name: (bad, n) for name, bad, n in scores},
    )


def _since(ts_us: int, table: int) -> int:
    """From when on requests are looked at that count from this table on; the time itself where no table is known."""
    return ts_us - (CLOCKS_US if table else 0)


def last(store: TelemetryStore, arm: Arm) -> int | None:
    """When the last request of a user on the canary's side began, µs since 1970."""
    found: int | None = store.rows(_LAST, [arm.route, arm.env, arm.release, arm.since_us])[0][0]
    return found


def measure(store: TelemetryStore, sides: Sides) -> dict[str, Strata]:
    """Both sides' rates, latency (the logarithm of ms), cost, tokens and scores, a stratum for each share.

    What was asked again is a stratum of its own. Groups are sessions, and single requests where there are none.
    """
    found = {name: _strata(rows, names) for name, names, rows in _asked(store, sides, _MOMENTS)}
    return {one: strata for name, all_of in found.items() for one, strata in _named(name, all_of, sides).items()}


def parts(store: TelemetryStore, sides: Sides) -> Parts:
    """The same as sums that add up over hosts."""
    found = {name: _parts(rows, names) for name, names, rows in _asked(store, sides, _SUMS)}
    return {one: sums for name, all_of in found.items() for one, sums in _named(name, all_of, sides).items() if sums}


class _Shape(NamedTuple):
    """What is told of the groups of a stratum and side: `by` is what they are told apart by beside that."""

    by: str
    sums: Callable[[str], str]


def _moments(name: str) -> str:
    n, s = f"n_{name}", f"s_{name}"
    sums = f"sum({s}), sum({s} * {s}), sum({s} * {n}), sum({n}::DOUBLE * {n})"
    return f"sum({n})::BIGINT, count(*) FILTER ({n} > 0), {sums}"


def _sums(name: str) -> str:
    n, s = f"n_{name}", f"s_{name}"
    return f"sum({n})::BIGINT, count(*) FILTER ({n} > 0), sum({s}), sum({s} * {s})"


_MOMENTS = _Shape("", _moments)
# One of 512 buckets by 9 bits of a hash, which is the same in every store; none for a request without a session.
_HALF = "CASE WHEN substr(md5(part), 3, 1) < '8' THEN '0' ELSE '1' END"
_SUMS = _Shape(f", CASE WHEN many THEN concat(substr(md5(part), 1, 2), {_HALF}) ELSE '' END", _sums)


def _asked(
    store: TelemetryStore, sides: Sides, shape: _Shape
) -> Iterator[tuple[str, tuple[str, ...], list[Sequence[Any]]]]:
    """(name of a score or empty, names of the columns, rows of stratum, side and the shape's sums)."""
    run = sides.run
    steps = [one for one in sides.steps if one[0] > run.started_us]
    first = dict(sides.steps).get(run.started_us, 0)
    since_us = _since(run.started_us, first)
    known = [value for ts_us, table in steps for value in (table, _since(ts_us, table))]
    side = [str(run.id), run.route, run.env, since_us, first, run.release, run.baseline]
    scored = store.rows(_scored(len(steps), shape), [*known, *side, since_us])
    for name in sorted({row[0] for row in scored}):
        yield name, ("bad", "mean"), [row[1:] for row in scored if row[0] == name]
    slo = 1e18 if sides.slo_ms is None else sides.slo_ms
    yield "", tuple(_COLUMNS), list(store.rows(_means(len(steps), shape), [slo, *known, *side]))


def _named(name: str, found: dict[str, T], sides: Sides) -> dict[str, T]:
    """By the mean's own name; of a score what it is judged by."""
    return found if not name else {name: found["mean" if name in sides.scores else "bad"]}


def _picked(steps: int) -> str:
    """Both sides' requests with their stratum and group."""
    step = f"(coalesce(table_revision, 0) >= ? AND ts >= {dialect.at()})::INTEGER"
    stratum = " + ".join(["0", *(step for _ in range(steps))])
    return f"""SELECT id, CASE WHEN source = 'edge' THEN {stratum} ELSE -1 END AS stratum, canary,
  coalesce(session, '') <> '' AS many, coalesce(nullif(session, ''), id) AS part, {_ANSWERED} AS answered, duration_ms,
  cost_usd, outcome, structured, valid_first, len(guard_hits) > 0 AS guarded,
  (input_uncached + cache_read + cache_write + output_text + reasoning)::DOUBLE AS tokens
FROM requests WHERE (source = 'edge' OR (source IN ('replay', 'shadow') AND labels['{RUN}'] = ?))
  AND route = ? AND env = ? AND ts >= {dialect.at()} AND coalesce(table_revision, 0) >= ?
  AND ((canary AND release = ?) OR (NOT canary AND release = ?)) AND status <> 499 AND {OWN}"""  # noqa: S608  # our own fragments


def _grouped(**columns: str) -> str:
    return ", ".join(
        f"count({value}) AS n_{name}, coalesce(sum({value}), 0)::DOUBLE AS s_{name}" for name, value in columns.items()
    )


def _means(steps: int, shape: _Shape) -> str:
    """Per stratum and side, what the sums over groups add up to. The objective stands before all else."""
    return f"""WITH slo AS (SELECT ?::DOUBLE AS most_ms), picked AS ({_picked(steps)}),
most AS (SELECT quantile_cont(cost_usd, {_WINSOR}) AS most_usd, quantile_cont(tokens, {_WINSOR}) AS most_tokens
  FROM picked WHERE answered),
groups AS (SELECT stratum, canary, many, part, {_grouped(**_COLUMNS)} FROM picked, most, slo
  GROUP BY stratum, canary, many, part)
SELECT stratum, canary{shape.by}, {", ".join(map(shape.sums, _COLUMNS))}
FROM groups GROUP BY stratum, canary{shape.by}"""  # noqa: S608  # our own fragments


def _scored(steps: int, shape: _Shape) -> str:
    """The same of scores, by name, as they are and as bad ones; of a request that was scored twice the last counts."""
    return f"""WITH picked AS ({_picked(steps)}),
scored AS (SELECT s.name AS name, s.request_id AS request_id, arg_max(s.value, s.ts) AS value FROM scores s
  WHERE s.ts >= {dialect.at()} AND s.request_id IN (SELECT id FROM picked) GROUP BY s.name, s.request_id),
groups AS (SELECT name, stratum, canary, many, part, {_grouped(bad="(value <= 0)::INTEGER", mean="value")}
  FROM scored JOIN picked ON picked.id = scored.request_id GROUP BY name, stratum, canary, many, part)
SELECT name, stratum, canary{shape.by}, {shape.sums("bad")}, {shape.sums("mean")}
FROM groups GROUP BY name, stratum, canary{shape.by}"""  # noqa: S608


def _strata(rows: Sequence[Sequence[Any]], names: tuple[str, ...]) -> dict[str, Strata]:
    """Rows of (stratum, canary, six sums for each name) → pairs of (canary, stable)."""
    found: dict[str, dict[int, dict[bool, Moments]]] = {name: {} for name in names}
    for stratum, canary, *sums in rows:
        for place, name in enumerate(names):
            n, groups, total, squares, crossed, sizes = sums[6 * place : 6 * place + 6]
            if n:
                moments = Moments(n=n, groups=groups, total=total, squares=squares, crossed=crossed, sizes=sizes)
                found[name].setdefault(stratum, {})[canary] = moments
    return {
        name: tuple((sides.get(True, Moments()), sides.get(False, Moments())) for _, sides in sorted(strata.items()))
        for name, strata in found.items()
    }


def _parts(rows: Sequence[Sequence[Any]], names: tuple[str, ...]) -> dict[str, dict[int, tuple[Sums, Sums]]]:
    """Rows of (stratum, canary, bucket, four sums for each name) → pairs of (canary, stable) by stratum."""
    found: dict[str, dict[tuple[int, bool], list[tuple[str, Any]]]] = {name: {} for name in names}
    for stratum, canary, bucket, *sums in rows:
        for place, name in enumerate(names):
            if sums[4 * place]:
                found[name].setdefault((stratum, bool(canary)), []).append((bucket, sums[4 * place : 4 * place + 4]))
    return {
        name: {
            stratum: (_added(sides.get((stratum, True), [])), _added(sides.get((stratum, False), [])))
            for stratum in sorted({stratum for stratum, _ in sides})
        }
        for name, sides in found.items()
    }


def _added(told: Sequence[tuple[str, Any]]) -> Sums:
    """One side: what stands alone, and the buckets."""
    alone = next((sums for bucket, sums in told if not bucket), (0, 0, 0.0, 0.0))
    grouped = [(bucket, sums) for bucket, sums in told if bucket]
    return Sums(
        n=alone[0],
        total=alone[2],
        squares=alone[3],
        sessions=sum(sums[1] for _, sums in grouped),
        buckets={bucket: (sums[0], sums[2]) for bucket, sums in grouped},
    )
