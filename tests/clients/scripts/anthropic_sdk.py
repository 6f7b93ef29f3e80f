"""The Anthropic SDK: messages, stream, tools, count_tokens, an error."""

import json
import os

import anthropic

client = anthropic.Anthropic(max_retries=0)
MODEL = os.environ["MODEL"]
TOOLS = [
    {
        "name": "lookup",
        "description": "Looks up.",
        "input_schema": {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]},
    }
]


def ask(text: str, **more: object) -> anthropic.types.Message:
    """One call."""
    return client.messages.create(model=MODEL, max_tokens=100, messages=[{"role": "user", "content": text}], **more)


out: dict[str, object] = {}
said = ask("hello")
out["messages"] = said.content[0].text
out["usage"] = said.usage.input_tokens > 0
with client.messages.stream(
    model=MODEL, max_tokens=100, messages=[{"role": "user", "content": "hello stream"}]
) as stream:
    out["stream"] = "".join(stream.text_stream)
    out["stop"] = stream.get_final_message().stop_reason
if os.environ.get("SCRIPTED"):
    used = [b for b in ask("use the tool", tools=TOOLS).content if b.type == "tool_use"]
    out["tool"] = [used[0].name, used[0].input] if used else None
    with client.messages.stream(
        model=MODEL, max_tokens=100, messages=[{"role": "user", "content": "use the tool"}], tools=TOOLS
    ) as stream:
        final = stream.get_final_message()
    used = [b for b in final.content if b.type == "tool_use"]
    out["tool_stream"] = used[0].input if used else None
    counted = client.messages.count_tokens(model=MODEL, messages=[{"role": "user", "content": "hello"}])
    out["count"] = counted.input_tokens > 0
try:
    client.messages.create(model="no-such-route", max_tokens=1, messages=[{"role": "user", "content": "x"}])
except anthropic.NotFoundError as error:
    out["error"] = error.body["error"]["type"]
print(json.dumps(out))
