"""The OpenAI SDK: chat, stream, tools, structured output, responses, embeddings, models, an error."""

import json
import os

import openai
import pydantic

client = openai.OpenAI(max_retries=0)
MODEL = os.environ["MODEL"]


class Order(pydantic.BaseModel):
    """What the structured call is to return."""

    item: str
    count: int


TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "lookup",
            "parameters": {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]},
        },
    }
]


def ask(text: str, **more: object) -> openai.types.chat.ChatCompletion:
    """One chat call."""
    return client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": text}], **more)


out: dict[str, object] = {}
said = ask("hello")
out["chat"] = said.choices[0].message.content
out["usage"] = said.usage is not None and said.usage.total_tokens > 0

pieces = []
with client.chat.completions.create(
    model=MODEL,
    messages=[{"role": "user", "content": "hello stream"}],
    stream=True,
    stream_options={"include_usage": True},
) as stream:
    for chunk in stream:
        pieces += [c.delta.content or "" for c in chunk.choices]
        out["stream_usage"] = chunk.usage is not None
out["stream"] = "".join(pieces)

if os.environ.get("SCRIPTED"):
    call = ask("use the tool", tools=TOOLS).choices[0].message.tool_calls
    out["tool"] = [call[0].function.name, json.loads(call[0].function.arguments)] if call else None
    streamed = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "use the tool"}], tools=TOOLS, stream=True
    )
    arguments = [c.function.arguments or "" for e in streamed for x in e.choices for c in x.delta.tool_calls or ()]
    out["tool_stream"] = [json.loads("".join(arguments)), len(arguments) > 1]
    parsed = client.chat.completions.parse(
        model=MODEL, messages=[{"role": "user", "content": "order as json"}], response_format=Order
    )
    order = parsed.choices[0].message.parsed
    out["structured"] = order.model_dump() if order else None
    answer = client.responses.create(model=MODEL, input="hello")
    out["responses"] = answer.output_text
    kinds, text = [], ""
    for event in client.responses.create(model=MODEL, input="hello stream", stream=True):
        kinds.append(event.type)
        if event.type == "response.output_text.delta":
            text += event.delta
    out["responses_stream"] = [text, kinds[0], kinds[-1]]
    vectors = client.embeddings.create(model=os.environ["EMBEDDING_MODEL"], input=["a", "b"])
    out["embeddings"] = [len(vectors.data), len(vectors.data[0].embedding) > 0]
out["models"] = any(m.id == MODEL for m in client.models.list())
try:
    client.chat.completions.create(model="no-such-route", messages=[{"role": "user", "content": "x"}])
except openai.NotFoundError as error:
    out["error"] = error.code
print(json.dumps(out))
