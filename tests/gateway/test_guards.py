"""Guardrails on whole requests and answers, of every API's form; plugins; what happens when one fails."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.config.app import load
from pilothouse.domain.errors import ConfigError, GuardrailBlocked, PilothouseError
from pilothouse.domain.policy import Guard
from pilothouse.domain.record import GuardHit
from pilothouse.gateway.guards.builtin import estimated_tokens
from pilothouse.gateway.guards.engine import Book, Guards
from pilothouse.security.detect import Detector

DETECT = Detector()
EMAIL = "bob.miller@example.com"
KEY = "sk-ant-api03-Zx81kQ0vT4mB7nL2pR9sW5yC3dF6gH8jK1aE4uI7oP0"


def guards(*rules: Guard, app: Path | None = None) -> Guards:
    return Guards.compile(rules, DETECT, app)


def options(use: str, action: Any = "block", **given_options: Any) -> Guard:
    return Guard(use, action=action, options=given_options)


async def blocked(one: Guards, body: Any, at: str = "input") -> str:
    with pytest.raises(GuardrailBlocked) as refused:
        await (one.input(body, []) if at == "input" else one.output(body, []))
    return str(refused.value)


def asked(text: Any) -> dict[str, Any]:
    return {"model": "answer", "messages": [{"role": "user", "content": text}]}


REQUESTS: dict[str, Callable[[str], dict[str, Any]]] = {
    "chat": asked,
    "chat, parts": lambda t: asked([{"type": "text", "text": t}, {"type": "image_url", "image_url": {"url": "x"}}]),
    "chat, tool result": lambda t: {"messages": [{"role": "tool", "tool_call_id": "c", "content": t}]},
    "chat, earlier call": lambda t: {
        "messages": [
            {
                "role": "assistant",
                "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": json.dumps({"a": t})}}],
            }
        ]
    },
    "variables": lambda t: {"model": "answer", "prompt": {"variables": {"name": [{"deep": t}]}}},
    "responses": lambda t: {"model": "answer", "input": t, "instructions": "be brief"},
    "responses, items": lambda t: {"input": [{"role": "user", "content": [{"type": "input_text", "text": t}]}]},
    "responses, output": lambda t: {"input": [{"type": "function_call_output", "call_id": "c", "output": t}]},
    "messages": lambda t: {"system": t, "messages": [{"role": "user", "content": "hi"}]},
    "messages, tool": lambda t: {
        "messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": t}]}]
    },
    "embeddings": lambda t: {"model": "answer", "input": ["hello", t]},
    "completions": lambda t: {"model": "answer", "prompt": t},
    "a path of its own": lambda t: {"query": {"documents": [{"body": t}]}},
    "metadata": lambda t: asked("hi") | {"metadata": {"note": t}},
    "a tool's description": lambda t: asked("hi") | {"tools": [{"function": {"name": "f", "description": t}}]},
    "a long role": lambda t: {"messages": [{"role": f"{t} {'x' * 128}", "content": ""}]},
}
ANSWERS: dict[str, Callable[[str], Any]] = {
    "chat": lambda t: {"choices": [{"index": 0, "message": {"role": "assistant", "content": t}}]},
    "chat, reasoning": lambda t: {"choices": [{"message": {"content": "", "reasoning_content": t}}]},
    "chat, call": lambda t: {
        "choices": [{"message": {"tool_calls": [{"function": {"name": "f", "arguments": json.dumps({"a": t})}}]}}]
    },
    "responses": lambda t: {"output": [{"type": "message", "content": [{"type": "output_text", "text": t}]}]},
    "messages": lambda t: {"content": [{"type": "text", "text": t}], "role": "assistant"},
    "messages, call": lambda t: {"content": [{"type": "tool_use", "name": "f", "input": {"a": t}}]},
    "anything": lambda t: [{"result": t}],
}


@pytest.mark.parametrize("form", REQUESTS)
async def test_no_apis_request_goes_round_the_guardrails(form: str) -> None:
    make = REQUESTS[form]
    one = guards(Guard("secrets"), Guard("pii", action="mask"))
    clean, hits = make("what is the weather like?"), []
    assert await one.input(clean, hits) is clean  # nothing found: nothing copied
    assert KEY not in await blocked(one, make(f"use {KEY} please"))
    body = make(f"mail {EMAIL} now")
    masked = await one.input(body, hits)
    assert EMAIL not in json.dumps(masked)
    assert EMAIL in json.dumps(body)  # the client's own is not touched
    assert json.dumps(masked).count("[EMAIL]") == 1
    assert hits == [GuardHit("pii", "input", "mask", "email")]


@pytest.mark.parametrize("form", ANSWERS)
async def test_no_apis_answer_goes_round_the_guardrails(form: str) -> None:
    make = ANSWERS[form]
    one = guards(Guard("secrets"), Guard("pii", action="mask"))
    clean = make("It is sunny.")
    assert await one.output(clean, []) is clean
    assert "secrets" in await blocked(one, make(f"use {KEY}"), "output")
    assert EMAIL not in json.dumps(await one.output(make(f"mail {EMAIL}"), []))


async def test_images_are_not_read_as_text_but_text_that_says_it_is_one_is() -> None:
    one = guards(Guard("secrets"))
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "QUtJ" * 600 + KEY.replace("-", "")}}
    body = asked([image])
    assert await one.input(body, []) is body
    await blocked(one, asked(f"data: {KEY}"))
    await blocked(one, asked([{"type": "file", "file": {"data": KEY}}]))
    await blocked(one, {"messages": [{"role": "user", "content": "x", "signature": f"{KEY} "}]})


async def test_a_card_written_as_a_number_is_found() -> None:
    masked = await guards(options("pii", "mask", classes=["credit_card"])).input(
        {"order": {"card": 4111111111111111}}, []
    )
    assert masked == {"order": {"card": "[CREDIT_CARD]"}}


async def test_classes_narrow_what_is_looked_for() -> None:
    one = guards(options("pii", "mask", classes=["email"]))
    masked = await one.input(asked(f"{EMAIL} 4111 1111 1111 1111 {KEY}"), [])
    assert masked["messages"][0]["content"] == f"[EMAIL] 4111 1111 1111 1111 {KEY}"


async def test_flag_notes_and_lets_pass() -> None:
    hits: list[GuardHit] = []
    body = asked(f"{EMAIL} {EMAIL}")
    assert await guards(Guard("pii", action="flag")).input(body, hits) is body
    assert hits == [GuardHit("pii", "input", "flag", "email")]


async def test_at_says_where_a_guardrail_stands() -> None:
    one = guards(Guard("pii", at=("output",)))
    body = asked(EMAIL)
    assert await one.input(body, []) is body
    await blocked(one, ANSWERS["chat"](EMAIL), "output")
    only_in = guards(Guard("pii", at=("input",)))
    assert not only_in.output_rails


async def test_prompt_size_counts_the_request_as_a_whole() -> None:
    one = guards(options("prompt_size", max_chars=100))
    await one.input(asked("x" * 90), [])
    await blocked(one, {"messages": [{"role": "user", "content": "x" * 60}] * 2})
    await blocked(guards(options("prompt_size", max_tokens=10)), asked("word " * 20))


@given(st.text(max_size=400))
def test_estimated_tokens_grow_with_the_text(text: str) -> None:
    assert estimated_tokens(text) <= estimated_tokens(text + "a") <= estimated_tokens(text + "a語")
    assert estimated_tokens("") == 0


TOPICS = options("topics", "mask", deny=["project falcon", "Übernahme"], allow=["Project Falcon Heavy"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("About PROJECT   Falcon.", "About [TOPIC_1]."),
        ("project falcon, project falcon", "[TOPIC_1], [TOPIC_1]"),
        ("the projects falcon and project falcons", None),
        ("Project Falcon Heavy lifts", None),
        ("die übernahme", "die [TOPIC_2]"),
        ("Firmenübernahme", None),
    ],
)
async def test_topics_are_phrases_of_whole_words_in_any_case(text: str, expected: str | None) -> None:
    body = asked(text)
    masked = await guards(TOPICS).input(body, [])
    assert masked["messages"][0]["content"] == (expected or text)


async def test_topics_fold_letters_that_change_their_length() -> None:
    one = guards(options("topics", "mask", deny=["STRASSE"]))
    assert await one.text("ß Straße!", "input", []) == "ß [TOPIC_1]!"


async def test_regex_by_name() -> None:
    hits: list[GuardHit] = []
    one = guards(options("regex", "mask", named={"Order No": "ORD-[0-9]+"}, patterns=["(?i)codename"]))
    assert await one.text("ORD-12 CodeName", "input", hits) == "[ORDER_NO] [PATTERN_1]"
    assert [h.found for h in hits] == ["order_no", "pattern_1"]


async def test_tools_that_are_declared_and_called() -> None:
    one = guards(options("tools", allow=["search"], max_calls=1))
    ok = asked("hi") | {"tools": [{"type": "function", "function": {"name": "search"}}]}
    assert await one.input(ok, []) is ok
    assert "tool_declared" in await blocked(one, asked("hi") | {"tools": [{"name": "shell", "input_schema": {}}]})
    assert "tool_declared" in await blocked(one, asked("hi") | {"tools": [{"type": "web_search"}]})
    assert "tool_called" in await blocked(one, ANSWERS["messages, call"]("x"), "output")
    call = {"function": {"name": "search", "arguments": "{}"}}
    assert "too_many" in await blocked(one, {"choices": [{"message": {"tool_calls": [call, call]}}]}, "output")
    shell = {"type": "function_call", "name": "search", "arguments": '{"q": "rm -rf /"}'}
    assert "tool_arguments" in await blocked(
        guards(options("tools", arguments={"search": "rm -rf"})), [shell], "output"
    )


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        (options("regex", patterns=["(unclosed"]), "not one of RE2"),
        (options("regex", patterns=["a*"]), "matches nothing at all"),
        (options("regex"), "patterns"),
        (options("topics"), "deny is needed"),
        (options("pii", classes=["emial"]), "unknown class emial"),
        (options("pii", clases=["email"]), "unknown option clases"),
        (options("prompt_size"), "max_chars"),
        (options("prompt_size", max_chars="many"), "is a number"),
        (options("prompt_size", "mask", max_chars=1), "nothing to mask"),
        (Guard("prompt_size", at=("output",), options={"max_chars": 1}), "looks at requests"),
        (Guard("toxicity"), "none of this name"),
        (Guard("no_such_module:look"), "cannot be loaded"),
        (Guard("json:no_such_function"), "cannot be loaded"),
        (Guard("json:decoder"), "not a function"),
    ],
)
def test_a_guardrail_that_cannot_be_made_refuses_the_release(rule: Guard, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        guards(rule)


PLUGIN = """
from pilothouse.gateway.guards.protocol import Found, Seen


