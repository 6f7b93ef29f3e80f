"""T4: does structured output meet its schema, what does mending it take, and what becomes of what cannot be mended."""

from pilothouse.domain.facts import SchemaFacts
from pilothouse.domain.finding import Item, Limit, Status
from pilothouse.domain.policy import Policy
from pilothouse.review import words
from pilothouse.review.evidence import Evidence
from pilothouse.review.result import MIN_N, Check, Outcome, limit_of, no_data, not_applicable, sampled, worst

STEPS_ON_INVALID = ("error", "fallback")  # the ends of `policy.invalid` that hand nothing invalid on
FINAL_INVALID = Limit(warn=0.005, fail=0.02)
DRILL_DAYS = 30
PRACTISE = "`pilothouse drill provider-outage {route}`"


def _structured(evidence: Evidence) -> SchemaFacts | Outcome:
    """What is known of structured output, or why T4 cannot be judged."""
    if not evidence.structured:
        return not_applicable("no schema")
    if evidence.facts is None:
        return no_data("no traffic", 0)
    schema = evidence.facts.schema
    n = schema.structured
    return no_data(words.plural(n, "structured request"), n, f"n < {MIN_N}") if n < MIN_N else schema


def valid_first(evidence: Evidence, item: Item) -> Outcome:
    """T4.1: outputs that met their schema as the model wrote them."""
    schema = _structured(evidence)
    if isinstance(schema, Outcome):
        return schema
    judged = sampled(schema.valid_first, schema.structured, limit_of(item))
    value = f"{words.share(judged.rate)} (≥ {words.share(judged.bound)})"
    why = max(schema.errors, key=lambda error: schema.errors[error], default="")
    detail = words.joined(why, judged.detail)
    return Outcome(judged.status, value, judged.bound, schema.structured, detail)


def mended(evidence: Evidence, item: Item) -> Outcome:
    """T4.2: (repaired ∪ asked again) ÷ structured; invalid in the end ÷ structured; what the invalid outputs cost.

    The cost is of attempts whose output was thrown away as invalid, as a share of all that these requests cost.
    """
    schema = _structured(evidence)
    if isinstance(schema, Outcome):
        return schema
    n = schema.structured
    judged = sampled(min(n, schema.mended), n, limit_of(item))
    final = sampled(n - schema.valid, n, FINAL_INVALID)
    value, number, other, more = judged.at_most, judged.bound, f"{final.at_most} invalid in the end", judged.detail
    if worst(final.status, judged.status) != judged.status:  # what decides stands first
        value, number, other, more = f"{final.at_most} invalid", final.bound, f"{value} repaired or asked again", ""
    how = ", ".join(
        f"{count:,} {what}"
        for count, what in ((schema.repaired, "repaired"), (schema.coerced, "coerced"), (schema.retried, "asked again"))
        if count
    )
    lost = schema.invalid_attempt_cost or 0.0
    cost = f"{words.share(min(1.0, lost / schema.cost))} of their cost thrown away" if lost and schema.cost else ""
    detail = words.joined(other, how, cost, more)
    return Outcome(worst(judged.status, final.status), value, number, n, detail)


def missing_fields(evidence: Evidence, item: Item) -> Outcome:
    """T4.3: the required field that is missing most often."""
    schema = _structured(evidence)
    if isinstance(schema, Outcome):
        return schema
    return _worst_field(schema.missing, schema.structured, limit_of(item))


def mismatched_fields(evidence: Evidence, item: Item) -> Outcome:
    """T4.4: the field that has the wrong type, or a value outside its enum, most often; new kinds of such values.

    Records hold no values, which may be personal: new is a field that had no unlisted value in the 4 weeks before.
    """
    schema = _structured(evidence)
    if isinstance(schema, Outcome):
        return schema
    found = _worst_field(schema.mismatched, schema.structured, limit_of(item))
    new = sorted(set(schema.unlisted) - schema.unlisted_before)
    listed = words.listed("not in the enum", [f"{name} {n:,}×" for name, n in schema.unlisted.items()])
    detail = words.joined(found.detail, words.listed("new value", new), listed)
    status = worst(found.status, "WARN" if new else "PASS")
    return Outcome(status, found.value, found.number, found.n, detail)


def _worst_field(fields: dict[str, int], n: int, limit: Limit) -> Outcome:
    field = min(fields, key=lambda name: (-fields[name], name), default="")
    judged = sampled(min(n, fields.get(field, 0)), n, limit)
    detail = words.joined(f"worst: {field}" if field else "", judged.detail)
    return Outcome(judged.status, judged.at_most, judged.bound, n, detail)


def on_invalid(evidence: Evidence, _item: Item) -> Outcome:
    """T4.5: what the policy does with invalid output, whether a drill has shown it, and what reached callers."""
    if not evidence.structured:
        return not_applicable("no schema")
    policy = evidence.config.manifest.policy
    declared = " → ".join(policy.invalid)
    if not policy.invalid or policy.invalid[-1] not in STEPS_ON_INVALID:
        return Outcome("FAIL", declared or "undeclared", grade="C")
    schema = evidence.facts.schema if evidence.facts else None
    n = schema.structured if schema else 0
    if schema and schema.delivered_invalid:
        delivered = schema.delivered_invalid
        return Outcome("FAIL", f"{delivered:,} invalid delivered", float(delivered), n, f"declared: {declared}")
    seen = words.joined(f"declared: {declared}", f"0 of {n:,} delivered invalid" if n else "", _dead(policy))
    drill = evidence.drill("invalid_output")
    if drill is None:
        return no_data("never exercised", n, seen, PRACTISE.format(route=evidence.route))
    age_days = (evidence.now_us - drill.ts_us) / 86_400_000_000
    status: Status = "FAIL" if not drill.ok else "WARN" if age_days > DRILL_DAYS or _dead(policy) else "PASS"
    return Outcome(status, f"exercised {age_days:.0f} d ago", age_days, n, seen, "D", drill.ts_us)


def _dead(policy: Policy) -> str:
    """A step that is declared for invalid output, and that leads nowhere."""
    leads = any({"invalid_output", "error"} & set(step.on) for step in policy.fallback)
    return "no fallback is for invalid output" if "fallback" in policy.invalid and not leads else ""


CHECKS: dict[str, Check] = {
    "T4.1": valid_first,
    "T4.2": mended,
    "T4.3": missing_fields,
    "T4.4": mismatched_fields,
    "T4.5": on_invalid,
}
