"""Whole canaries from 1 % to their end, decided by the product's own code on streams of requests.

Every guardrail is watched at once: failures, refusals, schema, guardrails, a score of 0 and 1, latency, cost. A canary
is looked at after its first requests often and later every 5 % of what it has seen.
"""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from pilothouse.config.canary import CanaryPolicy, Margins
from pilothouse.releases.arms import Counts, Seen
from pilothouse.releases.decision import decide
from pilothouse.stats.contrast import Moments

RATES = {"failures": 0.02, "refusals": 0.01, "invalid_first": 0.03, "guarded": 0.01, "helpful": 0.1}
MOST = 120_000  # requests, after which it is inconclusive
POLICY = CanaryPolicy(min_seconds=0, margins=Margins(scores={"helpful": 0.05}), auto=True)
EMPTY = Moments()


@dataclass
class Arms:
    """What a canary and its stable release have shown so far. `worse`: what is added to the canary's rates, and the
    factors of its latency and cost."""

    rng: np.random.Generator
    worse: dict[str, float]
    bad: dict[bool, Counter[str]] = field(default_factory=lambda: {True: Counter(), False: Counter()})
    n: Counter[bool] = field(default_factory=Counter)
    before: Counts = Counts()  # noqa: RUF009  # immutable
    strata: dict[str, list[dict[bool, list[float]]]] = field(default_factory=dict)

    def step(self) -> None:
        """A new share: a stratum of its own."""
        for name in ("latency", "cost"):
            self.strata.setdefault(name, []).append({True: [0.0] * 3, False: [0.0] * 3})

    def take(self, requests: int, share: float) -> None:
        """So many more requests."""
        canary = int(self.rng.binomial(requests, share))
        for side, n in ((True, canary), (False, requests - canary)):
            self.n[side] += n
            for name, rate in RATES.items():
                self.bad[side][name] += int(self.rng.binomial(n, rate + (self.worse.get(name, 0.0) if side else 0.0)))
            for name in ("latency", "cost"):
                x = self.rng.standard_normal(n) * 0.7 + (np.log1p(self.worse.get(name, 0.0)) if side else 0.0)
                if name == "cost":
                    x = np.minimum(np.exp(x), np.exp(2.5758 * 0.7))
                sums = self.strata[name][-1][side]
                sums[0], sums[1], sums[2] = sums[0] + n, sums[1] + float(x.sum()), sums[2] + float((x * x).sum())

    def counts(self, side: bool) -> Counts:
        """An arm so far."""
        n, bad = self.n[side], self.bad[side]
        return _counts(n, bad)

    def moments(self) -> dict[str, tuple[tuple[Moments, Moments], ...]]:
        """Both means, by share."""
        return {
            name: tuple((_moments(one[True]), _moments(one[False])) for one in strata)
            for name, strata in self.strata.items()
        }


def _counts(n: int, bad: Counter[str]) -> Counts:
    return Counts(
        requests=n,
        failures=bad["failures"],
        refusals=bad["refusals"],
        structured=n,
        invalid_first=bad["invalid_first"],
        guarded=bad["guarded"],
        answered=n,
        scores={"helpful": (bad["helpful"], n)},
    )


def _moments(sums: list[float]) -> Moments:
    n = int(sums[0])
    return Moments(n=n, groups=n, total=sums[1], squares=sums[2], crossed=sums[1], sizes=float(n)) if n else EMPTY


def run(worse: dict[str, float], seed: int) -> tuple[str, int]:
    """How a canary ends and after how many requests in all."""
    rng = np.random.default_rng(seed)
    arms = Arms(rng, worse)
    before = Counter({name: int(rng.binomial(2_000, rate)) for name, rate in RATES.items()})
    baseline = _counts(2_000, before)
    share, seen, stepped = POLICY.steps[0], 0, {True: Counts(), False: Counts()}
    arms.step()
    limits: dict[str, float] = {}
    while seen < MOST:
        more = max(20, seen // 20)
        arms.take(more, share)
        seen += more
        canary, stable = arms.counts(True), arms.counts(False)
        decision = decide(
            Seen(
                share=share,
                canary=canary,
                stable=baseline + stable,
                beside=stable,
                canary_step=Counts(requests=canary.requests - stepped[True].requests),
                stable_step=Counts(requests=stable.requests - stepped[False].requests),
                step_s=1.0,
                strata=arms.moments(),
                limits=limits,
            ),
            POLICY,
        )
        limits = decision.limits
        if decision.kind in ("abort", "promote"):
            return decision.kind, seen
        if decision.kind == "step" and decision.share is not None:
            share, stepped = decision.share, {True: canary, False: stable}
            arms.step()
    return "inconclusive", seen


SCENES: dict[str, tuple[dict[str, float], int]] = {  # what is wrong, and which part of the canaries is run
    "nothing (A/A)": ({}, 1),
    "failures at the margin, +2 pp": ({"failures": 0.02}, 2),
    "the score at the margin, +5 pp bad": ({"helpful": 0.05}, 2),
    "latency at the margin, +25 %": ({"latency": 0.25}, 2),
    "cost at the margin, +25 %": ({"cost": 0.25}, 2),
    "failures 2 → 10 %": ({"failures": 0.08}, 10),
    "schema misses 3 → 20 %": ({"invalid_first": 0.17}, 10),
    "bad scores 10 → 30 %": ({"helpful": 0.2}, 10),
    "latency × 2": ({"latency": 1.0}, 10),
    "cost × 2": ({"cost": 1.0}, 10),
}


def table(runs: int) -> str:
    """Markdown: how canaries end by what is wrong with them."""
    lines = [
        "| what is wrong | canaries | aborted | promoted | inconclusive | requests in all until half have ended |",
        "|---|---|---|---|---|---|",
    ]
    for name, (worse, part) in SCENES.items():
        some = max(1, runs // part)
        found = [run(worse, seed) for seed in range(some)]
        kinds = Counter(kind for kind, _ in found)
        shares = " | ".join(f"{kinds[kind] / some * 100:.3g} %" for kind in ("abort", "promote", "inconclusive"))
        ends = sorted(requests for _, requests in found)
        lines.append(f"| {name} | {some:,} | {shares} | {ends[some // 2]:,} |")
        print(lines[-1], flush=True)
    return "\n".join(lines)
