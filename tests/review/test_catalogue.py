import re
from collections import Counter

import pytest

from pilothouse.review.catalogue import BY_ID, ITEMS
from pilothouse.review.checks import CHECKS

T_ITEMS = {1: 6, 2: 7, 3: 5, 4: 5, 5: 5, 6: 6, 7: 7, 8: 8, 9: 7, 10: 6}
LIVE = (
    "T1.0 T1.1 T1.2 T1.3 T1.4 T1.5 T1.6 T2.1 T2.2 T2.3 T2.4 T2.5 T2.6 T3.1 T3.2 T3.3 T4.1 T4.2 T4.3 T4.4 T4.5 T5.1 "
    "T5.4 T6.1 T6.2 T6.3 T6.4 T6.5 T6.6 T7.1 T7.2 T7.3 T7.4 T7.5 T7.6 T7.7 T8.1 T8.3 T8.4 T8.6 T9.1 T9.2 T9.4 T9.7 "
    "T10.1 T10.2 T10.4 CR.1 CR.2 CR.3 CR.6 G1 G2 G3"
)


def expected_ids() -> list[str]:
    tracked = [f"T{layer}.{n}" for layer, last in T_ITEMS.items() for n in range(0 if layer == 1 else 1, last + 1)]
    cadence = [f"{kind}.{n}" for kind, last in (("CR", 6), ("CW", 5), ("CM", 5), ("CQ", 5)) for n in range(1, last + 1)]
    return [*tracked, *cadence, *(f"I{n}" for n in range(1, 8)), *(f"V{n}" for n in range(8)),
            *(f"G{n}" for n in range(1, 9))]  # fmt: skip


def test_every_item_of_the_checklist_is_listed_once():
    kinds = Counter(re.match(r"[A-Z]", item.id)[0] for item in ITEMS)
    assert kinds == {"T": 63, "C": 21, "I": 7, "V": 8, "G": 8}
    assert len(BY_ID) == len(ITEMS)
    assert set(BY_ID) == set(expected_ids())


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: item.id)
def test_an_item_says_what_is_wrong_and_what_to_do(item):
    assert item.title
    assert len(item.title) <= 30  # the row fits a terminal
    assert item.warn or item.fail
    assert max(len(text) for text in (item.warn, item.fail, item.fallback)) <= 26
    assert item.fallback
    assert item.evidence.startswith("/")
    assert item.fix
    assert item.fix.format(route="r", env="prod")
    assert item.evidence.format(route="r", env="prod")
    assert item.fix[0] == "`" or item.fix[0].islower()
    assert item.fix.count("`") % 2 == 0
    assert set(item.cadence.split(",")) <= set("KRWMQ")


def test_what_is_measured():
    assert set(LIVE.split()) <= set(CHECKS)
    assert set(CHECKS) <= set(BY_ID)


def test_limits_are_in_order():
    for item in ITEMS:
        limit = item.limit
        if limit is not None and limit.warn is not None and limit.fail is not None:
            assert (limit.warn <= limit.fail) if limit.worse == "above" else (limit.warn >= limit.fail), item.id
