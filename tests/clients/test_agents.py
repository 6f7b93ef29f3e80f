"""An agent run of a real framework through the gateway is one trace; each call to the model is counted and priced once.

Its HTTP client hands `traceparent` on, or nothing does: then the response id tells which span a request belongs to.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from tests.clients.test_clients import PYTHON, said

pytestmark = pytest.mark.process
APP = """\
providers:
  fake: {kind: scripted, script: script.yaml}
people:
  ana: {name: Ana, notify: ["log://"]}
prices:
  fake/scripted-1: {input: 2 USD, output: 10 USD}
routes:
  answer: {app: tests, owner: ana, backup: ana, model: fake/scripted-1}
"""
SCRIPT = """\
model: scripted-1
rules:
  - match: {anywhere: "sunny in Rome"}
    reply: It is sunny.
    served_model: gpt-4o-mini-2024-07-18
    usage: {prompt: 95, completion: 9}
  - match: {contains: weather in Rome}
    tool_calls: [{name: get_weather, arguments: {city: Rome}}]
    served_model: gpt-4o-mini-2024-07-18
    usage: {prompt: 70, completion: 16}
"""
TOKENS = (70 + 95, 16 + 9)
USD = (TOKENS[0] * 2.0 + TOKENS[1] * 10.0) / 1e6  # the gateway's prices, not those of the model that the spans name
RUNS = {
    ("agent_langchain.py", "openllmetry"): "invoke_agent forecaster",
    ("agent_langchain.py", "openinference"): "forecaster",
    ("agent_langchain.py", "both"): "forecaster",
    ("agent_pydantic_ai.py", "own"): "invoke_agent forecaster",
}


@pytest.fixture(scope="module")
def product(shared_running: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, str]]:
    """A gateway in front of the scripted provider, and a key."""
    if not PYTHON.exists():
        pytest.fail("the clients are not installed: run `make clients`")
    app = tmp_path_factory.mktemp("agents")
    (app / "pilothouse.yaml").write_text(APP)
    (app / "script.yaml").write_text(SCRIPT)
    one = shared_running(app)
    one.release()
    yield one, one.key()


def traces(one: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = one.get("/traces.json?limit=100")["traces"]
    return found


@pytest.mark.parametrize("propagate", ["", "1"], ids=["by response id", "by traceparent"])
@pytest.mark.parametrize(("script", "instrumentation"), RUNS)
def test_an_agents_run_is_one_trace_and_each_call_counts_once(
    product: tuple[Any, str], script: str, instrumentation: str, propagate: str
) -> None:
    one, key = product
    before = {row["id"] for row in traces(one)}
    told = {"OTEL_EXPORTER_OTLP_ENDPOINT": one.otlp, "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer%20{key}",
            "OTEL_METRICS_EXPORTER": "none"}  # fmt: skip
    run = {"MODEL": "answer", "INSTRUMENTATION": instrumentation, "PROPAGATE": propagate}
    assert said(script, one.gateway, key, **told, **run) == {"said": "It is sunny."}

    def new() -> list[dict[str, Any]]:
        return [row for row in traces(one) if row["id"] not in before]

    def whole() -> dict[str, Any]:
        requests = [row for row in new() if row["source"] == "edge"]
        if len(requests) != 2 or len({row["trace_id"] for row in requests}) != 1:
            return {}
        tree: dict[str, Any] = one.get(f"/traces/{requests[0]['trace_id']}.json")["waterfall"]
        return tree if any(not step["parent"] for step in tree["steps"] if step["kind"] == "span") else {}

    one.eventually(whole, 20)
    tree, rows = whole(), new()
    totals = tree["totals"]
    assert (totals["requests"], totals["calls"], totals["priced"]) == (2, 2, 2)
    assert (totals["input_tokens"], totals["output_tokens"]) == TOKENS
    assert totals["cost_usd"] == pytest.approx(USD)
    assert sum(row["cost_usd"] or 0 for row in rows) == pytest.approx(USD)
    assert len({row["trace_id"] for row in rows}) == 1
    roots = [step["name"] for step in tree["steps"] if not step["parent"]]
    assert roots == [RUNS[script, instrumentation]]
    assert any("get_weather" in step["name"] for step in tree["steps"])
    merged = [step["merged"] for step in tree["steps"] if step["kind"] == "request"]
    assert len(merged) == 2
    assert all(merged)
