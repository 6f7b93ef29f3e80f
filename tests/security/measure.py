"""Recall and precision of redaction over the corpus, by class."""

from collections import Counter
from collections.abc import Callable

import msgspec
from tests.security.corpus.cases import Case, negatives, positives

from pilothouse.domain.wires import Redacted


class Row(msgspec.Struct):
    """One class: how many there are, how many are gone from the text, and how its findings were right or wrong."""

    label: str
    n: int = 0
    gone: int = 0
    named: int = 0  # of those that are gone: under a class of their own
    false: int = 0  # findings of its classes in texts that hold none
    missed: list[Case] = []

    @property
    def recall(self) -> float:
        return self.gone / self.n

    @property
    def precision(self) -> float:
        right = self.named + self.false
        return self.named / right if right else 1.0


def core(value: str) -> str:
    """What of a value must not be left: without the name that tells it (`SIN: `, `AccountKey=`)."""
    return max(value.replace("：", ": ").replace("=", "= ").split(": "), key=len).strip()


def measured(
    redact: Callable[[str], Redacted], redact_json: Callable[[str], Redacted]
) -> tuple[list[Row], Counter[str], list[tuple[Case, dict[str, int]]]]:
    """Rows by class, false findings by kind of look-alike, and the false findings themselves."""
    rows: dict[str, Row] = {}
    owner: dict[str, str] = {}  # a finding's kind → the class that a false one counts under
    for case in positives():
        row = rows.setdefault(case.label, Row(case.label, missed=[]))
        owner.setdefault(case.kinds[0], case.label)
        result = (redact_json if case.text[0] in "{[" else redact)(case.text)
        row.n += 1
        if core(case.value) in result.text:
            row.missed.append(case)
        else:
            row.gone += 1
            row.named += any(kind in result.classes for kind in case.kinds)
    lookalikes: Counter[str] = Counter()
    wrong = []
    for case in negatives():
        found = (redact_json if case.text[0] in "{[" else redact)(case.text).classes
        lookalikes[case.label] += bool(found)
        if found:
            wrong.append((case, found))
        for kind, n in found.items():
            rows[owner.get(kind, "national_id")].false += n
    return list(rows.values()), lookalikes, wrong
