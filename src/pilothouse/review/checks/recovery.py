"""T10 and what is done before every release: can it be taken back, and was it checked?"""

from pilothouse.domain.finding import Item, Status
from pilothouse.domain.release import Rollback
from pilothouse.domain.release_facts import Drill, ReleaseFacts
from pilothouse.review import words
from pilothouse.review.evidence import Evidence
from pilothouse.review.result import Check, Outcome, level, limit_of, no_data, not_applicable, worst

DAY_US = 86_400_000_000
DRILL_DAYS = 90
GATE_US = DAY_US  # a gate's verdict is at most this old when its release is made, or made from it


def _live(evidence: Evidence) -> ReleaseFacts | Outcome:
    """Facts of a live release, or why there is nothing to take back."""
    if evidence.release is None:
        return no_data("releases not read")
    if evidence.release.current is None:
        return no_data("nothing is live")
    return evidence.release


def _days(evidence: Evidence, at_us: int) -> float:
    return (evidence.now_us - at_us) / DAY_US


def rollback(evidence: Evidence, item: Item) -> Outcome:
    """T10.1: a target that resolves, a dry run that passes, and how long it took when it was last done."""
    facts = _live(evidence)
    if isinstance(facts, Outcome):
        return facts
    dry = facts.rollback
    if not dry.ok:
        return Outcome("FAIL", "no target" if dry.target is None else "dry run fails", detail=dry.reason)
    target = f"to release {dry.target}"
    done = _last(facts)
    if done is None:
        return no_data("never practised", detail=f"dry run {target} passes")
    at_us, took_ms, n = done
    if took_ms is None:
        return no_data("not timed", n, f"dry run {target} passes")
    days = _days(evidence, at_us)
    status = worst(level(took_ms, limit_of(item)), "WARN" if days > DRILL_DAYS else "PASS")
    failed = facts.last_drill is not None and not facts.last_drill.ok and facts.last_drill.ts_us >= at_us
    ago = words.duration((evidence.now_us - at_us) / 1_000)
    detail = f"{target}; last drill {ago} ago, {words.duration(took_ms)}"
    if failed:
        return Outcome("WARN", "the last drill failed", took_ms, n, detail, "D", at_us)
    if facts.way_back_breaks:
        status = worst(status, "WARN")
        detail = f"{detail}; after it {facts.way_back_breaks[0]}"
    return Outcome(status, words.duration(took_ms), took_ms, n, detail, "D", at_us)


def _last(facts: ReleaseFacts) -> tuple[int, float | None, int | None] | None:
    """When the last rollback, real or practised, was; its milliseconds; its workers."""
    found: list[tuple[int, float | None, int | None]] = []
    if facts.last_rollback is not None:
        found.append((facts.last_rollback.ts_us, _took(facts.last_rollback), facts.last_rollback.workers))
    if facts.last_drill is not None:
        detail = facts.last_drill.detail
        times = [
            float(ms) for name in ("propagated_ms", "last_old_ms") if isinstance(ms := detail.get(name), int | float)
        ]
        workers = detail.get("workers")
        found.append((facts.last_drill.ts_us, max(times, default=None), workers if isinstance(workers, int) else None))
    # One that was timed says more than a later one that was not.
    return max(found, key=lambda each: (each[1] is not None, each[0]), default=None)


def _took(done: Rollback) -> float | None:
    """ms from the command until the last request on what was left had begun, or the last worker had acknowledged."""
    last, decided = done.t_last_bad_us, done.t_decide_us
    begun = (last - decided) / 1_000 if last is not None and decided is not None else None
    return max((ms for ms in (done.propagated_ms, begun) if ms is not None), default=None)


def alternates(evidence: Evidence, item: Item) -> Outcome:
    """T10.2: another model to switch to, and whether it was shown to work lately."""
    facts = _live(evidence)
    if isinstance(facts, Outcome):
        return facts
    own = str(evidence.config.manifest.model)
    named = dict.fromkeys([*facts.alternate_models, *(str(model) for model in evidence.config.alternates)])
    others = [model for model in named if model != own]
    if not others:
        static = "; a static answer is declared" if facts.static_fallback else ""
        return Outcome("FAIL", "none", 0.0, 0, f"only {own}{static}", "C")
    if any(one.evaluated_us or one.probed_us for one in facts.alternates):
        return _measured(evidence, facts, item)
    drill = evidence.drill("alternate_model")
    if drill is None:
        return Outcome(
            "WARN", f"{len(others)} declared", None, len(others), f"never evaluated: {', '.join(others)}", "C"
        )
    age_ms = (evidence.now_us - drill.ts_us) / 1_000
    status = level(age_ms, limit_of(item)) if drill.ok else "FAIL"
    value = f"evaluated {words.duration(age_ms)} ago"
    return Outcome(status, value, age_ms, len(others), ", ".join(others), "D", drill.ts_us)