def shouting(seen: Seen, least: int = 5) -> Found | None:
    if seen.role == "user" and len(seen.text) >= least and seen.text.isupper():
        return Found("shouting")
    return None


async def cities(seen):
    at = seen.text.find("Paris")
    return Found("City: Paris!", spans=((at, at + 5),)) if at >= 0 else None


def broken(seen):
    raise RuntimeError("cannot judge " + seen.text)


def nonsense(seen):
    return "yes"


def beyond(seen):
    return Found("x", ((0, len(seen.text) + 1),))
"""


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An app's folder with guardrails of its own."""
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    (tmp_path / "my_guards.py").write_text(PLUGIN)
    monkeypatch.delitem(__import__("sys").modules, "my_guards", raising=False)
    return tmp_path


async def test_an_apps_own_guardrails(app: Path) -> None:
    one = guards(Guard("my_guards:shouting", options={"least": 3}), app=app)
    assert "shouting" in await blocked(one, asked("HELP"))
    await one.input(asked("help"), [])
    hits: list[GuardHit] = []
    masking = guards(Guard("my_guards:cities", action="mask"), app=app)
    assert await masking.text("to Paris now", "output", hits) == "to [CITY_PARIS_] now"
    assert hits == [GuardHit("my_guards:cities", "output", "mask", "city_paris_")]
    with pytest.raises(ConfigError, match="does not take these options"):
        guards(Guard("my_guards:shouting", options={"most": 3}), app=app)


