"""T7.2, T7.4, T7.5: how the tokens of a request grow, how full the context window is, what caches spare."""

from statistics import median

from pilothouse.domain.facts import CacheFacts, Day, RouteFacts
from pilothouse.domain.finding import Item, Limit, Status
from pilothouse.review import words
from pilothouse.review.evidence import Evidence
from pilothouse.review.result import MIN_N, Check, Outcome, level, limit_of, no_data, worst
from pilothouse.stats.proportions import wilson
from pilothouse.stats.trend import theil_sen

TREND_DAYS = 28
DAYS_LEAST = 14
DAY_US = 86_400_000_000
REPEATED = Limit(warn=0.10, fail=0.25)
FALSE_HITS = Limit(fail=0.01)
JUDGED_LEAST = 50  # hits by meaning, as the checklist asks


def growth(evidence: Evidence, item: Item) -> Outcome:
    """T7.2: the Theil–Sen slope of a day's mean tokens over 4 weeks, per week, as a share of their median.

    A slope whose 95 % interval holds 0 is none. Days with fewer than 30 requests are left out.
    """
    facts = evidence.facts
    if facts is None:
        return no_data("no traffic", 0)
    since = facts.until_us - TREND_DAYS * DAY_US
    days = [day for day in facts.days if day.start_us >= since and day.with_tokens >= MIN_N]
    if len(days) < DAYS_LEAST:
        return no_data(words.plural(len(days), "day"), len(days), f"{DAYS_LEAST} days of {MIN_N} requests needed")
    read, low, high = _weekly(days, [day.input_tokens / day.with_tokens for day in days])
    wrote, wrote_low, wrote_high = _weekly(days, [day.output_tokens / day.with_tokens for day in days])
    limit = limit_of(item)
    status = worst(level(read, limit) if low > 0 else "PASS", level(wrote, limit) if wrote_low > 0 else "PASS")
    value = f"in {words.change(read)}, out {words.change(wrote)}"
    detail = (
        f"a week, by {len(days)} days: in [{words.change(low)}, {words.change(high)}], "
        f"out [{words.change(wrote_low)}, {words.change(wrote_high)}]"
    )
    return Outcome(status, value, max(read, wrote), sum(day.with_tokens for day in days), detail)


def _weekly(days: list[Day], tokens: list[float]) -> tuple[float, float, float]:
    """Slope and interval, per week, as shares of the median day."""
    usual = median(tokens)
    if usual <= 0:
        return 0.0, 0.0, 0.0
    slope, low, high = theil_sen([day.start_us / DAY_US for day in days], tokens)
    return 7 * slope / usual, 7 * low / usual, 7 * high / usual


def context(evidence: Evidence, item: Item) -> Outcome:
    """T7.4: p95 of input tokens ÷ the model's window, the fullest model; documents that a trace was given twice.

    Chunks count alike: spans say which documents were retrieved, not how long they are.
    """
    facts = evidence.facts
    if facts is None:
        return no_data("no traffic", 0)
    used = [use for use in facts.contexts if use.n >= MIN_N]
    if not used:
        n = sum(use.n for use in facts.contexts)
        return no_data(words.plural(n, "answer"), n, f"n < {MIN_N}")
    twice, repeated = _repeated(facts)
    windows = {f"{use.provider}/{use.model}": use for use in used}
    known = {name: use for name, use in windows.items() if evidence.windows.get(name)}
    notes = words.joined(repeated, _system(evidence, facts), _steps(facts))
    if not known:
        name = next(iter(windows))
        if twice != "PASS":
            return Outcome(twice, repeated, None, facts.traces.documents, f"window of {name} unknown")
        fix = f"say how many tokens it holds: `prices.{name}.context_window` in pilothouse.yaml"
        return no_data("window unknown", used[0].n, words.joined(f"of {name}", notes), fix)
    name, use = max(known.items(), key=lambda pair: pair[1].p95 / evidence.windows[pair[0]])
    window = evidence.windows[name]
    full = use.p95 / window
    mean = f"mean {words.share(use.mean / window)} of {words.count(window)} tokens"
    unknown = words.listed("window unknown", [other for other in windows if other not in known])
    of = name if len(windows) > 1 else ""
    status = worst(level(full, limit_of(item)), twice)
    return Outcome(status, f"p95 {words.share(full)}", full, use.n, words.joined(of, mean, notes, unknown))


