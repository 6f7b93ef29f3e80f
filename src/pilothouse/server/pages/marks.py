"""Geometry of the small drawings: sparklines, histograms, lanes. Pure functions to SVG attributes, no inline style."""

import math
from collections.abc import Sequence

import msgspec

WIDTH = 480  # units of every sparkline's view box; the browser stretches it to its column
HEIGHT = 48
_PAD = 4


class Spark(msgspec.Struct, frozen=True):
    """A sparkline: path of the line, path of the area beneath, dots where a point stands alone."""

    line: str
    area: str
    dots: tuple[tuple[int, int], ...]
    top: float
    values: str  # comma-separated, empty where unknown: what the reader sees on hover

    @property
    def empty(self) -> bool:
        """No bucket has a value."""
        return not self.line and not self.dots


def spark(values: Sequence[float | None], floor: float | None = 0.0, top: float | None = None) -> Spark:
    """Lines through the known values, broken where a bucket is unknown.

    The axis runs from `floor` (None: the lowest value, less a tenth of the spread) to `top` (None: the highest).
    """
    known = [v for v in values if v is not None]
    if not known:
        return Spark("", "", (), 0.0, "")
    high = max(known) if top is None else top
    low = floor if floor is not None else min(known) - (max(known) - min(known) or abs(max(known)) or 1.0) * 0.1
    extent = (high - low) or 1.0
    step = WIDTH / max(1, len(values) - 1)

    def place(i: int, v: float) -> tuple[int, int]:
        inside = min(1.0, max(0.0, (v - low) / extent))
        return round(i * step), round(HEIGHT - _PAD - inside * (HEIGHT - 2 * _PAD))

    lines, areas, dots = [], [], []
    for run in _runs(values):
        at = [place(i, v) for i, v in run]
        if len(at) == 1:
            dots.append(at[0])
            continue
        body = "L".join(f"{x} {y}" for x, y in at)
        lines.append(f"M{body}")
        areas.append(f"M{at[0][0]} {HEIGHT}L{body}L{at[-1][0]} {HEIGHT}Z")
    return Spark("".join(lines), "".join(areas), tuple(dots), high, ",".join(map(_compact, values)))


def _compact(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _runs(values: Sequence[float | None]) -> list[list[tuple[int, float]]]:
    runs: list[list[tuple[int, float]]] = [[]]
    for i, v in enumerate(values):
        if v is None:
            if runs[-1]:
                runs.append([])
        else:
            runs[-1].append((i, v))
    return [run for run in runs if run]


def place_us(ts_us: int, since_us: int, until_us: int, width: int = WIDTH) -> float:
    """The x of a moment on an axis from `since_us` to `until_us`, kept inside it."""
    return round(min(1.0, max(0.0, (ts_us - since_us) / max(1, until_us - since_us))) * width, 1)


class Tick(msgspec.Struct, frozen=True):
    """A labelled line of an axis."""

    at: float
    ts_us: int
    form: str  # of `quantities.stamp`


_STEPS_S = (60, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 21_600, 43_200, 86_400, 172_800, 604_800)


def time_ticks(since_us: int, until_us: int, width: int = WIDTH, most: int = 7) -> tuple[Tick, ...]:
    """At most `most` round moments between the ends."""
    length_s = max(1, (until_us - since_us) // 1_000_000)
    step_s = next((s for s in _STEPS_S if length_s / s <= most), _STEPS_S[-1] * math.ceil(length_s / 604_800 / most))
    step = step_s * 1_000_000
    form = "minute" if length_s <= 86_400 else "date"
    first = -(-since_us // step) * step
    return tuple(Tick(place_us(ts, since_us, until_us, width), ts, form) for ts in range(first, until_us, step))


class Bar(msgspec.Struct, frozen=True):
    """A bar of the latency histogram. `x`, `width` of 0 … 480; heights of 0 … 48."""

    x: float
    width: float
    height: float
    failed_height: float


def bars(counts: Sequence[int], failed: Sequence[int]) -> tuple[Bar, ...]:
    """One bar per count, heights by the square root so that a rare tail stays visible."""
    if not counts:
        return ()
    width = WIDTH / len(counts)
    top = math.sqrt(max([*counts, 1]))

    def height(n: int) -> float:
        return round(max(2.0, math.sqrt(n) / top * (HEIGHT - 2)), 1) if n else 0.0

    return tuple(
        Bar(round(i * width + 1, 1), round(width - 2, 1), height(n), round(height(n) * bad / n, 1) if bad else 0.0)
        for i, (n, bad) in enumerate(zip(counts, failed, strict=True))
    )
