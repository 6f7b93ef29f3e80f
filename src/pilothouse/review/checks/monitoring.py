"""T9: latency and errors against their objectives, fallbacks against before, and the rules themselves."""

from collections.abc import Callable

from pilothouse.domain.facts import BurnWindow, Day, LatencyFacts
from pilothouse.domain.finding import STATUS_ORDER, Item, Limit, Status
from pilothouse.review import words
from pilothouse.review.evidence import Evidence
from pilothouse.review.result import MIN_N, Check, Outcome, level, limit_of, no_data, sampled, worst
from pilothouse.stats.histogram import quantile
from pilothouse.store.telemetry.schema import HISTOGRAM_MS

LATENCY_BUDGET = 0.05  # of requests may be slower than the objective
ERROR_BUDGET = 0.01
# RECIPES 2.1, Google's SRE workbook: (long window, short window, burn rate, at least so many bad), s.
PAGES = ((3_600, 300, 14.4), (21_600, 1_800, 6.0))
TICKET = (259_200, 21_600, 1.0)
MIN_BAD = 5  # of the long window: few requests burn nothing
RATIO_FLOORS = Limit(warn=0.02, fail=0.05)
HEARTBEAT_LATE_MS = 120_000.0
ACK_LATE_S = 900.0
ACTIONABLE = Limit(warn=0.50, worse="below")
ACTIONABLE_MIN_N = 5

Bad = Callable[[BurnWindow], int]


def latency(evidence: Evidence, item: Item) -> Outcome:
    """T9.1: 95 % of requests within the objective: `checks.T9.1.warn`, else half of the route's total deadline."""
    facts = evidence.facts
    if facts is None or facts.requests < MIN_N:
        return _few(facts.requests if facts else 0)
    limit = limit_of(item)
    target = limit.warn if limit.warn is not None else evidence.config.manifest.policy.timeout.total * 500.0
    slow = max(facts.latency, key=lambda use: use.p95 or 0.0, default=None)
    measured = slow.p95 if slow is not None else quantile(merged(facts.burn), HISTOGRAM_MS, 0.95)
    if measured is None:
        return no_data("no latency known", facts.requests)
    status, burn = burned(facts.burn, lambda window: slower(window, target), LATENCY_BUDGET)
    beyond = level(measured, Limit(fail=limit.fail))
    objective = f"objective: 95 % within {words.duration(target)}"
    detail = words.joined(objective, burn, _percentiles(slow))
    return Outcome(worst(status, beyond), f"p95 {words.duration(measured)}", measured, facts.requests, detail)


def _percentiles(use: LatencyFacts | None) -> str:
    """The other percentiles of the slowest model, in words."""
    if use is None:
        return ""
    told = {"p50": use.p50, "p99": use.p99, "first token p95": use.ttft_p95}
    return ", ".join(f"{name} {words.duration(ms)}" for name, ms in told.items() if ms is not None)


def merged(windows: list[BurnWindow]) -> list[int]:
    """The histogram of the longest window: it holds the others."""
    longest = max(windows, key=lambda window: window.seconds, default=None)
    return longest.duration_hist if longest is not None else [0] * len(HISTOGRAM_MS)


def slower(window: BurnWindow, target_ms: float) -> int:
    """Requests surely slower than the objective: those in buckets that begin at or above it."""
    starts = (0.0, *HISTOGRAM_MS)
    return sum(count for start, count in zip(starts, window.duration_hist, strict=False) if start >= target_ms)


def errors(evidence: Evidence, item: Item) -> Outcome:
    """T9.2: failed requests against an error budget of `checks.T9.2.warn`, 1 % where nothing is said."""
    facts = evidence.facts
    if facts is None or facts.requests < MIN_N:
        return _few(facts.requests if facts else 0)
    limit = limit_of(item)
    budget = limit.warn or ERROR_BUDGET
    status, burn = burned(facts.burn, lambda window: window.failed, budget)
    rate = facts.failures / facts.requests
    if limit.fail is not None and rate > limit.fail:
        status = "FAIL"
    ranked = sorted(facts.errors.items(), key=lambda pair: (-pair[1], pair[0]))
    types = ", ".join(f"{name}: {n:,}" for name, n in ranked[:3])
    detail = words.joined(f"budget {words.share(budget)}", burn, types)
    return Outcome(status, words.share(rate), rate, facts.requests, detail)


