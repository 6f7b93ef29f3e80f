"""T2: what every request leaves behind. Coverages count all requests, so their shares are exact."""

from pilothouse.domain.facts import RouteFacts
from pilothouse.domain.finding import Item, Limit, Status
from pilothouse.review import words
from pilothouse.review.evidence import Evidence
from pilothouse.review.result import MIN_N, Check, Outcome, level, limit_of, no_data, sampled, worst
from pilothouse.stats.proportions import wilson

ORPHANS = Limit(warn=0.005, fail=0.02)
SCANNED_US = 2 * 86_400_000_000  # twice the daily cadence
MISSED_US = 14 * 86_400_000_000  # twice the weekly cadence
OUTCOMES = frozenset(("success", "fallback", "degraded", "escalated", "refused", "failed"))


def few_requests(facts: RouteFacts | None) -> Outcome:
    """NO_DATA for want of traffic."""
    n = 0 if facts is None else facts.requests
    return no_data(words.plural(n, "request") if n else "no traffic", n, f"n < {MIN_N}" if n else "")


def identified(evidence: Evidence, item: Item) -> Outcome:
    """T2.1: request id and trace id on every request, no id twice, no span without its parent."""
    facts = evidence.facts
    if facts is None or facts.requests < MIN_N:
        return few_requests(facts)
    traces, n = facts.traces, facts.requests
    rate = max(0, traces.identified - traces.duplicate_ids) / n
    withheld = evidence.losses.get("withheld", 0)
    orphans = traces.orphan_spans / traces.spans if traces.spans else 0.0
    notes = [
        f"{words.share(orphans)} of {words.count(traces.spans)} spans without their parent"
        if traces.orphan_spans
        else "",
        f"{words.plural(traces.duplicate_ids, 'id')} twice" if traces.duplicate_ids else "",
        _losses(evidence),
        f"{words.plural(withheld, 'line')} left out by log mode off" if withheld else "",
    ]
    status = worst(level(rate, limit_of(item)), level(orphans, ORPHANS), "WARN" if _losses(evidence) else "PASS")
    return Outcome(status, words.share(rate), rate, n, words.joined(*notes))


def _losses(evidence: Evidence) -> str:
    lost = {what: n for what, n in evidence.losses.items() if n and what in ("record", "span")}
    return ", ".join(f"{words.plural(n, what)} lost" for what, n in sorted(lost.items()))


def accounted(evidence: Evidence, item: Item) -> Outcome:
    """T2.2: traces of which the stages explain at least 80 % of the time."""
    if evidence.facts is None:
        return no_data("no traffic", 0)
    traces = evidence.facts.traces
    if traces.traces < MIN_N:
        return no_data(words.plural(traces.traces, "trace"), traces.traces, f"n < {MIN_N}")
    rate = traces.accounted / traces.traces
    gap = traces.unaccounted_ms_p50
    detail = f"no stage explains {words.duration(gap)} of the median trace" if gap and rate < 1.0 else ""
    return Outcome(level(rate, limit_of(item)), words.share(rate), rate, traces.traces, detail)


def usage_reported(evidence: Evidence, item: Item) -> Outcome:
    """T2.3: answered attempts with the provider's own token counts."""
    if evidence.facts is None:
        return no_data("no traffic", 0)
    providers = evidence.facts.runtime.providers
    n = sum(use.usage_expected for use in providers)
    if n < MIN_N:
        return no_data(words.plural(n, "attempt"), n, f"n < {MIN_N}")
    rate = sum(use.usage_reported for use in providers) / n
    short = [f"{use.provider}: {use.usage_expected - use.usage_reported:,}" for use in providers
             if use.usage_reported < use.usage_expected]  # fmt: skip
    return Outcome(
        level(rate, limit_of(item)), words.share(rate), rate, n, f"without: {', '.join(short)}" if short else ""
    )


