"""Histograms over the matches of a filter: bounds that suit a person's eye, counts, and how many failed."""

from collections.abc import Sequence

import msgspec

# Lower bounds of all bars but the first, which begins at 0.
LATENCY_MS = (10.0, 20.0, 50.0, 100.0, 200.0, 300.0, 500.0, 700.0, 1_000.0, 1_500.0, 2_000.0, 3_000.0, 5_000.0,
              7_000.0, 10_000.0, 20_000.0, 30_000.0, 60_000.0)  # fmt: skip
COST_USD = tuple(base * 10.0**power for power in range(-6, 1) for base in (1.0, 2.0, 5.0))
BINS: dict[str, tuple[float, ...]] = {
    "latency": LATENCY_MS,
    "cost": tuple(float(f"{bound:.0e}") for bound in COST_USD),
}


class Bin(msgspec.Struct, frozen=True):
    """Matches with `low` ≤ value < `high`; `high` None: open."""

    low: float
    high: float | None
    n: int = 0
    failed: int = 0


def bin_of(column: str, bounds: Sequence[float]) -> str:
    """SQL for the index of the bar that a known value falls in."""
    whens = " ".join(f"WHEN {column} < {bound!r} THEN {index}" for index, bound in enumerate(bounds))
    return f"CASE {whens} ELSE {len(bounds)} END"


def bins(bounds: Sequence[float], counts: dict[int, tuple[int, int]]) -> tuple[Bin, ...]:
    """Bars from the first to the last that has any, and one empty bar around them; nothing where all are empty."""
    if not counts:
        return ()
    lows, highs = (0.0, *bounds), (*bounds, None)
    first, last = max(0, min(counts) - 1), min(len(bounds), max(counts) + 1)
    return tuple(Bin(lows[i], highs[i], *counts.get(i, (0, 0))) for i in range(first, last + 1))