def burned(windows: list[BurnWindow], bad: Bad, budget: float) -> tuple[Status, str]:
    """How fast the error budget burns: FAIL where it would page, WARN where it would be a ticket.

    burn = bad / total / budget; both the long and the short window must burn, so that what is over does not page.
    """
    by_seconds = {window.seconds: window for window in windows}

    def rate(seconds: int) -> float:
        window = by_seconds.get(seconds)
        return bad(window) / window.total / budget if window and window.total else 0.0

    def fires(long: int, short: int, factor: float) -> bool:
        window = by_seconds.get(long)
        enough = window is not None and bad(window) >= MIN_BAD
        return enough and rate(long) > factor and rate(short) > factor

    fastest = max((rate(seconds) for seconds in by_seconds), default=0.0)
    text = f"burns {fastest:.1f}× at worst" if fastest >= 0.05 else ""
    if any(fires(*page) for page in PAGES):
        return "FAIL", text
    return ("WARN" if fires(*TICKET) else "PASS"), text


def _few(n: int) -> Outcome:
    return no_data(words.plural(n, "request") if n else "no traffic", n, f"n < {MIN_N}" if n else "")


def fallback_trend(evidence: Evidence, item: Item) -> Outcome:
    """T9.4: the share of requests served by a fallback, against the 4 weeks before; small shares never alarm."""
    facts = evidence.facts
    if facts is None or facts.requests < MIN_N:
        return _few(facts.requests if facts else 0)
    now = sampled(min(facts.requests, facts.runtime.fallbacks), facts.requests, RATIO_FLOORS)
    if facts.runtime.fallbacks == 0 or now.status == "PASS":
        return Outcome("PASS", now.at_most, now.rate, facts.requests)
    usual = _usual(facts.days, facts.since_us)
    if usual is None:
        return no_data("no baseline yet", facts.requests, f"{words.share(now.rate)} now")
    detail = f"{words.share(usual)} in the 4 weeks before"
    if usual == 0.0:
        return Outcome(now.status, f"{words.share(now.rate)}, none before", None, facts.requests, detail)
    ratio = now.rate / usual
    # Both must be high: the ratio, and the level that makes it matter.
    status = max(level(ratio, limit_of(item)), now.status, key=lambda one: STATUS_ORDER[one])
    return Outcome(status, f"{ratio:.1f}×", ratio, facts.requests, detail)


def _usual(days: list[Day], since_us: int) -> float | None:
    """The share of fallbacks in the days before the window; None where there were too few requests."""
    before = [day for day in days if day.start_us < since_us]
    n = sum(day.requests for day in before)
    return sum(day.fallbacks for day in before) / n if n >= MIN_N else None


def rules(evidence: Evidence, item: Item) -> Outcome:
    """T9.7: rules that somebody answers for, that do something, and an evaluator that is alive."""
    alerts = evidence.alerts
    if alerts is None:
        return no_data("rules not read")
    if alerts.rules == 0:
        return Outcome("FAIL", "no rule", 0.0, 0, "nothing watches this route")
    if alerts.heartbeat_age_s is None:
        return no_data("evaluator never ran", alerts.rules, fix="start it: `pilothouse up`")
    heartbeat_ms = alerts.heartbeat_age_s * 1_000.0
    limit = limit_of(item)
    beats = level(heartbeat_ms, limit)
    unowned = [*alerts.unowned, *alerts.without_action]
    slow = alerts.median_ack_s is not None and alerts.median_ack_s > ACK_LATE_S
    worth = sampled_or_pass(alerts.actionable, alerts.answered)
    problems = [
        words.listed("without owner or action", unowned),
        f"evaluator silent for {words.duration(heartbeat_ms)}" if beats != "PASS" else "",
        words.listed("without runbook", alerts.without_runbook),
        f"median answer {words.duration((alerts.median_ack_s or 0) * 1_000)}" if slow else "",
        f"{alerts.actionable} of {alerts.answered} alerts were actionable" if worth != "PASS" else "",
        words.listed("failed actions", alerts.failed_actions),
        words.listed("no rule for", alerts.unwatched_items),
    ]
    soft = alerts.without_runbook or slow or alerts.failed_actions or alerts.unwatched_items
    status = worst(beats, worth, "FAIL" if unowned else "PASS", "WARN" if soft else "PASS")
    whole = alerts.rules - len(set(unowned))
    value = f"{whole} of {words.plural(alerts.rules, 'rule')}"
    return Outcome(status, value, float(len(unowned)), alerts.rules, words.joined(*problems))


def sampled_or_pass(actionable: int, answered: int) -> Status:
    """WARN where most alerts that people judged were not worth it; too few judged say nothing."""
    return level(actionable / answered, ACTIONABLE) if answered >= ACTIONABLE_MIN_N else "PASS"


CHECKS: dict[str, Check] = {"T9.1": latency, "T9.2": errors, "T9.4": fallback_trend, "T9.7": rules}
