"""Findings → readiness: the least of observe, evaluate and roll back, and no FAIL in security (G6, G8)."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache

import msgspec

from pilothouse.domain.clock import Clock
from pilothouse.domain.finding import STATUS_ORDER, Finding, Item, Review, RouteReview, Status
from pilothouse.review import revisit, triggers, words
from pilothouse.review.catalogue import BY_ID, ITEMS
from pilothouse.review.checks import CHECKS
from pilothouse.review.evidence import WINDOW_S, Evidence
from pilothouse.review.page import UNMEASURED, fitting, frame, lines_of
from pilothouse.review.result import Outcome, finding, no_data, not_applicable, with_override
from pilothouse.review.triggers import REOPENS, Fired

OBSERVE = ("T1", "T2", "T9")
EVALUATE = ("T3", "T4", "T5")
ROLL_BACK = ("T6", "T10")
SECURITY = "T8"
FLOOR = {"high": 0.80, "standard": 0.70, "lite": 0.50}
CREDIT = {"M": 1.0, "D": 1.0, "C": 0.8, "A": 0.5}  # of a PASS, by kind of evidence
WARN_CREDIT = 0.5
# G8: what an unnoticed failure costs. Quality, security and money weigh twice what infrastructure weighs; a route's
# tier multiplies all of its items alike and so moves its floor, not its scores.
_HEAVY_GROUPS = ("T3", "T4", "T5", "T7", "T8")
_HEAVY_ITEMS = ("T9.3", "T9.6")
_OF_WHOLE_PAGE = ("G5", "G6")
_STRUCTURED = re.compile(r"T4\.|CW\.3$|I4$")
_RETRIEVAL = re.compile(r"T5\.|T1\.6$|CM\.3$|I5$")
WAIVER_MAX_US = 30 * 86_400_000_000


@cache
def group(item_id: str) -> str:
    """`T10.4` → `T10`."""
    return item_id.partition(".")[0]


@cache
def weight(item_id: str) -> float:
    """How much an item weighs in a score (G8)."""
    return 2.0 if group(item_id) in _HEAVY_GROUPS or item_id in _HEAVY_ITEMS else 1.0


def credit(row: Finding) -> float:
    """What a finding is worth, 0 … 1: nothing for FAIL, and nothing where nothing is known (NO DATA, STALE, WAIVED)."""
    if row.status == "PASS":
        return CREDIT[row.grade]
    return WARN_CREDIT if row.status == "WARN" else 0.0


def score(findings: Iterable[Finding], groups: Sequence[str]) -> float | None:
    """Σw·credit / Σw over the applicable items of these groups; None where none applies."""
    rows = [row for row in findings if group(row.id) in groups and row.status != "N/A"]
    total = sum(weight(row.id) for row in rows)
    return sum(weight(row.id) * credit(row) for row in rows) / total if total else None


def scores(findings: Sequence[Finding]) -> tuple[float | None, float | None, float | None]:
    """Observe, evaluate, roll back."""
    return score(findings, OBSERVE), score(findings, EVALUATE), score(findings, ROLL_BACK)


def security_fails(findings: Iterable[Finding]) -> int:
    """FAILs in the security layer; any one of them blocks readiness."""
    return sum(row.status == "FAIL" and group(row.id) == SECURITY for row in findings)


def is_ready(findings: Sequence[Finding], floor: float) -> bool:
    """Each of the three scores reaches the floor, and nothing fails in security."""
    return all(part is not None and part >= floor for part in scores(findings)) and security_fails(findings) == 0


def items_for(tier: str) -> tuple[Item, ...]:
    """The items that a tier is reviewed on: the lighter profile keeps those marked ℓ."""
    return tuple(item for item in ITEMS if item.lite) if tier == "lite" else ITEMS


def judge(evidence: Evidence, item: Item, found: Sequence[Fired] = ()) -> Finding:
    """One item for one route, with the route's own thresholds and its waiver, if it has one. `found`: the triggers
    that wait for what is measured after them.
    """
    item = with_override(item, evidence)
    outcome = _outcome(evidence, item)
    if found:
        outcome = revisit.renewed(evidence, item, outcome, found, _outcome)
    return _waived(evidence, finding(evidence, item, outcome))


def _outcome(evidence: Evidence, item: Item) -> Outcome:
    if _STRUCTURED.match(item.id) and not evidence.structured:
        return not_applicable("no schema")
    if _RETRIEVAL.match(item.id) and not evidence.retrieves:
        return not_applicable("no retrieval")
    check = CHECKS.get(item.id)
    return no_data(UNMEASURED) if check is None else check(evidence, item)


def _waived(evidence: Evidence, row: Finding) -> Finding:
    if row.status in ("PASS", "N/A"):
        return row
    waiver = next((w for w in evidence.waivers if w.item == row.id and w.route == evidence.route), None)
    if waiver is None or waiver.until_us <= evidence.now_us:
        return row
    if waiver.until_us - evidence.now_us > WAIVER_MAX_US:
        ignored = f"the waiver until {words.date(waiver.until_us)} is ignored: 30 days at most"
        return msgspec.structs.replace(row, detail="; ".join(note for note in (row.detail, ignored) if note))
    was = row.status.replace("_", " ")
    by = f" ({evidence.person(waiver.by)})" if waiver.by else ""
    detail = f"until {words.date(waiver.until_us)}, was {was}: {waiver.reason}{by}"
    return msgspec.structs.replace(row, status="WAIVED", detail=detail)


def review_route(evidence: Evidence) -> RouteReview:
    """All items of one route, worst first, and whether it is ready."""
    found = triggers.open_of(evidence)
    tier = profile(evidence, found)
    items = items_for(tier)
    rows = [judge(evidence, item, found) for item in items if item.id not in (*_OF_WHOLE_PAGE, *REOPENS)]
    rows += [_trigger(evidence, item, rows, found) for item in items if item.id in REOPENS]
    rows.append(_gate(evidence, rows, FLOOR[tier]))
    draft = _route(evidence, rows, tier)
    rows.append(_one_page(evidence, draft))
    return msgspec.structs.replace(_route(evidence, rows, tier), reopened=revisit.waiting(rows, found))


def profile(evidence: Evidence, found: Sequence[Fired]) -> str:
    """The tier that a route is reviewed as: the lighter profile ends where tools, retrieval, a new segment or a riskier
    use came (V2, V5), until somebody has signed that it may stay (G4).
    """
    tier = evidence.config.tier
    return "standard" if tier == "lite" and triggers.upgraded(found) is not None else tier


def _trigger(evidence: Evidence, item: Item, rows: Sequence[Finding], found: Sequence[Fired]) -> Finding:
    item = with_override(item, evidence)
    return _waived(evidence, finding(evidence, item, revisit.trigger(evidence, item, rows, found)))


def _route(evidence: Evidence, rows: list[Finding], tier: str) -> RouteReview:
    config, floor = evidence.config, FLOOR[tier]
    observe, evaluate, roll_back = scores(rows)
    return RouteReview(
        route=config.name,
        env=evidence.env,
        release=evidence.live,
        tier=tier,
        owner=evidence.person(config.owner),
        backup=evidence.person(config.backup),
        window=window(evidence),
        requests=evidence.requests,
        ready=is_ready(rows, floor),
        floor=floor,
        observe=observe,
        evaluate=evaluate,
        roll_back=roll_back,
        security_fails=security_fails(rows),
        findings=sorted(rows, key=_worst_first),
        counts=dict(Counter(row.status for row in rows)),
    )


def window(evidence: Evidence) -> str:
    """The time that the traffic's figures cover."""
    facts = evidence.facts
    seconds = (facts.until_us - facts.since_us) / 1e6 if facts else WINDOW_S[evidence.config.tier]
    days = seconds / 86_400
    return f"last {days:.0f} days" if days >= 2 else f"last {seconds / 3_600:.0f} h"