def errors_typed(evidence: Evidence, item: Item) -> Outcome:
    """T2.4: failures that say what failed, and attempts that are all on record."""
    facts = evidence.facts
    if facts is None or facts.requests < MIN_N:
        return few_requests(facts)
    limit = limit_of(item)
    typed = facts.failures_typed / facts.failures if facts.failures else 1.0
    runtime = facts.runtime
    kept = min(runtime.attempts, runtime.attempts_declared) / max(runtime.attempts, runtime.attempts_declared, 1)
    kept = 1.0 if runtime.attempts == runtime.attempts_declared else kept
    value = f"{words.share(typed)} of {facts.failures:,}" if facts.failures else "no failures"
    detail = "" if kept == 1.0 else f"{runtime.attempts:,} attempts on record, {runtime.attempts_declared:,} declared"
    return Outcome(worst(level(typed, limit), level(kept, limit)), value, typed, facts.requests, detail)


def redacted(evidence: Evidence, item: Item) -> Outcome:
    """T2.5: every record says what redaction did, and a second scan of stored rows finds nothing more."""
    facts = evidence.facts
    if facts is None or facts.requests < MIN_N:
        return few_requests(facts)
    redaction = facts.redaction
    covered = sum(redaction.by_status.values()) - redaction.skipped_without_reason
    gap: Status = "WARN" if covered < facts.requests else "PASS"
    unreported = f"{facts.requests - covered:,} of {facts.requests:,} records do not say" if gap == "WARN" else ""
    sample = evidence.security.leaks if evidence.security else None
    if sample is None or sample.rows == 0:
        if gap == "WARN":
            return Outcome("WARN", words.share(covered / facts.requests), None, facts.requests, unreported)
        return no_data("rows not scanned", facts.requests)
    judged = sampled(sample.leaks, sample.rows, limit_of(item))
    secret: Status = "FAIL" if sample.secrets else "PASS"
    late = evidence.now_us - (sample.sampled_us or evidence.now_us) > SCANNED_US
    status = worst(judged.status, "STALE" if late else "PASS", gap, secret)
    low, high = wilson(sample.leaks, sample.rows)
    found = ", ".join(f"{name}: {n:,}" for name, n in sorted(sample.classes.items()))
    days = words.duration((evidence.now_us - sample.sampled_us) / 1_000)
    by = f"scanned by {sample.scanner}" if sample.scanner else ""
    detail = words.joined(found, unreported, judged.detail, f"scanned {days} ago" if late else "", by)
    rate = f"{words.share(judged.rate)} [{words.share(low)}, {words.share(high)}]"
    value = f"{sample.leaks:,} of {words.plural(sample.rows, 'row')}: {rate}"
    measured = sample.sampled_us or None
    return Outcome(status, value, judged.bound, sample.rows, detail, measured_us=measured, interval=(low, high))


def outcome_known(evidence: Evidence, item: Item) -> Outcome:
    """T2.6: requests with one of the six outcomes."""
    facts = evidence.facts
    if facts is None or facts.requests < MIN_N:
        return few_requests(facts)
    known = sum(n for name, n in facts.outcomes.items() if name in OUTCOMES)
    rate = known / facts.requests
    return Outcome(level(rate, limit_of(item)), words.share(rate), rate, facts.requests)


def exportable(evidence: Evidence, item: Item) -> Outcome:
    """T2.7: the newest export drill: traces went out and came back as they were, in this fortnight."""
    del item
    found = [drill for drill in evidence.drills if drill.kind == "export" and drill.env == evidence.env]
    if not found:
        return no_data("no export drill yet", 0)
    newest = max(found, key=lambda drill: drill.ts_us)
    traces = int(newest.detail.get("traces") or 0)
    lost = int(newest.detail.get("lost") or 0) + int(newest.detail.get("otlp_lost") or 0)
    missed = evidence.now_us - newest.ts_us > MISSED_US
    status: Status = "FAIL" if missed else "PASS" if newest.ok else "WARN"
    detail = words.joined(f"{lost:,} rows, spans or attributes lost" if lost else "", "job missed" if missed else "")
    return Outcome(status, words.plural(traces, "trace"), float(lost), traces, detail, measured_us=newest.ts_us)


CHECKS: dict[str, Check] = {
    "T2.1": identified,
    "T2.2": accounted,
    "T2.3": usage_reported,
    "T2.4": errors_typed,
    "T2.5": redacted,
    "T2.6": outcome_known,
    "T2.7": exportable,
}
