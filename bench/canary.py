"""`python -m bench.canary`: how often a canary's rules are wrong and how soon they are right, over many streams.

--runs N    canaries per line (default 2,000; a quarter of it where something is wrong with the canary)
--write     put the tables into docs/canary.md

Every rule looks after every request. Fixed seeds: the same command gives the same figures. The rules are the
product's in numpy, held to its own functions by tests/stats/test_canary_simulation.py; the whole decision
(bench/canary_ramp.py) is the product's own code.
"""

import argparse
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln

from pilothouse.config.canary import CanaryPolicy
from pilothouse.stats.sequential import Bound

PAGE = Path(__file__).resolve().parent.parent / "docs" / "canary.md"
Floats = NDArray[np.float64]

POLICY = CanaryPolicy()
PARTS = 7  # of α: six guardrails that are known beforehand, and one for the scores that are not
BASE, BEFORE = 0.02, 2_000  # failures of the stable release, and its requests before the canary
EVERY = 20  # requests between two looks whether a rate is cleared: that takes longest to compute
CHUNK = 50  # canaries at a time
FEWEST_BAD = 10  # on the canary, under which the bounds beside the stable release abort nothing
SPREAD = 0.7  # of the logarithm of latency
GROWTHBOOK, PLANNED = 5_000, 1_500  # sizes at which the intervals are narrowest
CHECK, CHECKS = 60, 5  # canary requests in an interval of Flagger's, and its `threshold` of failed checks


@dataclass
class Stream:
    """Chunks of canaries beside their stable releases. Arrays are (canary, request): counts so far, of each arm."""

    n: tuple[Floats, Floats]  # (canary, stable)
    bad: tuple[Floats, Floats]
    before: Floats  # bad ones of the stable release before the canary, of `BEFORE`


def streams(rates: tuple[float, float], share: float, shape: tuple[int, int], rng: np.random.Generator) -> Stream:
    """`rates` of bad requests: of the canary and of the stable release."""
    on = rng.random(shape) < share
    bad = rng.random(shape) < np.where(on, *rates)
    return Stream(
        n=(np.cumsum(on, axis=1, dtype=float), np.cumsum(~on, axis=1, dtype=float)),
        bad=(np.cumsum(bad & on, axis=1, dtype=float), np.cumsum(bad & ~on, axis=1, dtype=float)),
        before=rng.binomial(BEFORE, rates[1], size=(shape[0], 1)).astype(float),
    )


def wilson_high(bad: Floats, n: Floats) -> Floats:
    """The upper end of Wilson's 95 % interval."""
    q = 1.959963984540054
    share, scale = bad / n, 1 + q * q / n
    half = q / scale * np.sqrt(share * (1 - share) / n + q * q / (4 * n * n))
    return (share + q * q / (2 * n)) / scale + half


def log_tripwire(bad: Floats, n: Floats, m: Floats) -> Floats:
    """The logarithm of `stats.sequential.tripwire_e_value`; m below 0.2."""
    good, down = n - bad, np.log1p(-m)
    grid = [k * m for k in (1.5, 2.0, 3.0, 5.0)] + [np.full_like(m, q) for q in (0.3, 0.5, 0.9)]
    logs = [bad * (np.log(q) - np.log(m)) + good * (np.log1p(-q) - down) for q in grid]
    top = np.maximum.reduce(logs)
    return top + np.log(sum(np.exp(one - top) for one in logs) / len(logs))


def rate_bound(bad: Floats, n: Floats, alpha: float, *, high: bool) -> Floats:
    """One end of `stats.rate_sequence.rate_sequence`."""
    most = betaln(0.5 + bad, 10.0 + n - bad) - betaln(0.5, 10.0) + math.log(alpha)
    within = np.where(n > 0, bad / np.maximum(n, 1), 0.5).clip(1e-12, 1 - 1e-12)
    outside = np.full_like(within, 1 - 1e-12 if high else 1e-300)
    for _ in range(32):
        middle = (within + outside) / 2
        inside = bad * np.log(middle) + (n - bad) * np.log1p(-middle) > most
        within, outside = np.where(inside, middle, within), np.where(inside, outside, middle)
    return np.where(n > 0, outside, 1.0 if high else 0.0)