_RANK = {item.id: rank for rank, item in enumerate(ITEMS)}


def _worst_first(row: Finding) -> tuple[int, bool, bool, float, int]:
    """By status; security first; what was measured before what was not; then by weight; then in the list's order."""
    secure = group(row.id) == SECURITY
    return STATUS_ORDER[row.status], not secure, row.value == UNMEASURED, -weight(row.id), _RANK[row.id]


def _gate(evidence: Evidence, rows: Sequence[Finding], floor: float) -> Finding:
    parts = [part for part in scores(rows) if part is not None]
    fails = security_fails(rows)
    least = min(parts, default=None)
    item = with_override(BY_ID["G6"], evidence)
    detail = f"from {floor:.2f}; " + (f"{words.plural(fails, 'FAIL')} in security" if fails else "security: no FAIL")
    if least is None:
        return finding(evidence, item, no_data("nothing applies", detail=detail))
    status: Status = "PASS" if is_ready(rows, floor) else "FAIL"
    return finding(evidence, item, Outcome(status, f"least {least:.2f}", least, None, detail))


def _one_page(evidence: Evidence, draft: RouteReview) -> Finding:
    rows, left_out = fitting(draft)
    lines = frame(draft) + lines_of(rows) + bool(left_out)
    status: Status = "FAIL" if left_out else "PASS"
    detail = f"{words.plural(left_out, 'finding')} left out" if left_out else ""
    outcome = Outcome(status, f"{lines} lines", float(lines), None, detail)
    return finding(evidence, with_override(BY_ID["G5"], evidence), outcome)


def review(evidences: Iterable[Evidence], clock: Clock) -> Review:
    """The whole review, worst route first. `ready`: every route is; a review of nothing is not."""
    began = clock.monotonic()
    routes = sorted((review_route(evidence) for evidence in evidences), key=_worst_route)
    return Review(
        measured_at=words.iso(clock.now_us()),
        window=", ".join(dict.fromkeys(route.window for route in routes)),
        ready=bool(routes) and all(route.ready for route in routes),
        routes=routes,
        took_ms=(clock.monotonic() - began) * 1_000,
    )


def _worst_route(route: RouteReview) -> tuple[bool, bool, float, str, str]:
    parts = [part for part in (route.observe, route.evaluate, route.roll_back) if part is not None]
    margin = min(parts, default=0.0) - route.floor
    return route.ready, route.security_fails == 0, margin, route.route, route.env


def exit_code(result: Review) -> int:
    """Of `--gate`: 0 ready, 1 not ready, 3 where only missing data stands in the way."""
    if result.ready:
        return 0
    waiting = [route for route in result.routes if not route.ready]
    return 3 if all(_only_missing(route) for route in waiting) else 1


def _only_missing(route: RouteReview) -> bool:
    """Nothing fails, and the route would be ready if what is not known turned out well."""
    if any(row.status == "FAIL" and row.id not in _OF_WHOLE_PAGE for row in route.findings):
        return False
    hoped = [
        msgspec.structs.replace(row, status="PASS") if row.status in ("NO_DATA", "STALE") else row
        for row in route.findings
    ]
    return is_ready(hoped, route.floor)
