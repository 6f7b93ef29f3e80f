"""T1: which prompt, system, model, parameters, tools and index produced an output."""

from pilothouse.domain.facts import ModelUse
from pilothouse.domain.finding import Item, Limit, Status
from pilothouse.review import words
from pilothouse.review.evidence import Evidence
from pilothouse.review.result import (
    MIN_N,
    Check,
    Outcome,
    level,
    limit_of,
    no_data,
    not_applicable,
    worst,
)

SAMPLE = 20  # requests a day that are rendered again
MISMATCH = Limit(fail=0.001)  # of primary attempts, served by another model than asked


def reconstructable(evidence: Evidence, item: Item) -> Outcome:
    """T1.0: requests whose upstream body, rendered again from the record, has the hash of what was sent."""
    sample = evidence.reconstruct
    if sample is None or sample.n == 0:
        return no_data("none sampled yet", fix="send it requests, with `model: {route}`")
    if sample.n < SAMPLE:
        return no_data(f"{sample.ok} of {sample.n}", sample.n, f"a sample is {SAMPLE} requests")
    rate = sample.ok / sample.n
    return Outcome(
        level(rate, limit_of(item)), words.share(rate), rate, sample.n, _commonest(sample.reasons), "M",
        sample.sampled_us or None,
    )  # fmt: skip


def _commonest(reasons: dict[str, int]) -> str:
    ranked = sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{reason}: {n:,}" for reason, n in ranked[:3])


def _unresolved(evidence: Evidence, part: str) -> int | None:
    """Requests whose record has no hash of `part`, or one that the registry does not hold; None: not known."""
    if evidence.facts is None or evidence.registry is None:
        return None
    unknown = 0
    for use in evidence.facts.manifests:
        if use.parts.get(part, "") in evidence.registry:
            unknown += use.missing.get(part, 0)
        else:
            unknown += use.requests
    return unknown


def _coverage(evidence: Evidence, item: Item, part: str) -> Outcome:
    """The share of requests whose `part` resolves. All requests are counted, so the share is exact."""
    n = evidence.requests
    unknown = _unresolved(evidence, part)
    if unknown is None:
        return no_data("no traffic" if evidence.facts is None else "registry not read")
    if n < MIN_N:
        return no_data(f"{n - unknown} of {n}", n, f"n < {MIN_N}")
    rate = (n - unknown) / n
    return Outcome(level(rate, limit_of(item)), words.share(rate), rate, n, _unknown_by_release(evidence, part))


def _unknown_by_release(evidence: Evidence, part: str) -> str:
    if evidence.facts is None or evidence.registry is None:
        return ""
    found = [
        f"{'inline' if use.inline or use.release is None else f'release {use.release}'}: {use.requests:,}"
        for use in evidence.facts.manifests
        if use.parts.get(part, "") not in evidence.registry
    ]
    return f"unknown {part} in {', '.join(found[:3])}" if found else ""


def prompt_known(evidence: Evidence, item: Item) -> Outcome:
    """T1.1."""
    return _coverage(evidence, item, "prompt")


def system_known(evidence: Evidence, item: Item) -> Outcome:
    """T1.2: the rate of requests with an unknown system prompt."""
    seen = _coverage(evidence, item, "system")
    unknown = _unresolved(evidence, "system")
    if seen.number is None or unknown is None:
        return seen
    rate = unknown / evidence.requests
    return Outcome(level(rate, limit_of(item)), f"{words.share(rate)} unknown", rate, seen.n, seen.detail)


def params_known(evidence: Evidence, item: Item) -> Outcome:
    """T1.4."""
    return _coverage(evidence, item, "params")


def tools_known(evidence: Evidence, item: Item) -> Outcome:
    """T1.5: any request with tools that the registry does not hold fails."""
    seen = _coverage(evidence, item, "tools")
    if seen.number is None or seen.status == "FAIL":
        return seen
    missing = 0 if evidence.facts is None else sum(use.missing.get("tools", 0) for use in evidence.facts.manifests)
    unknown = (_unresolved(evidence, "tools") or 0) - missing
    return Outcome("FAIL" if unknown > 0 else seen.status, seen.value, seen.number, seen.n, seen.detail)