def first(hit: NDArray[np.bool_], n: Floats | None = None) -> Floats:
    """Where each row is true first: requests in all, or `n` there; infinite where never."""
    at = hit.argmax(axis=1)
    counted = at + 1.0 if n is None else np.take_along_axis(n, at[:, None], 1)[:, 0]
    return np.where(hit.any(axis=1), counted, np.inf)


def trips(stream: Stream) -> NDArray[np.bool_]:
    """Pilothouse aborts."""
    rate = wilson_high(stream.before + stream.bad[1], BEFORE + stream.n[1])
    limit = np.maximum.accumulate(np.maximum(rate, POLICY.floor), axis=1) + POLICY.margins.failed
    tripped = log_tripwire(stream.bad[0], stream.n[0], limit) >= math.log(2 * PARTS / POLICY.alpha)
    return tripped | beside(stream, POLICY.margins.failed, abort=True)


def beside(stream: Stream, margin: float, *, abort: bool) -> NDArray[np.bool_]:
    """The bounds of the difference: the lower one over half the margin, or with `abort` off the upper below it."""
    arms = [(n, bad, bad) for n, bad in zip(stream.n, stream.bad, strict=True)]
    (n_t, s_t, _), (n_c, s_c, _) = ((np.maximum(n, 2.0), s, q) for n, s, q in arms)
    m_t, m_c = s_t / n_t, s_c / n_c
    error = np.sqrt(m_t * (1 - m_t) / (n_t - 1) + m_c * (1 - m_c) / (n_c - 1))
    size = 4 * n_t * n_c / (n_t + n_c)
    enough = np.minimum(*stream.n) >= 20
    if abort:
        above = m_t - m_c - margin / 2 > error * radius(size, POLICY.alpha / PARTS / 2)
        return above & enough & (stream.bad[0] >= FEWEST_BAD)
    return (m_t - m_c + error * radius(size, POLICY.alpha_promote) < margin) & enough


def clears(stream: Stream) -> NDArray[np.bool_]:
    """Pilothouse has it shown that failures rose by less than the margin."""
    at = slice(EVERY - 1, None, EVERY)
    error = POLICY.alpha_promote / 2
    high = rate_bound(stream.bad[0][:, at], stream.n[0][:, at], error, high=True)
    low = rate_bound(stream.bad[1][:, at], stream.n[1][:, at], error, high=False)
    exact = np.repeat((high - low < POLICY.margins.failed) & (stream.n[0][:, at] >= POLICY.min_requests), EVERY, axis=1)
    return exact & beside(stream, POLICY.margins.failed, abort=False)


def excludes_zero(stream: Stream, planned: float, alpha: float = 0.05) -> NDArray[np.bool_]:
    """The two-sided asymptotic confidence sequence of the difference lies above 0."""
    low, _ = two_sided(stream, planned, alpha)
    return low > 0


def two_sided(stream: Stream, planned: float, alpha: float) -> tuple[Floats, Floats]:
    """Its ends, by the formula of Waudby-Smith and others for two sides."""
    n_t, n_c = (np.maximum(n, 1) for n in stream.n)
    p_t, p_c = stream.bad[0] / n_t, stream.bad[1] / n_c
    n = n_t + n_c
    sigma = np.sqrt(n * (p_t * (1 - p_t) / n_t + p_c * (1 - p_c) / n_c))
    rho2 = (-2 * math.log(alpha) + math.log(1 - 2 * math.log(alpha))) / planned
    radius = sigma * np.sqrt(2 * (n * rho2 + 1) / (n * n * rho2) * np.log(np.sqrt(n * rho2 + 1) / alpha))
    enough = np.minimum(stream.n[0], stream.n[1]) >= 20
    return np.where(enough, p_t - p_c - radius, -1.0), np.where(enough, p_t - p_c + radius, 1.0)


def flagger(stream: Stream, most: float) -> NDArray[np.bool_]:
    """An interval's share of failures is above `most` for the fifth time."""
    check = np.floor(stream.n[0] / CHECK)
    ends = np.diff(check, axis=1, prepend=0) > 0
    hits = np.zeros_like(ends)
    for row in range(len(ends)):
        at = np.flatnonzero(ends[row])
        failed = np.diff(stream.bad[0][row, at], prepend=0) / CHECK > most
        fifth = np.flatnonzero(np.cumsum(failed) >= CHECKS)
        if len(fifth):
            hits[row, at[fifth[0]] :] = True
    return hits