async def test_what_cannot_be_masked_is_blocked(app: Path) -> None:
    one = guards(Guard("my_guards:shouting", action="mask"), app=app)
    await blocked(one, asked("HELP ME"))


@pytest.mark.parametrize("function", ["broken", "nonsense", "beyond"])
async def test_a_guardrail_that_fails_blocks_unless_policy_is_open(app: Path, function: str) -> None:
    hits: list[GuardHit] = []
    use = f"my_guards:{function}"
    with pytest.raises(GuardrailBlocked) as failed:
        await guards(Guard(use), app=app).input(asked("a secret thing"), hits)
    assert failed.value.kind == "guardrail_failed"
    assert "secret thing" not in f"{failed.value} {failed.value.__cause__} {hits}"
    body = asked("a secret thing")
    assert await guards(Guard(use, fail="open"), app=app).input(body, hits) is body
    assert [(h.use, h.action) for h in hits] == [(use, "error")]


async def test_a_detector_without_a_verdict_blocks() -> None:
    class Silent:
        classes = frozenset(("email",))

        def __call__(self, _text: str) -> Any:
            raise PilothouseError("no verdict")

    one = Guards.compile([Guard("pii")], Silent())
    with pytest.raises(GuardrailBlocked) as failed:
        await one.input(asked("a longer text"), [])
    assert failed.value.kind == "guardrail_failed"


