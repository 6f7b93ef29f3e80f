"""The Anthropic SDK under OpenLLMetry's or OpenInference's instrumentation (`argv[2]`)."""

import sys
from typing import Any

import anthropic
import asked

asked.traced()
if sys.argv[2] == "openllmetry":
    from opentelemetry.instrumentation.anthropic import AnthropicInstrumentor
else:
    from openinference.instrumentation.anthropic import AnthropicInstrumentor
AnthropicInstrumentor().instrument()
client = anthropic.Anthropic(max_retries=0)


def ask(text: str, **more: Any) -> Any:
    """One call."""
    messages = [{"role": "user", "content": text}]
    return client.messages.create(model=asked.CLAUDE, max_tokens=1000, messages=messages, **more)


name = sys.argv[1]
if name == "chat":
    ask(asked.HELLO)
elif name == "stream":
    for _ in ask(asked.COUNT, stream=True):
        pass
elif name == "tools":
    function = asked.TOOL["function"]
    ask(asked.WEATHER, tools=[{"name": function["name"], "input_schema": function["parameters"]}])
elif name == "usage":
    ask(asked.THINK)