def _measured(evidence: Evidence, facts: ReleaseFacts, item: Item) -> Outcome:
    """Alternates that were evaluated or probed: one of them must be fit to be switched to now."""
    known = facts.alternates
    fit = [one for one in known if not one.objections(evidence.now_us)]
    switched = evidence.drill("model_switch")
    took = switched.detail.get("propagated_ms") if switched is not None else None
    last = f"last switch {words.duration(float(took))}" if isinstance(took, int | float) else "never switched"
    if not fit:
        unfit = next((one for one in known if one.evaluated_us), known[0])
        why = f"{unfit.model}: {', '.join(unfit.objections(evidence.now_us))}"
        only_old = unfit.passed is not False and unfit.answered is not False
        return Outcome("WARN" if only_old else "FAIL", f"0 of {len(known)} fit", None, len(known), why, "D")
    best = max(fit, key=lambda one: (one.quota_known, one.evaluated_us or 0))
    age_ms = (evidence.now_us - (best.evaluated_us or 0)) / 1_000
    unsure: Status = "PASS" if best.quota_known else "WARN"
    quota = "" if best.quota_known else "; its quota is not known"
    value = f"{len(fit)} of {len(known)} fit"
    detail = f"{best.model}, evaluated {words.duration(age_ms)} ago{quota}; {last}"
    status = worst(level(age_ms, limit_of(item)), unsure)
    return Outcome(status, value, age_ms, len(known), detail, "D", best.evaluated_us)


def _thrown(evidence: Evidence) -> Drill | None:
    """When the route's switch was last thrown, here or in staging."""
    thrown = [evidence.drill("disable_route", env) for env in (evidence.env, "staging")]
    return max((one for one in thrown if one is not None), key=lambda one: one.ts_us, default=None)


def kill_switch(evidence: Evidence, item: Item) -> Outcome:
    """T10.3: the route and each of its flows can be switched off, and was; no flag is left behind by its purpose."""
    flows = [flag for flag in evidence.flags if flag.kind == "flow"]
    drill = _thrown(evidence)
    done = [flow.off_us for flow in flows if flow.off_us is not None] + ([drill.ts_us] if drill is not None else [])
    idle = [flow.key for flow in flows if flow.off_us is None]
    left = [f"{flag.key}: {trouble.what}" for flag in evidence.flags for trouble in flag.troubles]
    left = [text for text in left if not text.endswith("off path not exercised")]
    names = f"; flows: {', '.join(flow.key for flow in flows)}" if flows else ""
    detail = words.joined(
        f"off path never taken: {', '.join(idle[:3])}" if idle else "",
        f"{words.plural(len(left), 'flag')} to look at: {', '.join(left[:3])}" if left else "",
    )
    if not done:
        return no_data("never exercised", detail=words.joined(f"every route has one{names}", detail))
    at_us = min(done)  # of the one that was exercised longest ago
    age_ms = (evidence.now_us - at_us) / 1_000
    status: Status = "FAIL" if drill is not None and not drill.ok else level(age_ms, limit_of(item))
    if idle or left:
        status = worst(status, "WARN")
    value = f"exercised {words.duration(age_ms)} ago"
    return Outcome(status, value, age_ms, len(done), detail, "D", at_us)


def staged(evidence: Evidence, item: Item) -> Outcome:
    """T10.4: replaced releases of the last 90 days that went through a canary. All are counted."""
    if evidence.release is None:
        return no_data("releases not read")
    changes, edits = evidence.release.changes_90d, evidence.release.direct_edits
    edited = f"{words.plural(edits, 'direct edit')} put back" if edits else ""
    if edits and evidence.config.tier == "high":
        return Outcome("FAIL", words.plural(edits, "direct edit"), None, changes.total, edited)
    if changes.total == 0:
        return Outcome("WARN", edited, None, 0) if edits else no_data("none replaced yet", 0)
    rate = changes.staged / changes.total
    status = level(rate, limit_of(item))
    if changes.direct and evidence.config.tier == "high":
        status = "FAIL"  # a direct edit of a critical route, however rare
    forced = f"{changes.forced} forced" if changes.forced else ""
    status = worst(status, "WARN") if edits else status
    detail = "; ".join(filter(None, (forced, edited)))
    return Outcome(status, f"{changes.staged} of {changes.total}", rate, changes.total, detail)


