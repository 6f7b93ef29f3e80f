"""Lanes over time: which release an environment pointed at, as bars on the axis that outcomes share."""

import msgspec

from pilothouse.server.pages import marks
from pilothouse.server.pages.context import LaneSpan, ReleaseBoard
from pilothouse.server.pages.overview import filled

WIDTH = 1_000


class LaneBar(msgspec.Struct, frozen=True):
    """A stretch on a lane; in units of a thousandth of the window. `shade` tells neighbours apart."""

    span: LaneSpan
    x: float
    width: float
    shade: int


class Lane(msgspec.Struct, frozen=True):
    """An environment's bars: stable above, canary beneath."""

    env: str
    stable: tuple[LaneBar, ...]
    canary: tuple[LaneBar, ...]


class Outcome(msgspec.Struct, frozen=True):
    """A measure of prod beneath the lanes."""

    name: str
    form: str
    spark: marks.Spark


def lanes(board: ReleaseBoard) -> tuple[Lane, ...]:
    """One lane per environment that has a pointer, prod first."""
    order = {"prod": 0, "staging": 1, "dev": 2}
    names = sorted({span.env for span in board.lanes}, key=lambda env: order.get(env, 9))
    return tuple(
        Lane(
            env,
            tuple(_bar(board, s) for s in board.lanes if s.env == env and s.kind == "stable"),
            tuple(_bar(board, s) for s in board.lanes if s.env == env and s.kind == "canary"),
        )
        for env in names
    )


def _bar(board: ReleaseBoard, span: LaneSpan) -> LaneBar:
    x = marks.place_us(span.from_us, board.since_us, board.until_us, WIDTH)
    end = WIDTH if span.to_us is None else marks.place_us(span.to_us, board.since_us, board.until_us, WIDTH)
    return LaneBar(span, x, max(3.0, round(end - x - 1.5, 1)), span.release % 2)


def outcomes(board: ReleaseBoard) -> tuple[Outcome, ...]:
    """Traffic, latency, errors and quality of prod over the lanes' window."""
    points = filled(board.points, board.since_us, board.until_us, board.bucket_s)
    rates = [p.errors / p.requests if p.requests else None for p in points]
    return (
        Outcome("Requests", "n", marks.spark([p.requests for p in points])),
        Outcome("p95 latency", "ms", marks.spark([p.p95_ms for p in points])),
        Outcome("Error rate", "share", marks.spark(rates, top=max([0.02, *(r for r in rates if r is not None)]))),
        Outcome("Quality", "share", marks.spark([p.quality for p in points], floor=None, top=1.0)),
    )
