"""Evidence for the review: one group-by per question over a window, for all routes at once, as `RouteFacts`."""

from collections import defaultdict
from collections.abc import Callable

from pilothouse.domain.clock import Clock
from pilothouse.domain.facts import (
    BurnWindow,
    Day,
    IndexUse,
    LatencyFacts,
    ManifestUse,
    ModelUse,
    ProviderFacts,
    QueueFacts,
    RedactionFacts,
    RetrievalUse,
    RouteFacts,
    RuntimeFacts,
    SchemaFacts,
    TelemetryFacts,
    TraceFacts,
    WayUse,
)
from pilothouse.store.telemetry import TelemetryStore
from pilothouse.telemetry import questions, spending
from pilothouse.telemetry.answers import Answers, Row, Rows, by_route, counts, known_sum

BASELINE_US = 28 * 86_400_000_000
UNTYPED = ("", "unknown", "internal")
_FIELDS_MAX = 50
_ERRORS_MAX = 10

_MANY = (
    *("OUTCOMES", "MANIFESTS", "MODELS", "LATENCY", "PROVIDERS", "PROVIDER_ERRORS", "FIELDS", "KEYS", "SCORES"),
    *("BURN", "DAYS", "COST_BASELINE", "WORKFLOWS", "SPANNED", "STAGED", "ORPHANS", "RETRIEVALS", "INDEXES"),
    *("COST_BEFORE", "WORKFLOWS_BEFORE", "CACHE_BEFORE", "UNLISTED_BEFORE", "SEGMENTS", "JUDGED", "SEMANTIC"),
    *("REVENUE", "CONTEXTS", "REPEATS", "KINDS", "WAYS", "LIMIT_HITS", "QUEUE", "BUSY"),
)


def gather(store: TelemetryStore, clock: Clock, since_us: int, until_us: int, route: str = "") -> TelemetryFacts:
    """Facts of every route with traffic in [since_us, until_us), or of `route` alone, over one snapshot of the store.
    Raises StoreError.
    """
    began = clock.monotonic()
    bounds: dict[str, int | str] = {"since": since_us, "until": until_us, "route": route}
    bounds |= {"base": since_us - BASELINE_US, "prior": 2 * since_us - until_us}
    with store.reading() as ask:

        def answer(question: str) -> Rows:
            sql = _of_route(question) if route else getattr(questions, question)
            return ask(sql, {name: value for name, value in bounds.items() if f"${name}" in sql})

        answer("REVIEW_REQUESTS")
        answer("REVIEW_TRACES")
        answer("REVIEW_SCORES")
        answers = {question: by_route(answer(question)) for question in ("REQUESTS", *_MANY)}
        answers["DUPLICATES"] = by_route(_duplicates(answer))
        losses = {row["what"]: row["n"] for row in answer("LOSSES")}
    routes = [
        _route(Answers(name, env, answers), name, env, (since_us, until_us))
        for name, env in sorted(answers["REQUESTS"])
    ]
    return TelemetryFacts(
        since_us=since_us,
        until_us=until_us,
        routes=routes,
        spend=sum(facts.cost.spend for facts in routes),
        losses=losses,
        took_ms=(clock.monotonic() - began) * 1_000,
    )


def _of_route(question: str) -> str:
    """The question about one route alone, $route; of other routes it may still say something.

    Of the route's traces all requests are needed, its scores may not name it, and ids are counted over all routes.
    """
    sql = str(getattr(questions, question))
    match question:
        case "REVIEW_REQUESTS":
            return f"""{sql} AND trace_id IN (SELECT trace_id FROM requests WHERE source = 'edge' AND route = $route
  AND ts >= make_timestamp($base) AND ts < make_timestamp($until))"""  # noqa: S608  # our own fragments
        case "REVIEW_TRACES":
            return sql.replace("GROUP BY", "WHERE route = $route GROUP BY")
        case "REVIEW_SCORES":
            return f"{sql} AND coalesce(nullif(s.route, ''), q.route, '') = $route"
        case "ANY_DUPLICATE" | "DUPLICATES":
            return sql
        case _:
            return sql.replace("source = 'edge'", "source = 'edge' AND route = $route")


def _duplicates(answer: Callable[[str], Rows]) -> Rows:
    """Whose they are is only asked where there are any: counting all ids is cheap, ranking them is not."""
    return answer("DUPLICATES") if answer("ANY_DUPLICATE")[0]["n"] else []