def runbooks(evidence: Evidence, _item: Item) -> Outcome:
    """T10.5: each rule of the route names a runbook. That it is read and right is somebody's word."""
    if not evidence.rules:
        return no_data("no rule", 0)
    without = [rule.name for rule in evidence.rules if not rule.runbook]
    named = len(evidence.rules) - len(without)
    status: Status = "FAIL" if without else "PASS"
    return Outcome(status, f"{named} of {words.plural(len(evidence.rules), 'rule')}", float(len(without)),
                   len(evidence.rules), ", ".join(without[:3]), "A")  # fmt: skip


# --- before every release ---------------------------------------------------------------------------------------


def tagged(evidence: Evidence, _item: Item) -> Outcome:
    """CR.1: all 8 hashes resolve, the model is no floating alias, and the commit is known and clean."""
    facts = _live(evidence)
    if isinstance(facts, Outcome):
        return facts
    notes = [
        f"missing: {', '.join(facts.hashes_missing)}" if facts.hashes_missing else "",
        f"{facts.floating_alias} names no version" if facts.floating_alias else "",
        f"index {facts.index_floating} has no version" if facts.index_floating else "",
        "" if facts.vcs_commit else "no commit recorded",
        "files differ from the commit" if facts.vcs_dirty else "",
    ]
    hard = bool(facts.hashes_missing) or facts.hashes_resolvable < 8 or bool(facts.floating_alias)
    soft = not facts.vcs_commit or facts.vcs_dirty or bool(facts.index_floating)
    status: Status = "FAIL" if hard else "WARN" if soft else "PASS"
    count = facts.hashes_resolvable
    return Outcome(status, f"{count} of 8 hashes", float(count), 8, words.joined(*notes), "C")


def gated(evidence: Evidence, _item: Item) -> Outcome:
    """CR.2: the live release passed its gate, on the dataset as it is, within a day of being made."""
    facts = _live(evidence)
    if isinstance(facts, Outcome):
        return facts
    if not facts.gated:
        return no_data("no gate declared", detail="add `gate:` to the route in pilothouse.yaml")
    verdict = facts.verdict
    if verdict is None:
        return no_data("never run on it")
    at = facts.verdict_us
    if verdict.verdict == "block":
        return Outcome("FAIL", "block", verdict.delta, verdict.n, verdict.reason, measured_us=at)
    if verdict.verdict == "inconclusive":
        return Outcome("WARN", "inconclusive", verdict.delta, verdict.n, verdict.reason, measured_us=at)
    evals = evidence.evals
    moved = evals is not None and bool(evals.run_dataset_hash) and evals.dataset_hash != evals.run_dataset_hash
    same_run = evals is not None and evals.release == evidence.live
    late = at is not None and facts.current is not None and abs(at - facts.current.created_us) > GATE_US
    if moved and same_run:
        return Outcome("STALE", "passed, older dataset", verdict.delta, verdict.n, measured_us=at)
    if late:
        return Outcome("STALE", "passed, long before", verdict.delta, verdict.n, measured_us=at)
    return Outcome("PASS", "pass", verdict.delta, verdict.n, verdict.reason, measured_us=at)


def way_back(evidence: Evidence, _item: Item) -> Outcome:
    """CR.6: the release before is known, resolves, and a dry run of the rollback passes."""
    facts = _live(evidence)
    if isinstance(facts, Outcome):
        return facts
    if evidence.live == 1 and facts.rollback.target is None:
        return not_applicable("first release")
    if not facts.rollback.ok:
        return Outcome("FAIL", "dry run fails", detail=facts.rollback.reason)
    command = f"pilothouse rollback {evidence.route}"
    if facts.way_back_breaks:
        detail = f"{command}; after it {facts.way_back_breaks[0]}"
        return Outcome("WARN", f"to release {facts.rollback.target}", float(facts.rollback.target or 0), detail=detail)
    return Outcome("PASS", f"to release {facts.rollback.target}", float(facts.rollback.target or 0), detail=command)


CHECKS: dict[str, Check] = {
    "T10.1": rollback,
    "T10.2": alternates,
    "T10.3": kill_switch,
    "T10.4": staged,
    "T10.5": runbooks,
    "CR.1": tagged,
    "CR.2": gated,
    "CR.6": way_back,
}