RULES: dict[str, Callable[[Stream], NDArray[np.bool_]]] = {
    "Pilothouse": trips,
    "Interval of 1,500, α 5 %": lambda stream: excludes_zero(stream, PLANNED),
    "GrowthBook, α 5 %": lambda stream: excludes_zero(stream, GROWTHBOOK),
    "Flagger, at least 99 %": lambda stream: flagger(stream, 0.01),
    "Flagger, at least 96 %": lambda stream: flagger(stream, 0.04),
}


def detection(rates: tuple[float, float], share: float, runs: int, most: int, seed: int) -> dict[str, Floats]:
    """Requests in all until each rule aborts; `clears` is when Pilothouse would let it pass."""
    rng = np.random.default_rng(seed)
    found: dict[str, list[Floats]] = {name: [] for name in (*RULES, "canary requests", "clears")}
    for start in range(0, runs, CHUNK):
        stream = streams(rates, share, (min(CHUNK, runs - start), most), rng)
        for name, rule in RULES.items():
            found[name].append(first(rule(stream)))
        found["canary requests"].append(first(trips(stream), stream.n[0]))
        abort, clear = first(trips(stream)), first(clears(stream))
        found["clears"].append(np.where(clear < abort, clear, np.inf))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def means(
    effect: float, share: float, runs: int, most: int, seed: int, *, relative: bool = False, session: int = 1
) -> dict[str, Floats]:
    """Requests until the bounds of a mean abort, and until they clear it; latency, or with `relative` cost.

    `session` requests of a session share half of their variance; then bounds over sessions are those of the product,
    and `naive` those that take each request for itself.
    """
    rng = np.random.default_rng(seed)
    margin = 0.25
    found: dict[str, list[Floats]] = {"aborts": [], "clears": [], "naive": []}
    for start in range(0, runs, CHUNK):
        shape = (min(CHUNK, runs - start), most // session)
        on = rng.random(shape) < share
        alike = rng.standard_normal(shape) * SPREAD * math.sqrt(0.5 if session > 1 else 0.0)
        own = SPREAD * math.sqrt(0.5 if session > 1 else 1.0)
        each = [alike + own * rng.standard_normal(shape) for _ in range(session)]
        if relative:  # cut at its quantile of 99.5 %
            each = [np.minimum(np.exp(one), math.exp(2.5758 * SPREAD)) * (1 + effect * on) for one in each]
        else:
            each = [one + math.log1p(effect) * on for one in each]
        total, squares = sum(each), sum(one * one for one in each)
        for name, x, xx in (("product", total / session, (total / session) ** 2), ("naive", total, squares)):
            per = 1 if name == "product" else session
            arms = [(np.cumsum(k, 1) * per, np.cumsum(x * k, 1), np.cumsum(xx * k, 1)) for k in (on, ~on)]
            low, high, _size = bounds(arms, margin, relative=relative)
            if name == "product":
                found["aborts"].append(first(low) * session)
                clear, abort = first(high), first(low)
                found["clears"].append(np.where(clear < abort, clear, np.inf) * session)
            else:
                found["naive"].append(first(low) * session)
    return {name: np.concatenate(parts) for name, parts in found.items()}


def bounds(
    arms: list[tuple[Floats, Floats, Floats]], margin: float, *, relative: bool
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], Floats]:
    """Where a mean aborts and where it is cleared, of (n, Σx, Σx²) of the canary and the stable release."""
    (n_t, s_t, q_t), (n_c, s_c, q_c) = ((np.maximum(n, 2.0), s, q) for n, s, q in arms)
    m_t, m_c = s_t / n_t, s_c / n_c
    v_t = np.maximum(q_t / n_t - m_t**2, 0) / (n_t - 1)
    v_c = np.maximum(q_c / n_c - m_c**2, 0) / (n_c - 1)
    tolerated, allowed = math.log1p(margin / 2), math.log1p(margin)
    size = 4 * n_t * n_c / (n_t + n_c)
    if relative:
        m_t, m_c = np.maximum(m_t, 1e-9), np.maximum(m_c, 1e-9)
        spread = np.maximum(v_t * n_t / m_t**2, v_c * n_c / m_c**2)
        d, error = np.log(m_t / m_c), np.sqrt(spread * (1 / n_t + 1 / n_c))
    else:
        d, error = m_t - m_c, np.sqrt(v_t + v_c)
    enough = np.minimum(arms[0][0], arms[1][0]) >= 20
    abort = (d - tolerated > error * radius(size, POLICY.alpha / PARTS)) & enough
    return abort, (d + error * radius(size, POLICY.alpha_promote) < allowed) & enough, size


