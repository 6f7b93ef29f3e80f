"""`policy:` of a route → its Policy."""

from typing import Any, get_args

from pilothouse.config.limits import route_limits
from pilothouse.config.quantities import number, seconds, share, usd
from pilothouse.config.section import Section, one_of, text, whole, words
from pilothouse.domain.model_ref import ModelRef
from pilothouse.domain.policy import (
    Balance,
    Breaker,
    Cache,
    Caps,
    Degraded,
    Deployment,
    ErrorClass,
    Fallback,
    Guard,
    Hedge,
    Policy,
    Queue,
    Retry,
    Timeouts,
    ToolRules,
)

ERROR_CLASSES: tuple[str, ...] = get_args(ErrorClass)
INVALID_STEPS = ("repair", "reask", "retry", "fallback", "error")
LOG_MODES = ("full", "redacted", "metadata", "off")
_WAYS = ("model", "static", "trim", "cached", "delayed", "handoff")


def read_policy(section: Section) -> Policy:
    """The route's policy; what it does not say has its default."""
    policy = section.section("policy")
    if policy is None:
        return Policy()
    base = Policy()
    result = Policy(
        timeout=_timeouts(policy),
        retry=_retry(policy),
        fallback=_fallbacks(policy),
        invalid=policy.take("invalid", words(*INVALID_STEPS), base.invalid),
        log=log_mode(policy),
        caps=_caps(policy),
        breaker=_breaker(policy),
        hedge=_hedge(policy),
        balance=_balance(policy),
        cut=policy.take("cut", one_of("error", "restart", "continue"), base.cut),
        limits=route_limits(policy),
        queue=_queue(policy),
        guards=_guards(policy),
        cache=_cache(policy),
        tools=_tools(policy),
        webhooks=policy.take("webhooks", words(), base.webhooks),
    )
    policy.close()
    return result


def _timeouts(policy: Section) -> Timeouts:
    section = policy.section("timeout")
    base = Timeouts()
    if section is None:
        return base
    result = Timeouts(
        connect=section.take("connect", seconds, base.connect),
        first_token=section.take("first_token", seconds, base.first_token),
        idle=section.take("idle", seconds, base.idle),
        total=section.take("total", seconds, base.total),
    )
    section.close()
    return result


def _retry(policy: Section) -> Retry:
    section = policy.section("retry")
    base = Retry()
    if section is None:
        return base
    result = Retry(
        attempts=section.take("attempts", whole, base.attempts),
        on=section.take("on", words(*ERROR_CLASSES), base.on),
        backoff=section.take("backoff", seconds, base.backoff),
        budget=section.take("budget", share, base.budget),
    )
    section.close()
    if result.attempts < 1:
        raise section.error("attempts: at least 1, the first call included")
    return result


def _fallbacks(policy: Section) -> tuple[Fallback, ...]:
    steps: list[Fallback] = []
    for item in policy.items("fallback"):
        if not isinstance(item, Section):
            raise policy.error("each fallback holds one of " + ", ".join(_WAYS), policy.node("fallback"))
        steps.append(_fallback(item))
    return tuple(steps)


def _fallback(item: Section) -> Fallback:
    given = [way for way in _WAYS if way in item]
    if len(given) != 1:
        raise item.error("a fallback holds exactly one of " + ", ".join(_WAYS))
    model = item.maybe("model", text)
    usual: Degraded = "fallback" if model else ("escalated" if given[0] == "handoff" else "degraded")
    on: tuple[ErrorClass, ...] = ("context_window",) if given[0] == "trim" else ("error",)
    step = Fallback(
        model=ModelRef.parse(model) if model else None,
        static=item.maybe("static", text),
        trim=item.maybe("trim", whole),
        cached=item.maybe("cached", seconds),
        delayed=item.maybe("delayed", seconds),
        handoff=item.maybe("handoff", _webhook),
        on=item.take("on", words(*ERROR_CLASSES), on),
        outcome=item.take("outcome", one_of("fallback", "degraded", "escalated"), usual),
    )
    item.close()
    return step


