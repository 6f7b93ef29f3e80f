"""A provider's model over time: what it said it was, and how it answered the same questions."""

import msgspec


class Sighting(msgspec.Struct, frozen=True, kw_only=True):
    """A model that was asked for, and what the provider said it served. Times in µs since 1970."""

    provider: str
    model: str
    served_model: str
    fingerprint: str
    first_us: int
    last_us: int


class ProbeDay(msgspec.Struct, frozen=True, kw_only=True):
    """A day's answers to the pinned questions. `p`: of the G-test against the days `compared_with`; None: first days.

    `answers`: question's id → class of its answer.
    """

    provider: str
    model: str
    day: str  # UTC, 2026-11-27
    ts_us: int
    answers: dict[str, str]
    compared_with: str = ""
    p: float | None = None
