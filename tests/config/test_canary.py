"""`canary:` of a route is read with its units, and what makes no sense is refused with its line."""

import re
from pathlib import Path

import pytest

from pilothouse.config.app import load
from pilothouse.config.canary import CanaryPolicy, Feed, Margins, Shadow, read_canary
from pilothouse.config.section import parse
from pilothouse.domain.errors import ConfigError


def read(text: str) -> CanaryPolicy:
    top = parse(text, Path("pilothouse.yaml"))
    found = read_canary(top)
    top.close()
    return found


def test_without_a_section_it_is_the_default() -> None:
    assert read("") == CanaryPolicy()


def test_every_key() -> None:
    text = """
canary:
  steps: [2 %, 0.5, 100 %]
  min_requests: 50
  min_time: 5m
  max_time: 2d
  auto: true
  alpha: 0.5 %
  alpha_promote: 10 %
  baseline: 6h
  slo: 800ms
  margins:
    failed: 1pp
    refused: 3pp
    invalid: 4pp
    guarded: 5pp
    slow: 6pp
    score: 7pp
    latency: 10 %
    cost: off
    tokens: 50 %
    scores: {helpful: 3pp}
    means: {grade: 0.2}
  replay: {per_minute: 12, spend: 2 USD}
  shadow: {share: 10 %, requests: 30, spend: 1 USD, judge: judge}
"""
    assert read(text) == CanaryPolicy(
        steps=(0.02, 0.5, 1.0),
        min_requests=50,
        min_seconds=300.0,
        max_seconds=172_800.0,
        auto=True,
        alpha=0.005,
        alpha_promote=0.1,
        baseline_window_s=21_600.0,
        slo_ms=800.0,
        margins=Margins(
            failed=0.01, refused=0.03, invalid=0.04, guarded=0.05, slow=0.06, score=0.07, latency=0.1, cost=None,
            tokens=0.5, scores={"helpful": 0.03}, means={"grade": 0.2},
        ),
        replay=Feed(per_minute=12.0, spend_usd=2.0),
        shadow=Shadow(share=0.1, requests=30, spend_usd=1.0, judge="judge"),
    )  # fmt: skip


def test_a_judge_is_a_route(tmp_path: Path) -> None:
    (tmp_path / "pilothouse.yaml").write_text(
        "providers: {p: {kind: openai}}\nroutes: {r: {model: p/m, canary: {shadow: {spend: 1 USD, judge: nobody}}}}\n"
    )
    with pytest.raises(ConfigError, match="judged by 'nobody', which is not in `routes`"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("steps: [50 %, 5 %]", "the shares must rise"),
        ("steps: []", "is not a list of shares"),
        ("steps: [0, 1]", "is not more than 0"),
        ("alpha: 60 %", "is more than 0.5"),
        ("margins: {latency: 0}", "is not more than 0"),
        ("margins: {latncy: 10 %}", "unknown key 'latncy'"),
        ("margins: {scores: {a: 5pp}, means: {a: 1}}", "'a' stands in `scores` and in `means`"),
        ("margins: {scores: [a]}", "must hold names and margins"),
        ("replay: {}", "'spend' is missing"),
        ("shadow: {requests: 3}", "'spend' is missing"),
        ("auto: sometimes", "is neither true nor false"),
        ("mintime: 5m", "unknown key 'mintime'"),
    ],
)
def test_what_makes_no_sense_is_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)) as refused:
        read(f"canary:\n  {text}\n")
    assert refused.value.where == "pilothouse.yaml:2"