def _repeated(facts: RouteFacts) -> tuple[Status, str]:
    traces = facts.traces
    if traces.documents < MIN_N:
        return "PASS", ""
    share = traces.documents_repeated / traces.documents
    return level(share, REPEATED), f"{words.share(share)} of {words.count(traces.documents)} chunks twice"


def _system(evidence: Evidence, facts: RouteFacts) -> str:
    """The system prompt's share of the mean input."""
    n = sum(use.n for use in facts.contexts)
    mean = sum(use.mean * use.n for use in facts.contexts) / n if n else 0.0
    if not evidence.system_tokens or mean <= 0:
        return ""
    return f"system prompt about {words.share(min(1.0, evidence.system_tokens / mean))}"


def _steps(facts: RouteFacts) -> str:
    traces = facts.traces
    if traces.steps_mean is None or traces.steps_p95 is None:
        return ""
    return f"{traces.steps_mean:.1f} requests a trace, p95 {traces.steps_p95:.0f}"


def cache_hits(evidence: Evidence, item: Item) -> Outcome:
    """T7.5: hits ÷ requests that asked the cache, and tokens from the provider's cache ÷ input tokens, against the
    4 weeks before; false hits by meaning, as scores named `semantic_hit` say."""
    facts = evidence.facts
    if facts is None:
        return no_data("no traffic", 0)
    if facts.with_tokens + facts.cache.hits < MIN_N:
        n = facts.with_tokens + facts.cache.hits
        return no_data(words.plural(n, "request"), n, f"n < {MIN_N}")
    cache, limit = facts.cache, limit_of(item)
    semantic, judged = _semantic(cache)
    own = _share(cache.hits, cache.asked) if cache.asked >= MIN_N else None
    own_before = _share(cache.hits_before, cache.asked_before) if cache.asked_before >= MIN_N else None
    theirs = _share(cache.cached_tokens, cache.input_tokens)
    theirs_before = _share(cache.cached_tokens_before, cache.input_tokens_before)
    drops = [now - before for now, before in ((own, own_before), (theirs, theirs_before)) if now is not None
             and before is not None]  # fmt: skip
    compared: Status = worst(*(level(drop, limit) for drop in drops)) if drops else "NO_DATA"
    notes = (
        judged,
        "" if own is None or theirs is None else f"{words.share(theirs)} of input from the provider's cache",
        f"{words.points(min(drops))} against 4 weeks" if drops else "no baseline yet",
        _spared(cache),
    )
    if own is not None:
        low, high = wilson(cache.hits, cache.asked)
        value = f"{words.share(own)} hits ({words.share(low)} to {words.share(high)})"
    else:
        value = f"{words.share(theirs)} of input cached" if theirs is not None else "no input"
    n = cache.asked if own is not None else facts.with_tokens
    return Outcome(worst(compared, semantic), value, own if own is not None else theirs, n, words.joined(*notes))


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _spared(cache: CacheFacts) -> str:
    return f"{words.usd(cache.saved)} spared" if cache.saved else ""


def _semantic(cache: CacheFacts) -> tuple[Status, str]:
    """False hits by meaning: more than 1 % of at least 50 that were judged fail. PASS where none was given."""
    if not cache.semantic and not cache.semantic_judged:
        return "PASS", ""
    n = cache.semantic_judged
    if n < JUDGED_LEAST:
        return "NO_DATA", f"{n} of {JUDGED_LEAST} hits by meaning judged (score `semantic_hit`)"
    _, high = wilson(cache.semantic_false, n)
    rate = cache.semantic_false / n
    return level(rate, FALSE_HITS), f"{cache.semantic_false} of {n:,} hits by meaning false (≤ {words.share(high)})"


CHECKS: dict[str, Check] = {"T7.2": growth, "T7.4": context, "T7.5": cache_hits}