def radius(size: Floats, alpha: float) -> Floats:
    """`stats.sequential.Bound.radius` of arrays."""
    bits = -2 * math.log(alpha)
    scaled = size * (bits + math.log1p(bits)) / Bound(alpha).planned
    return np.sqrt(2 * (scaled + 1) / scaled * np.log1p(np.sqrt(scaled + 1) / (2 * alpha)))


def within(found: Floats) -> str:
    """How many ended, and after how many requests half of all had."""
    share = f"{np.isfinite(found).mean() * 100:.3g} %"
    half = np.median(found)
    return f"{share}, {half:,.0f}" if np.isfinite(half) else share


def rates_table(runs: int) -> str:
    """Markdown: rules by what is wrong with the canary."""
    lines = [
        "| failures | share | canary requests | " + " | ".join(RULES) + " | cleared |",
        "|" + "---|" * (4 + len(RULES)),
    ]
    for seed, (rate, share, most) in enumerate(
        [(r, s, m) for s, m in ((0.1, 20_000), (0.5, 10_000)) for r in (0.02, 0.04, 0.05, 0.1, 0.2, 0.5)]
    ):
        some = runs if rate <= 0.04 else runs // 4
        found = detection((rate, BASE), share, some, most, seed)
        cells = [within(found[name]) for name in ("canary requests", *RULES, "clears")]
        lines.append(f"| 2 → {rate * 100:g} % | {share * 100:g} % | " + " | ".join(cells) + " |")
        print(lines[-1], flush=True)
    return "\n".join(lines)


def means_table(runs: int) -> str:
    """Markdown: bounds of means by how much worse the canary is."""
    lines = [
        "| mean | share | aborted | cleared | aborted were each request counted for itself |",
        "|---|---|---|---|---|",
    ]
    cases = [("latency", False, 1), ("cost", True, 1), ("latency, sessions of 10", False, 10)]
    for name, relative, session in cases:
        for share in (0.1, 0.5):
            for effect in (0.0, 0.25, 0.5, 1.0):
                if session > 1 and effect not in (0.0, 0.25):
                    continue
                some = runs if effect <= 0.25 else runs // 4
                found = means(effect, share, some, 20_000, 7, relative=relative, session=session)
                naive = within(found["naive"]) if session > 1 else "–"
                lines.append(
                    f"| {name} {effect * 100:+g} % | {share * 100:g} % | {within(found['aborts'])} | "
                    f"{within(found['clears'])} | {naive} |"
                )
                print(lines[-1], flush=True)
    return "\n".join(lines)


def write(name: str, table: str) -> None:
    """Replace what stands between the page's markers for `name`."""
    text = PAGE.read_text(encoding="utf-8")
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if begin not in text:
        raise SystemExit(f"{PAGE} has no marker {begin}")
    made = f"{begin}\n{table}\n{end}"
    PAGE.write_text(
        re.sub(re.escape(begin) + ".*?" + re.escape(end), lambda _: made, text, flags=re.DOTALL), encoding="utf-8"
    )


def main() -> None:
    """Run it, print it as Markdown, and write it into the docs with --write."""
    from bench import canary_ramp

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2_000)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--only", choices=["rates", "means", "ramp"])
    options = parser.parse_args()
    for name, table in (("rates", rates_table), ("means", means_table), ("ramp", canary_ramp.table)):
        if options.only in (None, name):
            made = table(options.runs)
            print(f"\n## {name}\n\n{made}\n", flush=True)
            if options.write:
                write(name, made)


if __name__ == "__main__":
    main()
