"""OpenFeature's own SDKs and OFREP providers, unmodified, each in its own process, against `pilothouse up`."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.clients.test_clients import HERE, PYTHON

pytestmark = pytest.mark.process
FLAGS = """\
flags:
  new-answer:
    rules: [{name: staff, when: {email: {ends_with: "@example.org"}}, serve: on}]
  colour: {type: string, variants: {red: "#f00", blue: "#00f"}, default: red}
  retries: {type: integer, variants: {few: 2, many: 5}, default: many}
  ratio: {type: float, variants: {low: 1, high: 2.5}, default: low}
  layout: {type: object, variants: {wide: {columns: 3, gaps: [1, 2]}}, default: wide}
  half: {rollout: {on: 50%}}
  gone: {type: string, variants: {a: b}, default: a, enabled: false}
"""
COMMON: dict[str, Any] = {
    "boolean": [False, "off", "UNKNOWN", ""],  # no rule is met: the protocol has no word for the default
    "targeted": [True, "on", "TARGETING_MATCH", ""],
    "string": ["#f00", "red", "STATIC", ""],
    "integer": [5, "many", "STATIC", ""],
    "float": [1.0, "low", "STATIC", ""],
    "object": [{"columns": 3, "gaps": [1, 2]}, "wide", "STATIC", ""],
    "split": "SPLIT",
    "disabled": ["the code's", "", "DISABLED", ""],
    "unknown": [True, None, "ERROR", "FLAG_NOT_FOUND"],
    "wrong_type": [True, None, "ERROR", "TYPE_MISMATCH"],
    "no_key": [True, None, "ERROR", "TARGETING_KEY_MISSING"],
}
# What each SDK can be asked: the server's JavaScript provider knows no answer without a value, and the web's has one
# context for all.
ASKED = {
    "openfeature_client.py": set(COMMON),
    "openfeature_server.mjs": set(COMMON) - {"disabled", "no_key"},
    "openfeature_web.mjs": set(COMMON) - {"targeted", "no_key"},
}


@pytest.fixture(scope="module")
def flagged(shared_running: Any, shared_app: Any) -> Iterator[tuple[Any, str]]:
    """A product with flags, and a key."""
    if not PYTHON.exists():
        pytest.fail("the clients are not installed: run `make clients`")
    one = shared_running(shared_app(more=FLAGS), workers=2)
    yield one, one.key()


@pytest.mark.parametrize("script", ASKED)
def test_an_unmodified_provider_reads_flags_and_learns_of_a_flip(flagged: tuple[Any, str], script: str) -> None:
    one, key = flagged
    url = one.gateway.removesuffix("/v1")
    program = ["node"] if script.endswith(".mjs") else [str(PYTHON)]
    with subprocess.Popen(
        [*program, HERE / "scripts" / script],
        env=os.environ | {"FLAGS_URL": url, "FLAGS_KEY": key},
        cwd=Path(HERE),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        if first:
            done = one.post("/api/v1/flags/new-answer", variant="on", reason="shown to clients")
            assert done["workers"] == done["of"] == 2 and not done["late"]
        out, err = process.communicate("flipped\n", timeout=60)
    if first:
        one.post("/api/v1/flags/new-answer", reset=True)
    assert process.returncode == 0, err[-3000:]
    assert json.loads(first) == {name: COMMON[name] for name in COMMON if name in ASKED[script]}
    told = json.loads(out)
    assert told["flipped"] is True
    assert told.get("changed", ["new-answer"]) == ["new-answer"]
