"""A chat answer in the form of OpenAI's responses: as a whole, and as the events of a stream."""

from typing import Any

import msgspec

from pilothouse.providers.openai import Completion, text_of
from pilothouse.providers.usage import Usage

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
# What the request said is said again in the answer, with OpenAI's defaults for what was left out.
_ECHO: dict[str, Any] = {
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "reasoning": {"effort": None, "summary": None},
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
    "user": None,
}
_PARTS = {"text": ("output_text", "text"), "refusal": ("refusal", "refusal"), "reasoning": ("reasoning_text", "text")}
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
Json = dict[str, Any]


def usage_of(usage: Usage | None) -> Json | None:
    """Totals under the names of responses; None where the provider reported none."""
    tokens = usage.tokens() if usage is not None else None
    if tokens is None:
        return None
    return {
        "input_tokens": tokens.input,
        "input_tokens_details": {"cached_tokens": tokens.cache_read, "cache_write_tokens": tokens.cache_write},
        "output_tokens": tokens.output,
        "output_tokens_details": {"reasoning_tokens": tokens.reasoning},
        "total_tokens": tokens.input + tokens.output,
    }


def response(name: str, model: str, created: int, asked: Json) -> Json:
    """A response object that has only begun. `asked`: the request's body."""
    said = {k: default if asked.get(k) is None else asked[k] for k, default in _ECHO.items()}
    return {
        "id": f"resp_{name}",
        "object": "response",
        "created_at": created,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "model": model,
        "output": [],
        "previous_response_id": None,
        "store": False,
        "truncation": "disabled",
        "usage": None,
    } | said


def finished(head: Json, output: list[Json], finish: str, usage: Json | None) -> Json:
    """A response object at its end."""
    why = _INCOMPLETE.get(finish)
    ended: Json = {"status": "incomplete" if why else "completed", "output": output, "usage": usage}
    return head | ended | ({"incomplete_details": {"reason": why}} if why else {})


def part(kind: str, text: str) -> Json:
    """A part of an item; `kind` is text, refusal or reasoning."""
    name, field = _PARTS[kind]
    more: Json = {"annotations": [], "logprobs": []} if kind == "text" else {}
    return {"type": name, field: text} | more


def item(kind: str, name: str, status: str, content: list[Json]) -> Json:
    """A message or a reasoning item."""
    if kind == "reasoning":
        return {"type": "reasoning", "id": name, "summary": [], "content": content, "status": status}
    return {"type": "message", "id": name, "status": status, "role": "assistant", "content": content}


def call(name: str, call_id: str, function: str, status: str, arguments: str) -> Json:
    """A function call's item."""
    return {
        "type": "function_call",
        "id": name,
        "call_id": call_id,
        "name": function,
        "arguments": arguments,
        "status": status,
    }


def whole(completion: Completion, created: int, asked: Json) -> bytes:
    """A completion's first choice as a response: reasoning, message, function calls."""
    choice = completion.choices[0]
    said = choice.message
    output: list[Json] = []
    if said is not None:
        if reasoning := said.reasoning_content or text_of(said.reasoning):
            output.append(item("reasoning", _name("rs", completion.id, 0), "completed", [part("reasoning", reasoning)]))
        texts = [("text", text_of(said.content)), ("refusal", said.refusal or "")]
        if parts := [part(kind, text) for kind, text in texts if text]:
            output.append(item("message", _name("msg", completion.id, len(output)), "completed", parts))
        for made in said.tool_calls or ():
            function = made.get("function") or {}
            name, arguments = str(function.get("name") or ""), str(function.get("arguments") or "")
            at = _name("fc", completion.id, len(output))
            output.append(call(at, str(made.get("id") or ""), name, "completed", arguments))
    if output and choice.finish_reason in _INCOMPLETE:
        output[-1]["status"] = "incomplete"
    head = response(completion.id, completion.model, created, asked)
    return _encode(finished(head, output, choice.finish_reason or "", usage_of(completion.usage)))


def _name(kind: str, of: str, number: int) -> str:
    return f"{kind}_{of}_{number}"


