"""Limits and budgets: how much of what, counted by whom. A route's own are part of its policy, the others the app's."""

from typing import Literal

import msgspec

Dimension = Literal["key", "route", "segment", "model", "env", "app", "session", "user"]
Period = Literal["request", "trace", "hour", "day", "month"]
PERIOD_S: dict[str, float] = {"hour": 3600.0, "day": 86400.0, "month": 2_592_000.0}  # days and months in UTC


class Rate(msgspec.Struct, frozen=True):
    """`amount` per `per_s` seconds; as much may come at once (GCRA with a burst of `amount`)."""

    amount: float
    per_s: float


class Spend(msgspec.Struct, frozen=True):
    """At most `usd` per `per`: a calendar hour, day or month in UTC, a request with all its attempts, or a trace."""

    usd: float
    per: Period


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """One rule. A counter of its own for every combination of the values of `by`; empty: one for all.

    `where`: only requests with these values (dimension → value). `soft`: shares of a budget that are announced once
    per period when they are reached. `shadow`: counted and recorded as if it held, but nothing is refused.
    """

    name: str
    by: tuple[Dimension, ...] = ("route",)
    where: dict[str, str] = {}
    requests: Rate | None = None
    tokens: Rate | None = None
    concurrency: int | None = None
    spend: tuple[Spend, ...] = ()
    soft: tuple[float, ...] = (0.8, 0.95)
    shadow: bool = False