def _route(of: Answers, route: str, env: str, window: tuple[int, int]) -> RouteFacts:
    totals = of.one("REQUESTS")
    outcomes = of.all("OUTCOMES")
    failed = [row for row in outcomes if row["outcome"] == "failed"]
    return RouteFacts(
        route=route,
        env=env,
        since_us=window[0],
        until_us=window[1],
        requests=totals["requests"],
        first_us=totals["first_us"],
        last_us=totals["last_us"],
        outcomes=counts(outcomes, "outcome"),
        failures=sum(row["n"] for row in failed),
        failures_typed=sum(row["n"] for row in failed if row["error_type"] not in UNTYPED),
        errors=counts(failed, "error_type"),
        with_usage=totals["with_usage"],
        with_tokens=totals["with_tokens"],
        manifests=[_manifest(row) for row in of.all("MANIFESTS")],
        models=[ModelUse(attempts=row.pop("n"), **row) for row in of.all("MODELS")],
        traces=_traces(of, totals),
        redaction=_redaction(totals, outcomes),
        schema=_schema(of, totals),
        retrieval=_retrieval(of),
        runtime=_runtime(of, totals),
        queue=_queue(of, totals, (window[1] - window[0]) / 1e3),
        cost=spending.cost(of, totals),
        cache=spending.cache(of, totals),
        contexts=spending.contexts(of),
        latency=[_latency(row) for row in of.all("LATENCY")],
        burn=[
            BurnWindow(seconds=row["seconds"], total=row["total"], failed=row["failed"], duration_hist=row["hist"])
            for row in of.all("BURN")
        ],
        days=[Day(**row) for row in of.all("DAYS")],
        scores={row["name"]: (row["mean"], row["n"]) for row in of.all("SCORES")},
    )


def _manifest(row: Row) -> ManifestUse:
    return ManifestUse(
        manifest=row["manifest"] or "",
        release=row["release"],
        inline=bool(row["inline"]),
        canary=bool(row["canary"]),
        requests=row["n"],
        parts={part: row[part] for part in questions.PARTS if row[part]},
        missing={part: n for part in questions.PARTS if (n := row[f"missing_{part}"])},
        first_us=row["first_us"],
        last_us=row["last_us"],
    )


def _traces(of: Answers, totals: Row) -> TraceFacts:
    spanned, staged = of.one("SPANNED"), of.one("STAGED")
    alone = totals["requests"] - spanned.get("requests", 0)
    alone_accounted = totals["accounted"] - spanned.get("accounted", 0)
    orphans, duplicates, repeats = of.one("ORPHANS"), of.one("DUPLICATES"), of.one("REPEATS")
    workflows, before = of.one("WORKFLOWS"), of.one("WORKFLOWS_BEFORE")
    return TraceFacts(
        identified=totals["identified"],
        duplicate_ids=duplicates.get("n", 0),
        traces=alone + staged.get("traces", 0),
        traces_with_spans=staged.get("traces", 0),
        accounted=alone_accounted + staged.get("accounted", 0),
        unaccounted_ms_p50=(staged or totals)["unaccounted_ms"],
        spans=orphans.get("spans", 0),
        orphan_spans=orphans.get("orphans", 0),
        workflows=workflows.get("traces", 0),
        workflow_cost_mean=workflows.get("cost_mean"),
        workflow_cost_p95=workflows.get("cost_p95"),
        workflows_priced=workflows.get("priced", 0),
        workflow_cost_mean_before=before.get("cost_mean"),
        workflow_cost_p95_before=before.get("cost_p95"),
        workflows_priced_before=before.get("priced", 0),
        steps_mean=workflows.get("steps_mean"),
        steps_p95=workflows.get("steps_p95"),
        documents=repeats.get("documents", 0),
        documents_repeated=repeats.get("repeated", 0),
    )


def _redaction(totals: Row, outcomes: Rows) -> RedactionFacts:
    return RedactionFacts(
        by_status=counts([row for row in outcomes if row["redaction_status"]], "redaction_status"),
        skipped_without_reason=totals["skipped_without_reason"],
        requests_with_secrets=totals["requests_with_secrets"],
        secrets_unredacted=totals["secrets_unredacted"],
        secrets_found=totals["secrets_found"],
    )


def _schema(of: Answers, totals: Row) -> SchemaFacts:
    fields = of.all("FIELDS")

    def commonest(what: str, most: int) -> dict[str, int]:
        return {row["field"]: row["n"] for row in [row for row in fields if row["what"] == what][:most]}

    return SchemaFacts(
        structured=totals["structured"],
        valid_first=totals["valid_first"],
        valid=totals["valid"],
        repaired=totals["repaired"],
        retried=totals["schema_retried"],
        mended=totals["mended"],
        coerced=totals["coerced"],
        delivered_invalid=totals["delivered_invalid"],
        missing=commonest("missing", _FIELDS_MAX),
        mismatched=commonest("mismatched", _FIELDS_MAX),
        unlisted=commonest("unlisted", _FIELDS_MAX),
        unlisted_before=frozenset(row["field"] for row in of.all("UNLISTED_BEFORE")),
        cost=totals["structured_cost"],
        errors=commonest("error", _ERRORS_MAX),
        invalid_attempt_cost=known_sum(row["invalid_cost"] for row in of.all("PROVIDERS")),
    )


