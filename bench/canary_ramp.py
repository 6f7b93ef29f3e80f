"""Whole canaries from 1 % to their end, decided by the product's own code on streams of requests.

Every guardrail is watched at once: failures, refusals, schema, guardrails, a score of 0 and 1, latency, cost. A canary
is looked at after its first requests often and later every 3 % of what it has seen.
"""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pilothouse.config.canary import CanaryPolicy, Margins
from pilothouse.releases.arms import Counts, Seen
from pilothouse.releases.decision import decide
from pilothouse.stats.contrast import Moments

RATES = {"failed": 0.02, "refused": 0.01, "invalid": 0.03, "guarded": 0.01, "helpful": 0.1}
MEANS = ("latency", "cost")
MOST = 120_000  # requests, after which it is inconclusive
POLICY = CanaryPolicy(min_seconds=0, margins=Margins(scores={"helpful": 0.05}), auto=True)
EMPTY = Moments()
LUMPY = "nothing, and what is bad lies together in sessions of 10"


@dataclass
class Arms:
    """What a canary and its stable release have shown so far. `worse`: what is added to the canary's rates, and the
    factors of its latency and cost."""

    rng: np.random.Generator
    worse: dict[str, float]
    bad: dict[bool, Counter[str]] = field(default_factory=lambda: {True: Counter(), False: Counter()})
    session: int = 1
    n: Counter[bool] = field(default_factory=Counter)
    before: Counts = Counts()  # noqa: RUF009  # immutable
    strata: dict[str, list[dict[bool, list[float]]]] = field(default_factory=dict)

    def step(self) -> None:
        """A new share: a stratum of its own."""
        for name in (*RATES, *MEANS):
            self.strata.setdefault(name, []).append({True: [0.0] * 3, False: [0.0] * 3})

    def take(self, requests: int, share: float) -> None:
        """So many more requests, in sessions of `self.session`."""
        sessions = max(1, requests // self.session)
        canary = int(self.rng.binomial(sessions, share))
        for side, groups in ((True, canary), (False, sessions - canary)):
            n = groups * self.session
            self.n[side] += n
            for name, rate in RATES.items():
                bad = self._bad(groups, rate + (self.worse.get(name, 0.0) if side else 0.0))
                self.bad[side][name] += int(bad.sum())
                self._add(name, side, groups, bad)
            for name in MEANS:
                x = self.rng.standard_normal((groups, self.session)) * 0.7
                more = self.worse.get(name, 0.0) if side else 0.0
                if name == "cost":  # cut at its quantile of 99.5 %
                    x = np.minimum(np.exp(x), np.exp(2.5758 * 0.7)) * (1 + more)
                else:
                    x += np.log1p(more)
                self._add(name, side, groups, x.sum(axis=1))

    def _bad(self, groups: int, rate: float) -> NDArray[np.float64]:
        """Bad requests of each session. In sessions of several they lie together: half of a session's, or none."""
        if self.session == 1:
            return (self.rng.random(groups) < rate).astype(float)
        struck = self.rng.random(groups) < 2 * rate
        return self.rng.binomial(self.session, 0.5, size=groups) * struck.astype(float)

    def _add(self, name: str, side: bool, groups: int, sums: NDArray[np.float64]) -> None:
        of = self.strata[name][-1][side]
        of[0], of[1], of[2] = of[0] + groups, of[1] + float(sums.sum()), of[2] + float((sums * sums).sum())

    def counts(self, side: bool) -> Counts:
        """An arm so far."""
        n, bad = self.n[side], self.bad[side]
        return _counts(n, bad)

    def moments(self) -> dict[str, tuple[tuple[Moments, Moments], ...]]:
        """Both means, by share."""
        return {
            name: tuple((_moments(one[True], self.session), _moments(one[False], self.session)) for one in strata)
            for name, strata in self.strata.items()
        }


def _counts(n: int, bad: Counter[str]) -> Counts:
    return Counts(
        requests=n,
        failures=bad["failed"],
        refusals=bad["refused"],
        structured=n,
        invalid_first=bad["invalid"],
        guarded=bad["guarded"],
        answered=n,
        scores={"helpful": (bad["helpful"], n)},
    )


def _moments(of: list[float], session: int) -> Moments:
    groups = int(of[0])
    if not groups:
        return EMPTY
    return Moments(
        n=groups * session,
        groups=groups,
        total=of[1],
        squares=of[2],
        crossed=of[1] * session,
        sizes=float(groups * session**2),
    )


def run(worse: dict[str, float], seed: int, session: int = 1) -> tuple[str, int, int]:
    """How a canary ends, after how many requests in all, and on the canary."""
    rng = np.random.default_rng(seed)
    arms = Arms(rng, worse, session=session)
    before = Counter({name: int(rng.binomial(2_000, rate)) for name, rate in RATES.items()})
    baseline = _counts(2_000, before)
    share, seen, stepped = POLICY.steps[0], 0, {True: Counts(), False: Counts()}
    arms.step()
    limits: dict[str, float] = {}
    while seen < MOST:
        more = max(20, seen // 33)
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
            return decision.kind, seen, canary.requests
        if decision.kind == "step" and decision.share is not None:
            share, stepped = decision.share, {True: canary, False: stable}
            arms.step()
    return "inconclusive", seen, arms.n[True]


SCENES: dict[str, tuple[dict[str, float], int]] = {  # what is wrong, and which part of the canaries is run
    "nothing (A/A)": ({}, 1),
    LUMPY: ({}, 5),
    "failures at the margin, +2 pp": ({"failed": 0.02}, 5),
    "the score at the margin, +5 pp bad": ({"helpful": 0.05}, 5),
    "latency at the margin, +25 %": ({"latency": 0.25}, 5),
    "cost at the margin, +25 %": ({"cost": 0.25}, 5),
    "failures 2 → 5 %": ({"failed": 0.03}, 20),
    "failures 2 → 10 %": ({"failed": 0.08}, 20),
    "failures 2 → 50 %": ({"failed": 0.48}, 20),
    "schema misses 3 → 20 %": ({"invalid": 0.17}, 20),
    "bad scores 10 → 30 %": ({"helpful": 0.2}, 20),
    "latency × 2": ({"latency": 1.0}, 20),
    "cost × 2": ({"cost": 1.0}, 20),
}


def table(runs: int) -> str:
    """Markdown: how canaries end by what is wrong with them."""
    lines = [
        "| what is wrong | canaries | aborted | promoted | inconclusive | half ended after requests | the canary's |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, (worse, part) in SCENES.items():
        some = max(1, runs // part)
        found = [run(worse, seed, session=10 if name == LUMPY else 1) for seed in range(some)]
        kinds = Counter(kind for kind, _, _ in found)
        shares = " | ".join(f"{kinds[kind] / some * 100:.3g} %" for kind in ("abort", "promote", "inconclusive"))
        seen, hit = (sorted(one[i] for one in found)[some // 2] for i in (1, 2))
        lines.append(f"| {name} | {some:,} | {shares} | {seen:,} | {hit:,} |")
        print(lines[-1], flush=True)
    return "\n".join(lines)
