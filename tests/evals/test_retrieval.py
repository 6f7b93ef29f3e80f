import pytest

from pilothouse.domain.errors import ConfigError
from pilothouse.domain.evaluation import Case
from pilothouse.evals.retrieval import measure, relevant


def case(name: str, retrieved: list[str], wanted: list[str], tags: list[str] | None = None) -> Case:
    return Case(
        id=name,
        input="q",
        retrieved=[{"id": one} for one in retrieved],
        target={"contains": "x", "relevant": wanted} if wanted else "x",
        tags=tags or [],
    )


CASES = [
    case("first", ["a", "b", "c"], ["a"]),
    case("third", ["x", "y", "a"], ["a", "z"]),
    case("missed", ["x", "y"], ["a"]),
    case("tagged", ["x", "a"], [], ["relevant:a"]),
    case("unlabelled", ["x"], []),
]


def test_hit_at_k_and_reciprocal_rank_over_labelled_cases() -> None:
    facts = measure(CASES, k=2)
    assert facts is not None
    assert (facts.n, facts.hits, facts.hit_at_k, facts.missed) == (4, 2, 0.5, ["third", "missed"])
    assert facts.mrr == pytest.approx((1 + 1 / 3 + 0 + 1 / 2) / 4)
    assert facts.low is not None
    assert facts.high is not None
    assert facts.low < 0.5 < facts.high


def test_what_the_index_returns_now_stands_in_for_what_the_case_holds() -> None:
    facts = measure(CASES, k=1, retrieved={"first": ["b"], "third": ["z"], "tagged": ["a"]})
    assert facts is not None
    assert facts.missed == ["first", "missed"]


def test_no_label_is_no_measurement() -> None:
    assert measure([CASES[-1]]) is None
    assert relevant(CASES[-1]) == frozenset()


def test_labels_are_lists_of_ids() -> None:
    with pytest.raises(ConfigError, match="lists document ids"):
        relevant(Case(id="c", input="q", target={"relevant": "a"}))
    with pytest.raises(ConfigError, match="k = 0"):
        measure(CASES, k=0)
