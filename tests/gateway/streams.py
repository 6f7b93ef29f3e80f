"""Chat completions, the streams that they may come in, and their translation in any chunking."""

from typing import Any

import msgspec
from hypothesis import strategies as st

from pilothouse.gateway.apis import speaking

_texts = st.text(st.characters(codec="utf-8"), max_size=20)


class Pieces:
    """A flow whose reads are given."""

    status = 200
    headers: dict[str, str] = {}  # noqa: RUF012

    def __init__(self, pieces: list[bytes]) -> None:
        self.held = b""
        self._pieces = pieces

    async def read(self) -> bytes | None:
        return self._pieces.pop(0) if self._pieces else None

    async def rest(self, limit: int = 1 << 16) -> bytes:
        return b"".join(self._pieces)[:limit]

    def enough(self) -> None: ...

    async def close(self) -> None: ...


@st.composite
def completions(draw: st.DrawFn) -> dict[str, Any]:
    calls = [
        {
            "id": f"call_{i}",
            "type": "function",
            "function": {
                "name": draw(st.sampled_from(["look", "find"])),
                "arguments": msgspec.json.encode(draw(st.dictionaries(_texts, _texts, max_size=2))).decode(),
            },
        }
        for i in range(draw(st.integers(0, 3)))
    ]
    message = {"role": "assistant", "content": draw(_texts) or None}
    if reasoning := draw(_texts):
        message["reasoning_content"] = reasoning
    finish = draw(st.sampled_from(["stop", "length", "content_filter"])) if not calls else "tool_calls"
    cached, written, reasoned = (draw(st.integers(0, 9)) for _ in range(3))
    usage = {
        "prompt_tokens": cached + written + draw(st.integers(1, 9)),
        "completion_tokens": reasoned + draw(st.integers(0, 9)),
        "prompt_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written},
        "completion_tokens_details": {"reasoning_tokens": reasoned},
    }
    return {
        "id": "chatcmpl-1",
        "created": 1_750_000_000,
        "model": "small",
        "choices": [
            {"index": 0, "message": message | ({"tool_calls": calls} if calls else {}), "finish_reason": finish}
        ],
        "usage": usage,
    }


def chat_chunks(completion: dict[str, Any], size: int = 3) -> bytes:
    """The stream of a completion."""
    head = {k: completion[k] for k in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
    choice = completion["choices"][0]
    message = choice["message"]
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    for field in ("reasoning_content", "content"):
        text = message.get(field) or ""
        deltas += [{field: text[i : i + size]} for i in range(0, len(text), size)]
    for i, call in enumerate(message.get("tool_calls") or ()):
        arguments = call["function"]["arguments"]
        deltas.append({"tool_calls": [{"index": i} | call | {"function": call["function"] | {"arguments": ""}}]})
        deltas += [
            {"tool_calls": [{"index": i, "function": {"arguments": arguments[at : at + size]}}]}
            for at in range(0, len(arguments), size)
        ]
    chunks = [head | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    chunks.append(head | {"choices": [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}]})
    chunks.append(head | {"choices": [], "usage": completion["usage"]})
    return b"".join(b"data: " + msgspec.json.encode(c) + b"\n\n" for c in chunks) + b"data: [DONE]\n\n"


def cut(data: bytes, draw: st.DataObject) -> list[bytes]:
    """`data` in pieces, cut anywhere."""
    at = sorted(draw.draw(st.lists(st.integers(0, len(data)), max_size=8)))
    return [data[a:b] for a, b in zip([0, *at], [*at, len(data)], strict=True) if a < b]


async def told(pieces: list[bytes], speaker: speaking.Speaker) -> bytes:
    """What the speaker makes of the stream."""
    flow = speaking.told(Pieces(pieces), speaker)
    out = []
    while (data := await flow.read()) is not None:
        out.append(data)
    return b"".join(out)
