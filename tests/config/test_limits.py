"""Limits, budgets and where they are counted, as they are written in pilothouse.yaml."""

from pathlib import Path

import pytest

from pilothouse.config.app import AppConfig, load
from pilothouse.domain.errors import ConfigError
from pilothouse.domain.limit import Limit, Rate, Spend
from pilothouse.domain.table import CounterSettings

HEAD = "providers: {p: {kind: openai}}\npeople: {a: {name: A}}\n"
ROUTE = "routes: {r: {model: p/m, owner: a, policy: {POLICY}}}\n"


def read(folder: Path, more: str = "", policy: str = "") -> AppConfig:
    (folder / "pilothouse.yaml").write_text(HEAD + more + ROUTE.replace("POLICY", policy))
    return load(folder)


def test_the_apps_limits(tmp_path: Path) -> None:
    text = "limits:\n- {name: l, by: [key, segment], where: {segment: free}, requests: 600/min, tokens: 200k/10s,\n"
    text += "   concurrency: 3, budget: {per_day: 2 USD, per_trace: 1 USD, soft: [50 %]}, shadow: true}\n"
    assert read(tmp_path, text).limits == (
        Limit(
            name="l",
            by=("key", "segment"),
            where={"segment": "free"},
            requests=Rate(600, 60.0),
            tokens=Rate(200_000, 10.0),
            concurrency=3,
            spend=(Spend(1.0, "trace"), Spend(2.0, "day")),
            soft=(0.5,),
            shadow=True,
        ),
    )


def test_a_routes_limits_and_queue(tmp_path: Path) -> None:
    policy = "limits: {requests: 5/s}, budget: {by: [key], per_month: 9 USD}, queue: {max_wait: 3s, size: 7}"
    found = read(tmp_path, policy=policy).routes["r"].manifest.policy
    assert found.limits == (
        Limit(name="limits", requests=Rate(5, 1.0)),
        Limit(name="budget", by=("key",), spend=(Spend(9.0, "month"),)),
    )
    assert (found.queue.max_wait, found.queue.size) == (3.0, 7)


def test_where_they_are_counted(tmp_path: Path) -> None:
    assert read(tmp_path).counters == CounterSettings(kind="shared")
    found = read(tmp_path, 'counters: {kind: valkey, url: "env://VALKEY", on_error: closed}\n').counters
    assert found == CounterSettings(kind="valkey", url="env://VALKEY", on_error="closed")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("counters: {kind: redis}", "none of shared, valkey, local"),
        ("counters: {kind: valkey}", "`url` goes with `kind: valkey`"),
        ('counters: {url: "env://X"}', "`url` goes with `kind: valkey`"),
        ('counters: {kind: valkey, url: "valkey://:secret@host"}', "name it by reference"),
        ("limits: [{name: l}]", "a limit limits something"),
        ("limits: [{name: l, requests: fast}]", "is not a rate such as 600/min"),
        ("limits: [{name: l, by: [keys], requests: 1/s}]", "did you mean 'key'"),
        ("limits: [{name: l, requests: 1/s}, {name: l, requests: 1/s}]", "stands twice"),
        ("limits: [{requests: 1/s}]", "'name' is missing"),
        ("limits: [{name: l, budget: {soft: [80 %]}}]", "a budget needs an amount"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, more: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, more + "\n")
