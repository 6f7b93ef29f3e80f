"""How the catalogue's modules write an item down: one call per line of the checklist."""

from typing import Any

from pilothouse.domain.finding import Item, Limit

SECOND = 1_000.0  # ms
HOUR = 3_600 * SECOND
DAY = 24 * HOUR

RELEASES = "/releases?route={route}&env={env}"
TRACES = "/traces?route={route}&env={env}"
REVIEW = "/review?route={route}&env={env}"
EVALS = "/evals.json?route={route}"
ALERTS = "/alerts?route={route}"
AUDIT = "/api/v1/audit/verify"
KEYS = "/api/v1/keys"
ROUTES = "/?route={route}"


def below(warn: float | None, fail: float | None, unit: Any = "share") -> Limit:
    """Bad when the value falls below."""
    return Limit(warn=warn, fail=fail, worse="below", unit=unit)


def above(warn: float | None, fail: float | None, unit: Any = "share") -> Limit:
    """Bad when the value rises above."""
    return Limit(warn=warn, fail=fail, worse="above", unit=unit)


class Layer:
    """Makes items of one layer. A trailing `l` on an id is the ℓ of the list."""

    def __init__(self, name: str, cadence: str = "K") -> None:
        self.name = name
        self.cadence = cadence

    def item(self, marked: str, title: str, warn: str, fail: str, fallback: str, **rest: Any) -> Item:
        """`marked` is the id, with `l` at its end where the lighter profile keeps it; `rest` are fields of Item."""
        lite = marked.endswith("l")
        rest.setdefault("cadence", self.cadence)
        return Item(
            id=marked.removesuffix("l"), title=title, layer=self.name, lite=lite,
            warn=warn, fail=fail, fallback=fallback, **rest,
        )  # fmt: skip
