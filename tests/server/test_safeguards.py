"""A policy that cannot work refuses its release; it does not wait for the first request."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pilothouse.domain.errors import ConfigError
from pilothouse.domain.policy import Cache, Guard, Policy
from pilothouse.server import safeguards

PLUGIN = "def look(seen):\n    return None\n"


@pytest.mark.process
def test_a_bad_pattern_refuses_the_release(scripted_app: Callable[..., Path], tmp_path: Path) -> None:
    def create(guard: str) -> "subprocess.CompletedProcess[str]":
        app = scripted_app(route=f"    policy: {{guards: [{guard}]}}\n")
        (app / "own_guards.py").write_text(PLUGIN)
        command = [sys.executable, "-m", "pilothouse", "release", "create", "answer", "--data", str(tmp_path / "data")]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=app, timeout=60)

    bad = create("{use: regex, options: {patterns: ['(']}}")
    assert bad.returncode == 2, bad.stdout + bad.stderr
    assert "not one of RE2" in bad.stdout + bad.stderr
    good = create("pii, {use: 'own_guards:look'}")
    assert good.returncode == 0, good.stdout + good.stderr


def test_what_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="no_such_guards"):
        safeguards.check(Policy(guards=(Guard("no_such_guards:look"),)), tmp_path)
    semantic = Policy(cache=Cache(ttl=60, semantic=0.8))
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(ConfigError, match="embeddings"):
        safeguards.check(semantic, tmp_path)
    safeguards.check(Policy(), tmp_path)