class ResponsesSpeaker:
    """See `Speaker`. `asked`: the request's body."""

    def __init__(self, asked: Json) -> None:
        self._asked = asked
        self._id = ""
        self._head: Json = {}
        self._sequence = -1
        self._output: list[Json] = []  # items that are complete
        self._item: Json | None = None  # the one that is being said
        self._kind = ""  # of the part that is being said
        self._said: list[str] = []  # its text so far, or a call's arguments

    def event(self, kind: str, **more: Any) -> bytes:
        """One event, with its number."""
        self._sequence += 1
        data = _encode({"type": kind, "sequence_number": self._sequence} | more)
        return b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"

    def begin(self, name: str, model: str, created: int) -> bytes:
        """`response.created` and `response.in_progress`."""
        self._id = name
        return self.head(response(name, model, created, self._asked))

    def head(self, head: Json) -> bytes:
        """The same for a response object that there is already."""
        self._head = head
        return self.event("response.created", response=head) + self.event("response.in_progress", response=head)

    def say(self, kind: str, text: str) -> bytes:
        """A delta of a part; parts of text and refusal share a message."""
        start = b""
        holder = "reasoning" if kind == "reasoning" else "message"
        if self._item is None or self._item["type"] != holder:
            start = self.close("completed")
            prefix = "rs" if holder == "reasoning" else "msg"
            start += self.add(item(holder, _name(prefix, self._id, len(self._output)), "in_progress", []))
        if self._kind != kind:
            start += self.part_done()
            self._kind = kind
            start += self.event("response.content_part.added", **self._place(), part=part(kind, ""))
        self._said.append(text)
        more: Json = {"logprobs": []} if kind == "text" else {}
        return start + self.event(f"response.{_PARTS[kind][0]}.delta", **self._place(), delta=text, **more)

    def call(self, name: str, function: str) -> bytes:
        """An item of its own for each call."""
        before = self.close("completed")
        return before + self.add(call(_name("fc", self._id, len(self._output)), name, function, "in_progress", ""))

    def arguments(self, more: str) -> bytes:
        """One delta for each piece."""
        self._said.append(more)
        return self.event("response.function_call_arguments.delta", **self._at(), delta=more)

    def add(self, added: Json) -> bytes:
        """An item begins."""
        self._item = added
        return self.event("response.output_item.added", output_index=len(self._output), item=added)

    def close(self, status: str, complete: Json | None = None) -> bytes:
        """The item is over; `complete`: as it is to be said then, where that is known otherwise."""
        if self._item is None:
            return b""
        if self._item["type"] == "function_call":
            self._item = self._item | {"arguments": "".join(self._said)}
            said = {name: self._item[name] for name in ("name", "arguments")}
            out = self.event("response.function_call_arguments.done", **self._at(), **said)
            self._said = []
        else:
            out = self.part_done()
        ended = complete or self._item | {"status": status}
        out += self.event("response.output_item.done", output_index=len(self._output), item=ended)
        self._output.append(ended)
        self._item = None
        return out

    def part_done(self) -> bytes:
        """The part is over."""
        if not self._kind or self._item is None:
            return b""
        kind, text = self._kind, "".join(self._said)
        name, field = _PARTS[kind]
        more: Json = {"logprobs": []} if kind == "text" else {}
        done = part(kind, text)
        place = self._place()
        out = self.event(f"response.{name}.done", **place, **{field: text}, **more)
        out += self.event("response.content_part.done", **place, part=done)
        self._item = self._item | {"content": [*self._item["content"], done]}
        self._kind, self._said = "", []
        return out

    def _at(self) -> Json:
        return {"item_id": (self._item or {}).get("id"), "output_index": len(self._output)}

    def _place(self) -> Json:
        return self._at() | {"content_index": len((self._item or {}).get("content") or ())}

    def end(self, finish: str, usage: Usage | None) -> bytes:
        """`response.completed`, or `response.incomplete`, with the whole answer and its usage."""
        closed = self.close("incomplete" if finish in _INCOMPLETE else "completed")
        return closed + self.last(finished(self._head, self._output, finish, usage_of(usage)))

    def last(self, response: Json) -> bytes:
        """The same for a response object that there is already."""
        return self.event(f"response.{response.get('status') or 'completed'}", response=response)


def as_stream(body: bytes) -> bytes:
    """A whole response as the events of a stream; items that are neither message nor call are said whole."""
    said: Json = _decode(body)
    speaker = ResponsesSpeaker({})
    out = [speaker.head(said | {"status": "in_progress", "output": [], "usage": None, "incomplete_details": None})]
    for whole_item in said.get("output") or ():
        kind = whole_item.get("type")
        start: Json = {"status": "in_progress"} if "status" in whole_item else {}
        if kind == "function_call":
            out.append(speaker.add(whole_item | start | {"arguments": ""}))
            out.append(speaker.arguments(whole_item.get("arguments") or ""))
        elif kind == "message":
            out.append(speaker.add(whole_item | start | {"content": []}))
            for one in whole_item.get("content") or ():
                text = one.get("type") != "refusal"
                out.append(speaker.say("text" if text else "refusal", one.get("text" if text else "refusal") or ""))
                out.append(speaker.part_done())
        else:
            out.append(speaker.add(whole_item))
        out.append(speaker.close("completed", whole_item))
    out.append(speaker.last(said))
    return b"".join(out)
