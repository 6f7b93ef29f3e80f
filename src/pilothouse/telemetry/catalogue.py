"""The metric catalogue: every number that pages, rules, canaries and the API may ask for, with its formula."""

from typing import Literal

import msgspec

# What a client did wrong is no failure of the route.
CLIENT_ERRORS = ("bad_request", "invalid_api_key", "not_found", "request_too_large", "client_closed_request")
_CLIENT = ", ".join(f"'{code}'" for code in CLIENT_ERRORS)

REQUEST_DIMENSIONS = ("route", "env", "model", "release", "canary", "provider", "outcome", "error_type")
ATTEMPT_DIMENSIONS = ("route", "env", "model", "release", "canary", "provider", "error_type")
CALL_DIMENSIONS = ("app", "route", "env", "release", "operation", "provider", "model", "status")
SCORE_DIMENSIONS = ("route", "env", "model", "release", "canary", "provider", "outcome")

Kind = Literal["count", "ratio", "mean", "quantile"]


class MetricDef(msgspec.Struct, frozen=True, kw_only=True):
    """A metric. `part` and `whole` are SQL over the rows of `table`, `rollup` the same two over minute rollups.

    count: `part` alone. ratio: part ÷ whole, both counts, with Wilson's interval. mean: part (a sum) ÷ whole (a count).
    quantile: of `part` at `q`; `histogram` names the rollup column that long windows are answered from.
    """

    name: str
    unit: str
    formula: str
    dimensions: tuple[str, ...]
    table: Literal["requests", "attempts", "scores", "rollup_call_minute"] = "requests"
    kind: Kind
    part: str
    whole: str = "count(*)"
    rollup: tuple[str, str] | None = None
    q: float = 0.0
    histogram: str = ""


def _where(condition: str) -> str:
    return f"count(*) FILTER ({condition})"


def _rolled(condition: str) -> str:
    return f"sum(requests) FILTER ({condition})"


_FAILED = f"outcome = 'failed' AND error_type NOT IN ({_CLIENT})"
_SERVED = f"outcome <> 'refused' AND error_type NOT IN ({_CLIENT})"
_REFUSED = "error_type IN ('limit_exceeded', 'budget_exceeded', 'queue_full', 'queue_timeout')"
_CACHED = "cache IN ('hit', 'semantic')"
_ANSWERED = "error_type = '' AND status > 0"


def _request(name: str, unit: str, formula: str, kind: Kind, **rest: object) -> MetricDef:
    return MetricDef(name=name, unit=unit, formula=formula, dimensions=REQUEST_DIMENSIONS, kind=kind, **rest)  # type: ignore[arg-type]


def _call(name: str, unit: str, formula: str, kind: Kind, *rollup: str, **rest: object) -> MetricDef:
    """A metric of calls of models, the gateway's and those of spans, each counted once; from rollups alone."""
    return MetricDef(
        name=name,
        unit=unit,
        formula=formula,
        dimensions=CALL_DIMENSIONS,
        table="rollup_call_minute",
        kind=kind,
        part="",
        rollup=(rollup[0], "".join(rollup[1:])) if rollup else None,
        **rest,  # type: ignore[arg-type]
    )


def _call_latency(name: str, histogram: str, what: str) -> tuple[MetricDef, ...]:
    return tuple(
        _call(f"{name}.p{percent}", "ms", f"{percent}th percentile of {what}", "quantile", q=percent / 100,
              histogram=histogram)
        for percent in (50, 95, 99)
    )  # fmt: skip


def _latency(name: str, column: str, histogram: str, what: str) -> tuple[MetricDef, ...]:
    return tuple(
        _request(
            f"{name}.p{percent}",
            "ms",
            f"{percent}th percentile of {what}",
            "quantile",
            part=column,
            whole=f"count({column})",
            q=percent / 100,
            histogram=histogram,
        )
        for percent in (50, 95, 99)
    )


