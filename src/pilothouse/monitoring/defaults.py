"""The rules that a route has before anybody writes one: thresholds from the checklist, owner from the route.

They tell the owner and touch nothing, unless the route says otherwise: `checks: {T4.1: {fallback: rollback}}` makes
the default rule of T4.1 roll back. A rule of the app's own for the same item replaces the default.
"""

from collections.abc import Iterable
from typing import Literal

import msgspec

from pilothouse.config.app import AppConfig
from pilothouse.config.route import CheckOverride, RouteConfig
from pilothouse.domain.alert import Action, Rule

NOTIFY = Action(kind="notify")
MIN_N = 30  # as everywhere in the checklist: fewer is no data
RUNBOOK = "pilothouse rollback {route}"
# A budget is the app's to set: no default can watch these, and T9.7 says so until the app has a rule for them.
NEED_A_BUDGET = ("T7.1", "T9.6")


class Default(msgspec.Struct, frozen=True, kw_only=True):
    """A rule for every route; `structured`: only where the route has a schema."""

    item: str
    title: str
    metric: str
    op: Literal[">", "<"]
    threshold: float
    window_s: int
    for_s: int = 0
    structured: bool = False
    min_n: int = MIN_N


DEFAULTS: tuple[Default, ...] = (
    Default(item="T2.3", title="token counts not reported", metric="usage.reported", op="<",
            threshold=0.90, window_s=3_600),
    Default(item="T2.5", title="records without a redaction status", metric="redaction.coverage", op="<",
            threshold=1.0, window_s=3_600),
    Default(item="T4.1", title="outputs that fail their schema at first", metric="schema.valid_first", op="<",
            threshold=0.95, window_s=600, structured=True),
    Default(item="T4.2", title="outputs that stay invalid", metric="schema.invalid", op=">",
            threshold=0.02, window_s=600, structured=True),
    Default(item="T6.1", title="rate-limited by the provider", metric="rate_limit.rate", op=">",
            threshold=0.05, window_s=3_600),
    Default(item="T6.2", title="retries amplify the load", metric="attempts.per_request", op=">",
            threshold=1.3, window_s=600),
    Default(item="T6.3", title="timeouts", metric="timeout.rate", op=">",
            threshold=0.05, window_s=600),
    Default(item="T6.4", title="served by a fallback", metric="fallback.rate", op=">",
            threshold=0.10, window_s=600),
    Default(item="T9.2", title="errors", metric="error.rate", op=">",
            threshold=0.05, window_s=600, for_s=60),
)  # fmt: skip

DEADLINE_SHARE = 0.5  # p95 beyond half of the total timeout: T9.1's objective where the route names none
# Items whose limit in `checks` has the unit and the sense of the rule's metric.
_SAME_UNIT = frozenset(("T4.1", "T6.1", "T6.3", "T6.4"))


def expected(route: RouteConfig) -> tuple[str, ...]:
    """Checklist ids that a rule should watch on this route."""
    items = {one.item for one in DEFAULTS if route.manifest.schema is not None or not one.structured}
    return tuple(sorted(items | {"T9.1", *NEED_A_BUDGET}))


def of_route(route: RouteConfig, env: str = "prod") -> tuple[Rule, ...]:
    """The default rules of a route; none where nobody owns it: a rule cannot exist without an owner."""
    if not route.owner:
        return ()
    made = [_rule(route, env, one) for one in DEFAULTS if route.manifest.schema is not None or not one.structured]
    return (*made, _rule(route, env, _latency(route)))


def _latency(route: RouteConfig) -> Default:
    check = route.checks.get("T9.1")
    objective = check.warn if check is not None and check.warn is not None else None
    threshold = objective or route.manifest.policy.timeout.total * 1_000 * DEADLINE_SHARE
    return Default(
        item="T9.1", title="slow", metric="latency.p95", op=">", threshold=threshold, window_s=600, for_s=300
    )


def _rule(route: RouteConfig, env: str, one: Default) -> Rule:
    check = route.checks.get(one.item, CheckOverride())
    own = check.fail if one.item in _SAME_UNIT else None
    return Rule(
        name=f"{route.name} {one.item} {one.title}",
        item=one.item,
        metric=one.metric,
        route=route.name,
        env=env,
        op=one.op,
        threshold=one.threshold if own is None else own,
        window_s=one.window_s,
        for_s=one.for_s,
        min_n=one.min_n,
        owner=route.owner,
        actions=_actions(check.fallback),
        runbook=RUNBOOK.format(route=route.name),
    )


def _actions(fallback: str | None) -> tuple[Action, ...]:
    """`rollback`, `disable_route` or `pin_model provider/model` are done before the owner is told."""
    kind, _, argument = (fallback or "").partition(" ")
    match kind:
        case "rollback" | "disable_route":
            return (Action(kind=kind), NOTIFY)
        case "pin_model" if argument.strip():
            return (Action(kind=kind, argument=argument.strip()), NOTIFY)
        case _:
            return (NOTIFY,)


def effective(config: AppConfig, saved: Iterable[Rule] = ()) -> tuple[Rule, ...]:
    """Every rule in force: the saved ones, the app's own, and the defaults for what neither watches.

    A saved rule replaces one of the app's with its name.
    """
    own = {rule.name: rule for rule in config.rules} | {rule.name: rule for rule in saved}
    covered = {(rule.route, rule.env, rule.item) for rule in own.values() if rule.item}
    made = [rule for route in config.routes.values() for rule in of_route(route)]
    rest = [rule for rule in made if (rule.route, rule.env, rule.item) not in covered and rule.name not in own]
    return (*own.values(), *rest)
