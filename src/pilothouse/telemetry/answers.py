"""What the store said to the review's questions: rows by question, route and environment."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

Row = dict[str, Any]
Rows = list[Row]
ByRoute = dict[tuple[str, str], Rows]


class Answers:
    """What the store said of one route in one environment, by question."""

    def __init__(self, route: str, env: str, answers: dict[str, ByRoute]) -> None:
        self._key = (route, env)
        self._answers = answers

    def all(self, question: str) -> Rows:
        """Every row."""
        return self._answers[question].get(self._key, [])

    def one(self, question: str) -> Row:
        """The only row; empty where there is none."""
        rows = self.all(question)
        return rows[0] if rows else {}


def by_route(rows: Rows) -> ByRoute:
    """Rows by (route, env), without these two."""
    found: defaultdict[tuple[str, str], Rows] = defaultdict(list)
    for row in rows:
        found[row.pop("route"), row.pop("env")].append(row)
    return found


def counts(rows: Rows, name: str) -> dict[str, int]:
    """Value of column `name` → sum of `n`, commonest first."""
    found: defaultdict[str, int] = defaultdict(int)
    for row in rows:
        found[row[name] or ""] += row["n"]
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def known_sum(values: Iterable[float | None]) -> float | None:
    """The sum of what is known; None where nothing is."""
    known = [value for value in values if value is not None]
    return float(sum(known)) if known else None
