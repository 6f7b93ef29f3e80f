"""The calls of an app that uses the OpenAI SDK alone: `scenario(name, tracer)` makes them."""

import json
from typing import Any

import asked
import openai


def chat(client: openai.OpenAI, text: str, model: str = asked.MODEL, **more: Any) -> Any:
    """One call."""
    return client.chat.completions.create(model=model, messages=[{"role": "user", "content": text}], **more)


def call(name: str, client: openai.OpenAI) -> None:
    """One of the scenarios without a step of the app's own."""
    if name == "chat":
        chat(client, asked.HELLO, temperature=0.2)
    elif name == "stream":
        for _ in chat(client, asked.COUNT, stream=True, stream_options={"include_usage": True}):
            pass
    elif name == "tools":
        chat(client, asked.WEATHER, tools=[asked.TOOL])
    elif name == "usage":
        chat(client, asked.THINK, model=asked.THINKING_MODEL)
    elif name == "embeddings":
        client.embeddings.create(model=asked.EMBEDDING_MODEL, input=["tea", "coffee"])
    else:
        raise SystemExit(f"no such scenario: {name}")


def rag_answer(client: openai.OpenAI, documents: list[tuple[str, str, float]]) -> None:
    """The question with what was found."""
    chat(client, "\n".join(text for _, text, _ in documents) + "\n" + asked.QUESTION)


def agent_step(client: openai.OpenAI, messages: list[Any]) -> Any:
    """One turn of an agent; the message that came back."""
    done = client.chat.completions.create(model=asked.MODEL, messages=messages, tools=[asked.TOOL])
    messages.append(done.choices[0].message.model_dump(exclude_none=True))
    return done.choices[0].message


def arguments(tool_call: Any) -> dict[str, str]:
    """Of a tool call."""
    return dict(json.loads(tool_call.function.arguments))


def tool_result(tool_call: Any, result: str) -> dict[str, str]:
    """The message that tells the model what its tool said."""
    return {"role": "tool", "tool_call_id": tool_call.id, "content": result}
