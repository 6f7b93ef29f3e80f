"""G1–G4: who answers, from which number on, with what, and what may be left out. G5 and G6: see judge.py."""

from pilothouse.domain.finding import Item, Status
from pilothouse.review import triggers, words
from pilothouse.review.catalogue import ITEMS
from pilothouse.review.evidence import Evidence
from pilothouse.review.result import Check, Outcome, no_data, not_applicable

REVIEWED_US = 90 * 86_400_000_000
_NUMERIC = tuple(item.id for item in ITEMS if item.limit is not None)


def owner(evidence: Evidence, _item: Item) -> Outcome:
    """G1: a person and a backup, both among the people who can be told."""
    config = evidence.config
    roles = {"owner": config.owner, "backup": config.backup}
    absent = [role for role, who in roles.items() if not who]
    strangers = [who for who in roles.values() if who and who not in evidence.people]
    named = [evidence.people[who] for who in roles.values() if who in evidence.people]
    silent = [person.name for person in named if not person.notify]
    alone = len(named) == 2 and config.owner == config.backup
    detail = words.joined(
        words.listed("nobody is", absent),
        words.listed("not among the people", strangers),
        "owner and backup are the same person" if alone else "",
        words.listed("no way to notify", silent),
    )
    problems = len(absent) + len(strangers) + alone
    status: Status = "FAIL" if problems else "WARN" if silent else "PASS"
    return Outcome(status, ", ".join(person.name for person in named) or "nobody", float(problems), 2, detail, "C")


def thresholds(evidence: Evidence, _item: Item) -> Outcome:
    """G2: thresholds are numbers; defaults that nobody changed for 90 days are unreviewed."""
    own = [name for name, check in evidence.config.checks.items() if check.warn is not None or check.fail is not None]
    known = [name for name in own if name in _NUMERIC]
    stray = sorted(set(evidence.config.checks) - {item.id for item in ITEMS})
    value = f"{len(_NUMERIC)} numbers, {len(known)} set here"
    if stray:
        return Outcome("WARN", value, float(len(known)), len(_NUMERIC), f"no such item: {', '.join(stray)}", "C")
    current = evidence.release.current if evidence.release else None
    if not known and current is not None and evidence.now_us - current.created_us > REVIEWED_US:
        return Outcome("WARN", value, 0.0, len(_NUMERIC), "unreviewed: all defaults, unchanged for 90 days", "C")
    return Outcome("PASS", value, float(len(known)), len(_NUMERIC), "", "C")


def actions(evidence: Evidence, _item: Item) -> Outcome:
    """G3: the route's rules do something that a machine can do, not only tell people."""
    if evidence.alerts is None and not evidence.rules:
        return no_data("rules not read")
    if not evidence.rules:
        return Outcome("FAIL", "no rule", 0.0, 0, "nothing happens by itself", "C")
    telling = [rule.name for rule in evidence.rules if all(action.kind == "notify" for action in rule.actions)]
    armed = len(evidence.rules) - len(telling)
    status: Status = "PASS" if not telling else "WARN"
    detail = f"tells people only: {', '.join(telling[:3])}" if telling else ""
    value = f"{armed} of {words.plural(len(evidence.rules), 'rule')}"
    return Outcome(status, value, float(armed), len(evidence.rules), detail, "C")


def lighter(evidence: Evidence, _item: Item) -> Outcome:
    """G4: the lighter profile is for routes without tools and personal data, and ends with V2 and V5."""
    if evidence.config.tier != "lite":
        return not_applicable("not in the lighter profile")
    seen = evidence.facts.redaction.by_status if evidence.facts is not None else {}
    personal = seen.get("redacted", 0) + seen.get("blocked", 0)
    against = words.joined(
        "with tools" if evidence.config.manifest.tools else "",
        f"{words.plural(personal, 'request')} with personal data or secrets" if personal else "",
    )
    raised = triggers.upgraded(triggers.open_of(evidence))
    why = f"reviewed as standard since {raised.sentence}" if raised is not None else ""
    if against:
        return Outcome("FAIL", "lite, though not allowed", 1.0, None, words.joined(against, why), "C")
    if raised is not None:
        return Outcome("WARN", "lite, raised to standard", 1.0, None, why, "C")
    return Outcome("PASS", "lite", 0.0, None, "users from outside are not measured", "C")


CHECKS: dict[str, Check] = {"G1": owner, "G2": thresholds, "G3": actions, "G4": lighter}
