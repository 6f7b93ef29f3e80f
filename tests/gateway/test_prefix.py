"""Providers price a repeated beginning lower: what a session's requests have in common stays byte for byte the same."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.domain.manifest import Manifest, Template
from pilothouse.domain.model_ref import ModelRef
from pilothouse.domain.table import Live
from pilothouse.gateway.parse import parse
from pilothouse.gateway.render import render
from pilothouse.gateway.types import Incoming, Resolved

MODEL = ModelRef("fake", "small")
SCHEMA = {"type": "object", "properties": {"b": {"type": "string"}, "a": {"type": "string"}}}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"properties": {"z": {}, "a": {}}}}}
ROUTES: dict[str, dict[str, Any]] = {
    "plain": {},
    "system": {"system": Template("You help with {{ topic }}.", ("topic",))},
    "tools": {"system": Template("Be brief."), "tools": [TOOL], "params": {"temperature": 0.2}},
    "schema": {"schema": SCHEMA, "params": {"seed": 7}},
}
words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=30)


def upstream(body: dict[str, Any], parts: dict[str, Any], *, inline: bool) -> bytes:
    manifest = Manifest(model=MODEL, **parts)
    live = Live(release=1, manifest=manifest, parts=manifest.hashes(), hash=manifest.hash())
    parsed = parse(Incoming(body=msgspec.json.encode(body)))
    return render(Resolved(parsed, live, MODEL, "answer", inline=inline)).upstream("small")


@pytest.mark.parametrize("route", [*ROUTES, "inline"])
@given(turns=st.lists(words, min_size=2, max_size=6), stream=st.booleans())
def test_a_longer_conversation_begins_with_the_bytes_of_the_shorter(route: str, turns: list[str], stream: bool) -> None:
    said = [{"role": "user" if i % 2 == 0 else "assistant", "content": text} for i, text in enumerate(turns)]
    fixed: dict[str, Any] = {"model": "fake/small", "stream": stream, "user": "u1"}
    if route == "system":
        fixed["prompt"] = {"variables": {"topic": "ships"}}

    def rendered(count: int) -> bytes:
        return upstream(fixed | {"messages": said[:count]}, ROUTES.get(route, {}), inline=route == "inline")

    one, other = rendered(len(said) - 1), rendered(len(said))
    new = b"," + msgspec.json.encode(said[-1])
    at = other.rindex(new + b"]")
    assert other[:at] + other[at + len(new) :] == one  # every other byte is where it was
