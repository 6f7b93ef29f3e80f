"""`retention:` is read with its units, its floor and its routes."""

import re
from pathlib import Path

import pytest

from pilothouse.config.retention import Keep, RetentionConfig, read_retention
from pilothouse.config.section import parse
from pilothouse.domain.errors import ConfigError


def read(text: str) -> RetentionConfig:
    top = parse(text, Path("pilothouse.yaml"))
    found = read_retention(top, {"answer", "search"})
    top.close()
    return found


def test_nothing_is_removed_unless_it_is_asked_for() -> None:
    assert read("") == RetentionConfig() == RetentionConfig(general=Keep(floor=30))


def test_routes_take_what_they_leave_out_from_the_general_rule() -> None:
    text = """
retention:
  payloads: 30d
  spans: 90d
  rollups: 400d
  floor: 60d
  disk_cap: 50GB
  routes:
    answer: {payloads: 7d, requests: 180d, floor: 180d, spans: 180d}
    search: {floor: 0d, spans: 5d}
"""
    assert read(text) == RetentionConfig(
        general=Keep(payloads=30, spans=90, floor=60),
        rollups=400,
        disk_cap=50 * 10**9,
        routes={
            "answer": Keep(payloads=7, spans=180, requests=180, floor=180),
            "search": Keep(payloads=30, spans=5, floor=0),
        },
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("retention: {payloads: 36h}", "not a whole number of days"),
        ("retention: {payloads: 30}", "not a duration"),
        ("retention: {spans: 7d}", "spans: 7d is under the floor of 30d"),
        ("retention: {spans: 90d, routes: {answer: {floor: 120d}}}", "spans: 90d is under the floor of 120d"),
        ("retention: {routes: {anwser: {payloads: 7d}}}", "no route 'anwser'"),
        ("retention: {payload: 7d}", "unknown key 'payload'"),
        ("retention: {disk_cap: much}", "not a size"),
    ],
)
def test_what_cannot_be_meant_is_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)) as caught:
        read(text)
    assert "pilothouse.yaml:1" in caught.value.where