def _webhook(value: Any) -> str:
    url = text(value)
    if not url.startswith(("env://", "file://", "http://", "https://")):
        raise ValueError("a webhook is a URL, or a reference to one: env://NAME or file://PATH")
    return url


def log_mode(policy: Section) -> Any:
    """`log: {mode: …}` of a route's policy, or of the app's `spans`."""
    section = policy.section("log")
    if section is None:
        return "redacted"
    mode = section.take("mode", one_of(*LOG_MODES), "redacted")
    section.close()
    return mode


def _caps(policy: Section) -> Caps:
    section = policy.section("caps")
    base = Caps()
    if section is None:
        return base
    result = Caps(attempts=section.take("attempts", whole, base.attempts), cost=section.maybe("cost", usd))
    section.close()
    return result


def _breaker(policy: Section) -> Breaker:
    section = policy.section("breaker")
    base = Breaker()
    if section is None:
        return base
    result = Breaker(
        failures=section.take("failures", whole, base.failures),
        share=section.take("share", share, base.share),
        window=section.take("window", seconds, base.window),
        cooldown=section.take("cooldown", seconds, base.cooldown),
    )
    section.close()
    return result


def _hedge(policy: Section) -> Hedge | None:
    section = policy.section("hedge")
    if section is None:
        return None
    base = Hedge()
    model = section.maybe("model", text)
    result = Hedge(
        after=section.maybe("after", seconds),
        quantile=section.take("quantile", share, base.quantile),
        share=section.take("share", share, base.share),
        model=ModelRef.parse(model) if model else None,
    )
    section.close()
    return result


def _balance(policy: Section) -> Balance:
    section = policy.section("balance")
    if section is None:
        return Balance()
    over = []
    for item in section.items("over"):
        if not isinstance(item, Section):
            over.append(Deployment(ModelRef.parse(text(item[0]))))
            continue
        over.append(Deployment(ModelRef.parse(item.need("model", text)), item.take("weight", number, 1.0)))
        item.close()
    result = Balance(over=tuple(over), by=section.take("by", one_of("weight", "load"), "weight"))
    section.close()
    if sum(one.weight for one in over) <= 0 or any(one.weight < 0 for one in over):
        raise section.error("over: at least one deployment has a weight, and none a negative one")
    return result


def _queue(policy: Section) -> Queue:
    section = policy.section("queue")
    base = Queue()
    if section is None:
        return base
    result = Queue(
        max_wait=section.take("max_wait", seconds, base.max_wait), size=section.take("size", whole, base.size)
    )
    section.close()
    return result


def _guards(policy: Section) -> tuple[Guard, ...]:
    found = []
    for item in policy.items("guards"):
        if not isinstance(item, Section):
            found.append(Guard(use=text(item[0])))
            continue
        base = Guard(use="")
        found.append(
            Guard(
                use=item.need("use", text),
                at=item.take("at", words("input", "output"), base.at),
                action=item.take("action", one_of("block", "mask", "flag"), base.action),
                fail=item.take("fail", one_of("closed", "open"), base.fail),
                options=item.take("options", _options, {}),
            )
        )
        item.close()
    return tuple(found)


def _options(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError("must hold keys and values")
    return value


def _cache(policy: Section) -> Cache | None:
    section = policy.section("cache")
    if section is None:
        return None
    result = Cache(
        ttl=section.need("ttl", seconds),
        scope=section.take("scope", one_of("key", "session", "user", "segment", "route"), "key"),
        semantic=section.maybe("semantic", share),
    )
    section.close()
    return result


def _tools(policy: Section) -> ToolRules:
    section = policy.section("tools")
    base = ToolRules()
    if section is None:
        return base
    result = ToolRules(
        check=section.take("check", bool, base.check), repeats=section.take("repeats", whole, base.repeats)
    )
    section.close()
    return result