def _retrieval(of: Answers) -> RetrievalUse | None:
    row = of.one("RETRIEVALS")
    if not row:
        return None
    versions = [
        IndexUse(
            name=index["name"] or "",
            version=index["version"] or "",
            retrievals=index["n"],
            first_us=index["first_us"],
            last_us=index["last_us"],
        )
        for index in of.all("INDEXES")
    ]
    return RetrievalUse(**row, versions=versions)


def _runtime(of: Answers, totals: Row) -> RuntimeFacts:
    providers, kinds = of.all("PROVIDERS"), of.all("KINDS")
    errors = _errors(of.all("PROVIDER_ERRORS"))
    scores = [row for row in of.all("SCORES") if row["name"] not in questions.NO_QUALITY]
    return RuntimeFacts(
        attempts=sum(row["attempts"] for row in providers),
        attempts_declared=totals["attempts_declared"] or 0,
        timeouts=sum(row["timeouts"] for row in providers),
        retried=totals["retried"],
        retried_recovered=totals["retried_recovered"],
        reached_provider=totals["reached_provider"],
        fallbacks=totals["fallbacks"],
        degraded=totals["degraded"],
        fallback_cost_mean=totals["fallback_cost_mean"],
        primary_cost_mean=totals["primary_cost_mean"],
        fallback_score_mean=_mean(scores, "fallback"),
        primary_score_mean=_mean(scores, "primary"),
        fallback_scores=sum(row["fallback_n"] for row in scores),
        primary_scores=sum(row["primary_n"] for row in scores),
        undelivered_cost=known_sum(row["undelivered"] for row in providers),
        providers=[_provider(row, errors[row["provider"]]) for row in providers],
        kinds=counts(kinds, "kind"),
        cancelled=sum(row["cancelled"] for row in kinds),
        ways={row["way"]: WayUse(row["n"], row["last_us"]) for row in of.all("WAYS")},
    )


def _errors(rows: list[Row]) -> defaultdict[str, dict[str, int]]:
    """Provider → error type → attempts."""
    errors: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for row in rows:
        errors[row["provider"]][row["error_type"]] = row["n"]
    return errors


def _queue(of: Answers, totals: Row, window_ms: float) -> QueueFacts:
    queue, busy = of.one("QUEUE"), of.one("BUSY")
    return QueueFacts(
        waited=totals["waited"],
        waited_in_vain=totals["waited_in_vain"],
        wait_ms_p95=queue.get("p95"),
        depth_mean=totals["wait_ms"] / window_ms,
        depth_peak=queue.get("peak", 0),
        refused=totals["limited"],
        hits=counts(of.all("LIMIT_HITS"), "hit"),
        delayed=totals["delayed"],
        delayed_failed=totals["delayed_failed"],
        busy_peak=busy.get("busy"),
        arrivals_peak=busy.get("arrivals", 0),
    )


def _provider(row: Row, errors: dict[str, int]) -> ProviderFacts:
    worst = row["worst_hour"] or (0, 0)
    return ProviderFacts(
        provider=row["provider"],
        attempts=row["attempts"],
        rate_limited=row["rate_limited"],
        timeouts=row["timeouts"],
        errors=errors,
        worst_hour_attempts=worst[0],
        worst_hour_rate_limited=worst[1],
        headroom_min=row["headroom"],
        usage_reported=row["reported"],
        usage_expected=row["answered"],
    )


def _latency(row: Row) -> LatencyFacts:
    duration = row["duration"] or (None, None, None)
    ttft = row["ttft"] or (None, None, None)
    return LatencyFacts(
        model=row["model"] or "",
        requests=row["n"],
        p50=duration[0],
        p95=duration[1],
        p99=duration[2],
        ttft_n=row["ttft_n"],
        ttft_p50=ttft[0],
        ttft_p95=ttft[1],
        ttft_p99=ttft[2],
    )


def _mean(scores: Rows, side: str) -> float | None:
    n = sum(row[f"{side}_n"] for row in scores)
    return sum((row[f"{side}_mean"] or 0.0) * row[f"{side}_n"] for row in scores) / n if n else None