def model_pinned(evidence: Evidence, item: Item) -> Outcome:
    """T1.3: delivered attempts on a pinned model, served by the model that was asked for."""
    if evidence.facts is None:
        return no_data("no traffic", 0)
    if evidence.release is None:
        return no_data("release not known")
    primary = [use for use in evidence.facts.models if not use.fallback]
    n = _attempts(primary)
    if n < MIN_N:
        return no_data(words.plural(n, "attempt"), n, f"n < {MIN_N}")
    floating = evidence.release.floating_alias
    aliases = {floating, floating.partition("/")[2]} - {""}  # with and without its provider
    loose = _attempts([use for use in primary if use.model in aliases])
    silent = _attempts([use for use in primary if not use.served_model])
    other = _attempts([use for use in primary if _another(use)])
    fresh = _new_fingerprints(primary, evidence.facts.since_us)
    mismatched = level(other / n, MISMATCH)
    changed = evidence.release.provider_changes
    unsure: Status = "WARN" if fresh or silent or changed else "PASS"
    detail = words.joined(
        words.listed("names no version", [floating][: bool(loose)]),
        words.listed("served by another model", [f"{other:,}"][:other]),
        words.listed("new fingerprint", fresh),
        words.listed("model not named by the provider", [f"{silent:,}"][:silent]),
        words.listed("changed at the provider", list(changed)),
    )
    pinned = (n - loose) / n
    status = worst(level(pinned, limit_of(item)), mismatched, unsure)
    return Outcome(status, f"{words.share(pinned)} pinned", pinned, n, detail)


def _attempts(uses: list[ModelUse]) -> int:
    return sum(use.attempts for use in uses)


def _another(use: ModelUse) -> bool:
    """The provider says it served another model. `name` resolved to `name-2026-08-07` is the one asked for."""
    asked, served = use.model.rpartition("/")[2], use.served_model.rpartition("/")[2]
    return bool(served) and served != asked and not served.startswith(f"{asked}-")


def _new_fingerprints(uses: list[ModelUse], since_us: int) -> list[str]:
    """Fingerprints first seen in the window, of models that had another before."""
    return [
        use.fingerprint
        for use in uses
        if use.fingerprint
        and use.first_us > since_us
        and any(
            o.fingerprint and o.fingerprint != use.fingerprint and o.model == use.model and o.first_us < use.first_us
            for o in uses
        )
    ]


def index_known(evidence: Evidence, item: Item) -> Outcome:
    """T1.6: retrievals that name their index version, and how many versions are live; a canary may add one."""
    if not evidence.retrieves:
        return not_applicable("no retrieval")
    if evidence.facts is None or evidence.facts.retrieval is None:
        return no_data("no retrieval seen")
    versions = evidence.facts.retrieval.versions
    n = sum(use.retrievals for use in versions)
    if n < MIN_N:
        return no_data(f"{n} retrievals", n, f"n < {MIN_N}")
    rate = sum(use.retrievals for use in versions if use.version) / n
    live = len({(use.name, use.version) for use in versions if use.version})
    in_rollout = evidence.release is not None and evidence.release.canary is not None
    several: Status = "FAIL" if live > 2 else "WARN" if live > 1 and not in_rollout else "PASS"
    value = f"{words.share(rate)}, {words.plural(live, 'version')}"
    return Outcome(worst(level(rate, limit_of(item)), several), value, rate, n)


CHECKS: dict[str, Check] = {
    "T1.0": reconstructable,
    "T1.1": prompt_known,
    "T1.2": system_known,
    "T1.3": model_pinned,
    "T1.4": params_known,
    "T1.5": tools_known,
    "T1.6": index_known,
}