_DEFINITIONS: tuple[MetricDef, ...] = (
    _request(
        "requests.count", "requests", "number of requests", "count", part="count(*)", rollup=("sum(requests)", "")
    ),
    *_latency("latency", "duration_ms", "duration_hist", "the time from the request's first byte to its last reply"),
    *_latency("ttft", "ttft_ms", "ttft_hist", "the time to the first token, of streamed requests"),
    _request(
        "latency.mean", "ms", "mean total time", "mean",
        part="sum(duration_ms)", rollup=("sum(duration_sum)", "sum(requests)"),
    ),
    _request(
        "error.rate", "share", "requests that failed through no fault of the client ÷ requests the client sent well",
        "ratio", part=_where(_FAILED), whole=_where(_SERVED), rollup=(_rolled(_FAILED), _rolled(_SERVED)),
    ),
    _request(
        "failure.rate", "share", "requests with outcome failed ÷ requests", "ratio",
        part=_where("outcome = 'failed'"), rollup=(_rolled("outcome = 'failed'"), "sum(requests)"),
    ),
    _request(
        "success.rate", "share", "requests with outcome success ÷ requests", "ratio",
        part=_where("outcome = 'success'"), rollup=(_rolled("outcome = 'success'"), "sum(requests)"),
    ),
    _request(
        "fallback.rate", "share", "requests that a fallback served ÷ requests", "ratio",
        part=_where("fallback_used AND outcome NOT IN ('failed', 'refused')"),
        rollup=("sum(fallbacks)", "sum(requests)"),
    ),
    _request(
        "degraded.rate", "share", "requests with outcome degraded or escalated ÷ requests", "ratio",
        part=_where("outcome IN ('degraded', 'escalated')"),
        rollup=(_rolled("outcome IN ('degraded', 'escalated')"), "sum(requests)"),
    ),
    _request(
        "retry.success_rate", "share", "retried requests that succeeded without a fallback ÷ retried requests", "ratio",
        part=_where("retries > 0 AND outcome = 'success'"), whole=_where("retries > 0"),
    ),
    _request(
        "attempts.per_request", "attempts", "upstream calls ÷ requests that reached a provider", "mean",
        part="sum(attempt_count)", whole=_where("attempt_count > 0"),
    ),
    _request(
        "schema.valid_first", "share", "outputs valid as the model wrote them ÷ structured requests", "ratio",
        part=_where("valid_first"), whole=_where("structured"), rollup=("sum(valid_first)", "sum(structured)"),
    ),
    _request(
        "schema.valid", "share", "outputs valid in the end ÷ structured requests", "ratio",
        part=_where("valid"), whole=_where("structured"), rollup=("sum(valid)", "sum(structured)"),
    ),
    _request(
        "schema.invalid", "share", "outputs invalid in the end ÷ structured requests", "ratio",
        part=_where("structured AND NOT valid"), whole=_where("structured"),
        rollup=("sum(structured) - sum(valid)", "sum(structured)"),
    ),
    _request(
        "schema.repaired", "share", "outputs valid only after repair or retry ÷ structured requests", "ratio",
        part=_where("valid AND NOT valid_first"), whole=_where("structured"),
    ),
    _request(
        "cost.per_request", "USD", "mean cost of requests with a known price", "mean",
        part="sum(cost_usd)", whole="count(cost_usd)", rollup=("sum(cost_usd)", "sum(priced)"),
    ),
    _request(
        "cost.per_request.p95", "USD", "95th percentile of the cost of requests with a known price", "quantile",
        part="cost_usd", whole="count(cost_usd)", q=0.95,
    ),
    _request(
        "cost.per_success", "USD", "cost of all priced requests ÷ priced requests with outcome success", "mean",
        part="sum(cost_usd)", whole="count(cost_usd) FILTER (outcome = 'success')",
        rollup=("sum(cost_usd)", "sum(priced) FILTER (outcome = 'success')"),
    ),
    _request(
        "cost.spend", "USD", "sum of known costs; n counts the priced requests", "count",
        part="sum(cost_usd)", whole="count(cost_usd)", rollup=("sum(cost_usd)", "sum(priced)"),
    ),
    _request(
        "cost.priced", "share", "requests with a known price ÷ requests whose tokens are known", "ratio",
        part="count(cost_usd) FILTER (input_uncached IS NOT NULL)", whole="count(input_uncached)",
    ),
    _request(
        "tokens.input", "tokens", "mean input tokens, cached ones included", "mean",
        part="sum(input_uncached + cache_read + cache_write)", whole="count(input_uncached)",
        rollup=("sum(input_tokens)", "sum(with_tokens)"),
    ),
    _request(
        "tokens.output", "tokens", "mean output tokens, reasoning included", "mean",
        part="sum(output_text + reasoning)", whole="count(input_uncached)",
        rollup=("sum(output_tokens)", "sum(with_tokens)"),
    ),
    _request(
        "tokens.cached", "share", "input tokens read from the provider's cache ÷ input tokens", "ratio",
        part="sum(cache_read)", whole="sum(input_uncached + cache_read + cache_write)",
    ),
    _request(
        "usage.reported", "share", "requests with the provider's own token counts ÷ requests with tokens", "ratio",
        part=_where("NOT tokens_estimated"), whole="count(input_uncached)",
    ),
    _request(
        "redaction.coverage", "share", "records that say what redaction did ÷ records", "ratio",
        part=_where(
            "redaction_status IN ('clean', 'redacted', 'blocked')"
            " OR redaction_status = 'skipped' AND redaction_reason <> ''"
        ),
    ),
    _request(
        "schema.coerced", "share", "outputs with a field that was made to fit its type ÷ structured requests", "ratio",
        part=_where("structured AND len(coerced_fields) > 0"), whole=_where("structured"),
    ),
    _request(
        "reask.rate", "share", "requests asked again because of their schema ÷ structured requests", "ratio",
        part=_where("structured AND validation_retries > 0"), whole=_where("structured"),
    ),
    _request(
        "cache.hit_rate", "share", "answers from the cache, by meaning too ÷ requests that asked it", "ratio",
        part=_where(_CACHED), whole=_where(f"cache = 'miss' OR {_CACHED}"),
    ),
    _request(
        "cache.semantic_rate", "share", "answers from the cache by meaning ÷ requests that asked it", "ratio",
        part=_where("cache = 'semantic'"), whole=_where(f"cache = 'miss' OR {_CACHED}"),
    ),
    _request(
        "cache.saved", "USD", "what cached answers cost when they were made; n counts those with a price", "count",
        part="sum(saved_usd)", whole="count(saved_usd)",
    ),
    _request(
        "queue.rate", "share", "requests that waited for a limit ÷ requests", "ratio", part=_where("queued_ms > 0"),
    ),
    _request(
        "queue.wait.p95", "ms", "95th percentile of the time waited for a limit, of requests that waited", "quantile",
        part="nullif(queued_ms, 0)", whole=_where("queued_ms > 0"), q=0.95,
    ),
    _request(
        "limit.refusal_rate", "share", "requests that a limit or budget of ours refused ÷ requests", "ratio",
        part=_where(_REFUSED),
    ),
    _request(
        "guard.hit_rate", "share", "requests in which a guardrail found something ÷ requests", "ratio",
        part=_where("len(guard_hits) > 0"),
    ),
    _request(
        "guard.block_rate", "share", "requests that a guardrail blocked, or in which one failed ÷ requests", "ratio",
        part=_where("regexp_matches(array_to_string(guard_hits, ' '), ':(input|output):(block|error):')"),
    ),
    _request(
        "stream.broken_rate", "share", "streams that broke off, mended or not ÷ streams that began", "ratio",
        part=_where("stream_end IN ('error', 'restarted', 'continued')"), whole=_where("stream_end <> ''"),
    ),
    _request(
        "delayed.failure_rate", "share", "requests answered later that were never answered ÷ those answered later",
        "ratio", part=_where("delayed AND outcome = 'failed'"), whole=_where("delayed"),
    ),
    _request(
        "segment.known", "share", "requests that name their segment ÷ requests", "ratio", part=_where("segment <> ''"),
    ),
    MetricDef(
        name="hedge.rate", unit="share", formula="second calls to a late model ÷ first calls",
        dimensions=ATTEMPT_DIMENSIONS, table="attempts", kind="ratio", part=_where("kind = 'hedge'"),
        whole=_where("kind = 'primary'"),
    ),
    MetricDef(
        name="attempts.cancelled", unit="share", formula="attempts that we gave up ÷ attempts",
        dimensions=ATTEMPT_DIMENSIONS, table="attempts", kind="ratio", part=_where("cancelled"),
    ),
    MetricDef(
        name="timeout.rate", unit="share", formula="attempts that timed out ÷ attempts", dimensions=ATTEMPT_DIMENSIONS,
        table="attempts", kind="ratio", part=_where("error_type LIKE 'timeout%'"),
    ),
    MetricDef(
        name="rate_limit.rate", unit="share", formula="attempts answered 429 ÷ attempts",
        dimensions=ATTEMPT_DIMENSIONS, table="attempts", kind="ratio", part=_where("status = 429"),
    ),
    MetricDef(
        name="provider.error_rate", unit="share", formula="attempts that did not give a usable answer ÷ attempts",
        dimensions=ATTEMPT_DIMENSIONS, table="attempts", kind="ratio", part=_where(f"NOT ({_ANSWERED})"),
    ),
    MetricDef(
        name="feedback.score", unit="score", formula="mean value of scores from feedback", dimensions=SCORE_DIMENSIONS,
        table="scores", kind="mean", part="sum(value) FILTER (score_source = 'feedback')",
        whole=_where("score_source = 'feedback'"),
    ),
    MetricDef(
        name="score.mean", unit="score", formula="mean value of all scores of how good an answer is",
        dimensions=SCORE_DIMENSIONS, table="scores", kind="mean", part="sum(value)",
    ),
    _call("calls.count", "calls", "calls of models, of the gateway and of apps that send spans", "count", "sum(calls)"),
    *_call_latency("calls.latency", "duration_hist", "the time that a call of a model took"),
    *_call_latency("calls.ttft", "ttft_hist", "the time to a call's first token, where it is known"),
    _call(
        "calls.error_rate", "share", "calls of models that failed ÷ calls", "ratio",
        "sum(calls) FILTER (status = 'error')", "sum(calls)",
    ),
    _call("calls.spend", "USD", "sum of calls' known costs; n counts the priced calls", "count",
          "sum(cost_usd)", "sum(priced)"),
    _call("calls.tokens.input", "tokens", "mean input tokens of a call, cached ones included", "mean",
          "sum(input_tokens)", "sum(with_tokens)"),
    _call("calls.tokens.output", "tokens", "mean output tokens of a call, reasoning included", "mean",
          "sum(output_tokens)", "sum(with_tokens)"),
)  # fmt: skip

CATALOGUE: dict[str, MetricDef] = {definition.name: definition for definition in _DEFINITIONS}
