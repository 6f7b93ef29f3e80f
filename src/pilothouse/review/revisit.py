"""The triggers in the review: their own lines (V1–V6), and the items that wait for what is measured after them."""

from collections.abc import Callable, Sequence

import msgspec

from pilothouse.domain.finding import Finding, Item
from pilothouse.domain.trigger_facts import Reopened, TriggerFacts, signing
from pilothouse.review import triggers, words
from pilothouse.review.evidence import Evidence
from pilothouse.review.result import Outcome, no_data
from pilothouse.review.triggers import DRIFTS, LOOKBACK_US, Fired

_WAITING = ("STALE", "NO_DATA")
_TRAFFIC = ("V1", "V2", "V3", "V5")
Judge = Callable[[Evidence, Item], Outcome]


def renewed(evidence: Evidence, item: Item, outcome: Outcome, found: Sequence[Fired], judge: Judge) -> Outcome:
    """`outcome`, or, of an item that a trigger re-opened, what was measured since; STALE where that says nothing."""
    last = triggers.newest_for(item.id, found)
    if last is None or outcome.status in ("FAIL", "N/A", "NO_DATA"):
        return outcome
    again = outcome
    if evidence.facts is not None and evidence.facts.since_us < last.ts_us:
        at = min((ts_us for ts_us in evidence.renewed if ts_us >= last.ts_us), default=None)
        facts = evidence.renewed[at] if at is not None else None
        again = judge(msgspec.structs.replace(evidence, facts=facts), item)
    if again.status == "NO_DATA":
        return _stale(evidence, outcome, words.joined(last.sentence, f"since then {again.value}"))
    if again.measured_us is not None and again.measured_us <= last.ts_us:
        return _stale(evidence, outcome, last.sentence)
    return again


def _stale(evidence: Evidence, outcome: Outcome, why: str) -> Outcome:
    return msgspec.structs.replace(outcome, status="STALE", detail=why, fix=_fix(evidence))


def _fix(evidence: Evidence) -> str:
    return f"measure again what is due, or `{signing(evidence.route, evidence.env)}`"


def trigger(evidence: Evidence, item: Item, rows: Sequence[Finding], found: Sequence[Fired]) -> Outcome:
    """V1–V6: what fired and is not signed, and which items still wait; overdue after five working days."""
    facts = evidence.triggers
    if facts is None:
        return no_data("not read")
    mine = [one for one in found if one.id == item.id]
    if not mine:
        return _quiet(facts, item)
    waiting = [row.id for row in rows if row.status in _WAITING and any(one.names(row.id) for one in mine)]
    said = words.joined(*(one.reason for one in mine[:-3:-1]))
    if len(mine) > 2:
        said += f" and {len(mine) - 2} more"
    if not waiting:
        return Outcome("PASS", "measured again", 0.0, len(mine), said)
    due = mine[0].due_us
    late = evidence.now_us >= due
    value = f"{words.plural(len(waiting), 'item')} due {'since' if late else 'by'} {words.date(due - 1)}"
    detail = words.joined(said, words.listed("due", waiting, 6))
    return Outcome("FAIL" if late else "WARN", value, float(len(waiting)), len(mine), detail, fix=_fix(evidence))


def waiting(rows: Sequence[Finding], found: Sequence[Fired]) -> tuple[Reopened, ...]:
    """The newest of each trigger whose line says that items wait for it; `rows` are those of all items."""
    lines = {row.id: row for row in rows if row.status in ("WARN", "FAIL")}
    newest = {one.id: one for one in found}
    return tuple(
        Reopened(id=name, ts_us=one.ts_us, sentence=one.sentence, due=lines[name].value)
        for name, one in sorted(newest.items())
        if name in lines
    )


def _quiet(facts: TriggerFacts, item: Item) -> Outcome:
    """Nothing of this kind fired since the last signature, as far as it can be known."""
    if item.id in _TRAFFIC and not facts.seen.requests:
        return no_data("no traffic", fix="send it requests, with `model: {route}`")
    if item.id == "V4" and facts.alerts is None:
        return no_data("rules not read")
    blind = ""
    if item.id == "V4":
        blind = words.listed("no rule for", sorted(set(DRIFTS) - set(facts.watched)))
    elif item.id == "V5" and not facts.seen.segmented:
        blind = "no request names its segment"
    if facts.signed is not None:
        signed = f"signed {words.date(facts.signed.ts_us)} by {facts.signed.by}: {facts.signed.reason}"
        return Outcome("PASS", "none since it was signed", 0.0, None, words.joined(signed, blind))
    return Outcome("PASS", f"none in {LOOKBACK_US // triggers.DAY_US} days", 0.0, None, blind)