async def test_a_worker_without_the_plugin_lets_nothing_through() -> None:
    book = Book(DETECT)
    rules = (Guard("not_here:look"),)
    one = book.of("hash", rules)
    assert one is not None
    assert book.of("hash", rules) is one  # compiled once
    assert book.of("other", ()) is None
    with pytest.raises(GuardrailBlocked):
        await one.input(asked("hello"), [])


async def test_logprobs_do_not_say_what_was_masked() -> None:
    answer = {"choices": [{"message": {"content": EMAIL}, "logprobs": {"content": [{"token": "bob"}]}}]}
    masked = await guards(Guard("pii", action="mask")).output(answer, [])
    assert masked == {"choices": [{"message": {"content": "[EMAIL]"}}]}


async def test_overlapping_findings_become_one_mask() -> None:
    one = guards(Guard("pii", action="mask"), options("regex", "mask", named={"host": "example[.]com is"}))
    assert await one.text(f"{EMAIL} is it", "input", []) == "[EMAIL] it"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-1000, 1000) | st.text(),
        lambda v: st.lists(v) | st.dictionaries(st.text(), v),
    )
)
def test_any_json_passes_or_is_masked_in_its_own_shape(value: Any) -> None:
    one = guards(Guard("secrets", action="mask"), Guard("pii", action="mask"))
    work = one.input(value, [])
    with pytest.raises(StopIteration) as done:
        work.send(None)
    assert type(done.value.value) is type(value)


async def test_the_page_on_guardrails_says_what_works(scripted_app: Callable[..., Path], app: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "guardrails.md").read_text()
    (app / "my_guards.py").write_text(re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0])
    written = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)[0])
    policy = written["routes"]["support-answer"]["policy"]
    folder = scripted_app(route=f"    policy: {json.dumps(policy)}\n")
    rules = load(folder).routes["answer"].manifest.policy.guards
    assert len(rules) == len(policy["guards"]) == 7
    one = guards(*rules, app=app)
    assert "shouting" in await blocked(one, asked("WHY DOES NOBODY ANSWER ME"))
    assert await one.text("ORD-123456", "input", []) == "[ORDER]"
