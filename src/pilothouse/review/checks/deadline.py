"""T6.3 and CR.3: every call has a timeout, all of them fit in the deadline, and faults were injected to show it."""

from pilothouse.domain.finding import Item, Status
from pilothouse.domain.policy import Policy
from pilothouse.review import words
from pilothouse.review.evidence import Evidence
from pilothouse.review.result import MIN_N, Check, Outcome, limit_of, no_data, sampled

BACKOFF_MAX_S = 20.0
PRACTISE = "`pilothouse drill provider-outage {route}`: 429, 500, stalls, cut and malformed answers, on a stage"


def waits_s(policy: Policy) -> list[float]:
    """Seconds waited before each try of a model, at the longest: doubling, half more by jitter, 20 s at most."""
    again = range(max(1, policy.retry.attempts) - 1)
    return [0.0, *(min(policy.retry.backoff * 2.0**k, BACKOFF_MAX_S) * 1.5 for k in again)]


def worst_s(policy: Policy) -> tuple[float, float]:
    """Σ (timeout × tries) + back-off: the longest until the last call begins to answer, of one model and of all.

    A call takes the longer of connect and first_token. All: the primary model, one re-ask where policy asks again, and
    each fallback that calls a model; no more calls than `caps.attempts`. Hedges run beside the call that is late.
    """
    call = max(policy.timeout.connect, policy.timeout.first_token)
    tries = waits_s(policy)
    models = 1 + sum(step.model is not None or step.trim is not None for step in policy.fallback)
    waits = [*tries, *([0.0] if "reask" in policy.invalid else []), *(tries * (models - 1))]
    most = max(1, policy.caps.attempts)
    one, every = tries[:most], waits[:most]
    return call * len(one) + sum(one), call * len(every) + sum(every)


def unset_timeouts(policy: Policy) -> list[str]:
    """Names of timeouts that do not limit anything."""
    return [name for name in ("connect", "first_token", "idle", "total") if getattr(policy.timeout, name) <= 0]


def algebra(policy: Policy) -> tuple[Status, float, str]:
    """The deadline algebra: how it comes out, the seconds at worst, and both in words.

    Where one model's tries use up the deadline, no fallback is ever reached: that is not a matter of degree.
    """
    one, every = worst_s(policy)
    total = policy.timeout.total
    status: Status = "PASS" if every <= total else "FAIL" if one > total else "WARN"
    queued = f", after {policy.queue.max_wait:.4g} s in the queue" if policy.queue.max_wait > 0 else ""
    return status, every, f"tries take {every:.4g} s at worst, the deadline is {total:.4g} s{queued}"


def timeouts(evidence: Evidence, item: Item) -> Outcome:
    """T6.3: every hop has a timeout, all tries fit in the total deadline, and attempts rarely time out."""
    policy = evidence.config.manifest.policy
    if unset := unset_timeouts(policy):
        return Outcome("FAIL", f"no timeout: {', '.join(unset)}", grade="C")
    status, seconds, said = algebra(policy)
    if status != "PASS":
        return Outcome(status, f"{seconds:.4g} s > {policy.timeout.total:.4g} s", seconds, None, said, "C")
    n = evidence.facts.runtime.attempts if evidence.facts else 0
    if evidence.facts is None or n < MIN_N:
        return no_data(words.plural(n, "attempt") if n else "no traffic", n, said)
    judged = sampled(min(n, evidence.facts.runtime.timeouts), n, limit_of(item))
    detail = words.joined(said, judged.detail)
    return Outcome(judged.status, judged.at_most, judged.bound, n, detail)


def faults(evidence: Evidence, _item: Item) -> Outcome:
    """CR.3: the deadline algebra holds, and since the release was made injected faults ended as they should."""
    policy = evidence.config.manifest.policy
    if unset := unset_timeouts(policy):
        return Outcome("FAIL", f"no timeout: {', '.join(unset)}", grade="C")
    status, seconds, said = algebra(policy)
    if status == "FAIL":
        return Outcome("FAIL", f"{seconds:.4g} s > {policy.timeout.total:.4g} s", seconds, None, said, "C")
    practice = PRACTISE.format(route=evidence.route)
    done = [drill for env in dict.fromkeys((evidence.env, "staging")) if (drill := evidence.drill("faults", env))]
    drill = max(done, key=lambda one: one.ts_us, default=None)
    if drill is None:
        return no_data("never exercised", None, f"no fault was staged; {said}", practice)
    age = f"{words.duration((evidence.now_us - drill.ts_us) / 1_000)} ago"
    if not drill.ok:
        return Outcome("FAIL", f"a fault mishandled {age}", None, None, said, "D", drill.ts_us)
    current = evidence.release.current if evidence.release else None
    if current is not None and drill.ts_us < current.created_us:
        older = f"before release {current.number}"
        return Outcome("STALE", f"exercised {older}", None, None, said, "D", drill.ts_us, practice)
    return Outcome(status, f"exercised {age}", None, None, said, "D", drill.ts_us)


CHECKS: dict[str, Check] = {"T6.3": timeouts, "CR.3": faults}
