"""Real client libraries, unmodified, each in its own process, against `pilothouse up`: see scripts/.

They live in environments of their own (`make clients`), so that none of them is among our dependencies.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.process
HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PYTHON = ROOT / ".venv-clients" / "bin" / "python"
APP = """\
providers:
  fake: {kind: scripted, script: script.yaml}
people:
  ana: {name: Ana, notify: ["log://"]}
routes:
  answer: {app: tests, owner: ana, backup: ana, model: fake/scripted-1}
"""
HELLO, STREAM = "You said: hello", "You said: hello stream"
TOOL, ORDER = ["lookup", {"q": "seven seas"}], {"item": "tea", "count": 2}
CHAT = {"chat": HELLO, "stream": STREAM, "tool": TOOL, "models": True, "error": "unknown_route"}
EXPECTED: dict[str, dict[str, Any]] = {
    "openai_sdk.py": CHAT
    | {
        "usage": True,
        "stream_usage": True,
        "tool_stream": [{"q": "seven seas"}, True],
        "structured": ORDER,
        "responses": HELLO,
        "responses_stream": [STREAM, "response.created", "response.completed"],
        "embeddings": [2, True],
    },
    "anthropic_sdk.py": {
        "messages": HELLO,
        "usage": True,
        "stream": STREAM,
        "stop": "end_turn",
        "tool": TOOL,
        "tool_stream": {"q": "seven seas"},
        "count": True,
        "error": "not_found_error",
    },
    "langchain_client.py": {
        "invoke": HELLO,
        "stream": STREAM,
        "anthropic": HELLO,
        "tool": [TOOL],
        "structured": ORDER,
    },
    "llamaindex_client.py": {"complete": HELLO, "chat": HELLO, "stream": STREAM, "embeddings": 2},
    "pydantic_ai_client.py": {
        "chat": HELLO,
        "responses": HELLO,
        "stream": STREAM,
        "tool": ["You said: use the tool", ["seven seas"]],
    },
    "instructor_client.py": {"json": ORDER, "tools": ORDER},
    "vercel.mjs": {
        "chat": HELLO,
        "chat_stream": STREAM,
        "responses": HELLO,
        "responses_stream": STREAM,
        "messages": HELLO,
        "messages_stream": STREAM,
        "tool": [TOOL],
        "object": ORDER,
    },
}


def said(script: str, gateway: str, key: str, **more: str) -> dict[str, Any]:
    """What the script prints when it talks to this gateway."""
    own = {
        "OPENAI_BASE_URL": gateway,
        "OPENAI_API_KEY": key,
        "ANTHROPIC_BASE_URL": gateway.removesuffix("/v1"),
        "ANTHROPIC_API_KEY": key,
        "EMBEDDING_MODEL": "fake/text-embedding-3-small",
    }
    program = ["node"] if script.endswith(".mjs") else [str(PYTHON)]
    done = subprocess.run(
        [*program, HERE / "scripts" / script],
        env=os.environ | own | more,
        cwd=HERE,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answer = json.loads(done.stdout.splitlines()[-1])
    assert isinstance(answer, dict)
    return answer


@pytest.fixture(scope="module")
def product(shared_running: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, str]]:
    """A gateway in front of the scripted provider, and a key."""
    if not PYTHON.exists():
        pytest.fail("the clients are not installed: run `make clients`")
    app = tmp_path_factory.mktemp("app")
    (app / "pilothouse.yaml").write_text(APP)
    shutil.copy(HERE / "script.yaml", app)
    one = shared_running(app)
    one.release()
    yield one, one.key()


@pytest.mark.parametrize("script", EXPECTED)
def test_an_unmodified_client_gets_what_it_expects(product: tuple[Any, str], script: str) -> None:
    one, key = product
    got = said(script, one.gateway, key, MODEL="answer", SCRIPTED="1")
    assert got == EXPECTED[script]


def test_every_call_of_the_clients_is_recorded_under_its_api(product: tuple[Any, str]) -> None:
    one, key = product
    said("openai_sdk.py", one.gateway, key, MODEL="answer", SCRIPTED="1")
    said("anthropic_sdk.py", one.gateway, key, MODEL="answer", SCRIPTED="1")

    def apis() -> set[str]:
        found = one.get("/traces.json?limit=100")["traces"]
        return {one.get(f"/traces/{row['id']}.json")["record"]["api"] for row in found}

    one.eventually(lambda: apis() >= {"chat", "responses", "embeddings", "messages", "count_tokens"})


@pytest.mark.model
def test_the_sdks_talk_to_a_real_model(running: Any, tmp_path: Path) -> None:
    (tmp_path / "pilothouse.yaml").write_text(  # one thread: two wait for each other where other tests run beside
        APP.replace("fake: {kind: scripted, script: script.yaml}", "fake: {kind: local, threads: 1}").replace(
            "scripted-1}", "smollm2, params: {max_tokens: 12}}"
        )
    )
    one = running(tmp_path)
    one.release()
    key = one.key()
    openai = said("openai_sdk.py", one.gateway, key, MODEL="answer")
    assert openai["chat"] and openai["stream"] and openai["usage"] and openai["stream_usage"]
    anthropic = said("anthropic_sdk.py", one.gateway, key, MODEL="answer")
    assert anthropic["messages"] and anthropic["stream"] and anthropic["usage"]
