"""What a rule must have before it can be saved: an owner who exists, a threshold, an action, a metric that is known."""

import math
import re
from collections.abc import Collection, Mapping
from difflib import get_close_matches

from pilothouse.config.app import Person
from pilothouse.domain.alert import Action, Rule
from pilothouse.domain.errors import Refused
from pilothouse.domain.model_ref import ModelRef

# What of a metric query a rule may narrow itself to, and how its value is written.
LABELS: Mapping[str, str] = {"model": r".+", "release": r"\d+", "canary": r"true|false"}


def validate(rule: Rule, people: Mapping[str, Person], metric_names: Collection[str]) -> None:
    """Raises Refused, naming the rule and what to add, where nobody would answer or nothing would be done."""
    _named(rule)
    if not rule.owner:
        raise _refused(rule, "has no owner", f"owner: one of {_known(people)}")
    if rule.owner not in people:
        raise _refused(rule, f"has an owner who is not in `people`: {rule.owner!r}", f"people: {_known(people)}")
    if rule.metric not in metric_names:
        near = get_close_matches(rule.metric, sorted(metric_names), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"metrics: {_known(metric_names)}"
        raise _refused(rule, f"watches a metric that does not exist: {rule.metric!r}", hint)
    if not math.isfinite(rule.threshold):
        raise _refused(rule, "has no threshold", "threshold: a number in the metric's unit")
    if not rule.actions:
        raise _refused(rule, "has no action", "actions: [rollback], [pin_model], [disable_route] or [notify]")
    for action in rule.actions:
        _executable(rule, action)
    _timed(rule)
    for label, value in rule.labels.items():
        if not re.fullmatch(LABELS.get(label, "(?!)"), value):
            hint = "labels: model, release (a number), canary (true or false)"
            raise _refused(rule, f"is narrowed by {label}={value!r}", hint)


def _named(rule: Rule) -> None:
    for name, value in (("name", rule.name), ("route", rule.route), ("metric", rule.metric)):
        if not value.strip():
            raise _refused(rule, f"has no {name}", f"give it `{name}:`")


def _executable(rule: Rule, action: Action) -> None:
    argument = action.argument
    if action.kind == "pin_model":
        model = ModelRef.parse(argument)
        if not model.provider or not model.name:
            raise _refused(rule, "pins no model", "pin_model: provider/model")
    elif action.kind == "rollback" and argument and not argument.isdecimal():
        raise _refused(rule, f"rolls back to {argument!r}", "rollback: a release number, or nothing for the one before")
    elif action.kind == "notify" and argument and "://" not in argument:
        raise _refused(rule, f"notifies {argument!r}", "notify: a URL, or nothing for the owner's own channels")


def _timed(rule: Rule) -> None:
    if rule.window_s <= 0:
        raise _refused(rule, "looks at no time", "window: 5m")
    if rule.for_s < 0 or rule.keep_firing_s < 0:
        raise _refused(rule, "has a negative duration", "for: 0s or more")
    if rule.min_n < 1:
        raise _refused(rule, "judges without an observation", "min_n: 1 or more, 20 is usual")


def _known(names: Collection[str]) -> str:
    return ", ".join(sorted(names)) or "nobody yet"


def _refused(rule: Rule, what: str, hint: str) -> Refused:
    return Refused(f"the rule {rule.name!r} {what}", where=f"route {rule.route}" if rule.route else "", hint=hint)
