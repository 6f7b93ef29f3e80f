"""The metric catalogue as Prometheus text, under OpenTelemetry's GenAI names where these have one.

Counters and histograms count what was recorded since `since_us`, the process's start: a restart is a reset, as
Prometheus expects it, and the store's retention never is. Catalogue values are gauges over the last five minutes.
"""

from collections.abc import Iterator
from typing import Any

from pilothouse.domain.clock import Clock
from pilothouse.domain.wires import MetricQuery, Metrics
from pilothouse.store.telemetry import HISTOGRAM_MS, TelemetryStore, dialect
from pilothouse.telemetry.catalogue import CATALOGUE

WINDOW_S = 300
STEP = 3  # every third of our bounds is one of OpenTelemetry's, within half a percent: they double
SERIES_MAX = 2_000  # of one family; the busiest, for names of models are the client's to invent
_LABELS = ("pilothouse_route", "pilothouse_env", "gen_ai_provider_name", "gen_ai_response_model", "error_type")
_COUNTERS = {
    "gen_ai_client_inference_usage_input_tokens": ("input_tokens", "Input tokens, cached ones included"),
    "gen_ai_client_inference_usage_output_tokens": ("output_tokens", "Output tokens, reasoning included"),
    "pilothouse_cost_usd": ("cost_usd", "Cost of priced requests in USD"),
}
_HISTOGRAMS = {
    "gen_ai_client_operation_duration_seconds": ("duration_hist", "duration_sum", "From the body to the last reply"),
    "gen_ai_client_operation_time_to_first_chunk_seconds": ("ttft_hist", "", "To the first token, of streams"),
}


def exposition(store: TelemetryStore, metrics: Metrics, clock: Clock, since_us: int) -> list[str]:
    """The lines; raises StoreError."""
    rows = store.query(
        f"""SELECT route, env, provider, model, error_type, sum(requests)::BIGINT AS requests,
  sum(input_tokens)::BIGINT AS input_tokens, sum(output_tokens)::BIGINT AS output_tokens, sum(cost_usd) AS cost_usd,
  sum(duration_sum) AS duration_sum, {dialect.merged("duration_hist")} AS duration_hist,
  {dialect.merged("ttft_hist")} AS ttft_hist
FROM rollup_minute WHERE source = 'edge' AND minute >= date_trunc('minute', {dialect.at()})
GROUP BY route, env, provider, model, error_type ORDER BY sum(requests) DESC LIMIT {SERIES_MAX}""",  # noqa: S608
        [since_us],
    )
    series = [(_labels(dict(zip(_LABELS, row.values(), strict=False))), row) for row in rows]
    out: list[str] = []
    for name, (column, what) in _COUNTERS.items():
        out += _family(f"{name}_total", "counter", what)
        out += [f"{name}_total{{{labels}}} {_number(row[column])}" for labels, row in series]
    for name, (column, total, what) in _HISTOGRAMS.items():
        out += _family(name, "histogram", what)
        for labels, row in series:
            out += _histogram(name, labels, row[column], row[total] if total else None)
    out += _repeats(store, since_us)
    return out + list(_catalogue(metrics, clock.now_us()))


def _repeats(store: TelemetryStore, since_us: int) -> list[str]:
    found = store.rows(
        f"SELECT what, sum(count)::BIGINT FROM repeats WHERE ts >= {dialect.at()} GROUP BY what ORDER BY what",  # noqa: S608
        [since_us],
    )
    name = "pilothouse_repeated_lines_total"
    told = _family(name, "counter", "What exporters sent again and is stored once")
    return told + [f"{name}{{{_labels({'kind': what})}}} {count}" for what, count in found]


def _catalogue(metrics: Metrics, now_us: int) -> Iterator[str]:
    """Every catalogue metric by route and environment over the last five minutes; what has no data has no line."""
    since_us = now_us - WINDOW_S * 1_000_000
    for name, definition in CATALOGUE.items():
        full = "pilothouse_" + name.replace(".", "_").replace("-", "_")
        by = tuple(one for one in ("route", "env") if one in definition.dimensions)
        points = metrics(MetricQuery(metric=name, since_us=since_us, until_us=now_us, by=by))
        told = [point for point in points if point.value is not None]
        if told:
            yield from _family(full, "gauge", f"{definition.formula}, over 5 minutes, in {definition.unit}")
        for point in told:
            labels = _labels({f"pilothouse_{key}": text for key, text in point.labels.items()})
            yield f"{full}{{{labels}}} {_number(point.value)}"


def _histogram(name: str, labels: str, counts: list[int], total_ms: float | None) -> Iterator[str]:
    seen = 0
    for index, count in enumerate(counts):
        seen += count or 0
        last = index == len(counts) - 1
        if last or (index >= 10 and (index - 10) % STEP == 0):  # from 10 ms on, as OpenTelemetry's
            bound = "+Inf" if last else f"{HISTOGRAM_MS[index] / 1e3:.4g}"
            yield f'{name}_bucket{{{labels},le="{bound}"}} {seen}'
    if total_ms is not None:
        yield f"{name}_sum{{{labels}}} {_number(total_ms / 1e3)}"
    yield f"{name}_count{{{labels}}} {seen}"


def _family(name: str, kind: str, what: str) -> list[str]:
    return [f"# HELP {name} {what}", f"# TYPE {name} {kind}"]


def _labels(values: dict[str, Any]) -> str:
    return ",".join(f'{name}="{_quoted(str(value or ""))}"' for name, value in values.items())


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float | None) -> str:
    return f"{value or 0:.10g}"
