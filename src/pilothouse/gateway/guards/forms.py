"""Where the text stands in each API's stream events. The engine knows texts; only this module knows events.

A form reads an event into parts: texts that grow (`Text`), and parts that can be judged only when they are complete,
such as a tool call (`Part`). What a form does not know is judged as a whole, event by event: never skipped.
"""

from collections.abc import Hashable
from typing import Any, Protocol

import msgspec

Key = tuple[Hashable, ...]
Event = dict[str, Any]


class Text(msgspec.Struct):
    """Some more of the text `key`; it stands in `holder[field]`."""

    key: Key
    holder: dict[str, Any]
    field: str


class Reading(msgspec.Struct):
    """What an event holds. `part`: it belongs to this part, and waits for its end. `ends`: the texts and parts whose
    keys begin so are complete (before this event where it holds nothing of them). `sealed`: judge it as a whole."""

    texts: list[Text] = []
    part: Key | None = None
    ends: list[Key] = []
    sealed: bool = False


class Form(Protocol):
    """An API's stream."""

    def read(self, event: Event) -> Reading:
        """What `event` holds."""
        ...

    def more(self, key: Key, like: Event, text: str) -> Event:
        """An event that says some more of the text `key`, in the form of `like`."""
        ...

    def call(self, events: list[Event]) -> tuple[str, str] | None:
        """Name and arguments of the tool call that a part's events make; None where it is none."""
        ...

    def rewrite(self, events: list[Event], arguments: str) -> None:
        """Put other arguments into a tool call's events."""
        ...


class ChatForm:
    """OpenAI's chat/completions: deltas in choices. A choice's text is over with its `finish_reason`."""

    def __init__(self) -> None:
        self._part: dict[int, Key] = {}  # choice → the tool call that is being said

    def read(self, event: Event) -> Reading:
        reading = Reading()
        choices = event.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict):
                self._choice(choice, reading)
        return reading

    def _choice(self, choice: dict[str, Any], reading: Reading) -> None:
        index = _number(choice.get("index"))
        choice.pop("logprobs", None)  # the same text again, token by token
        delta = choice.get("delta")
        delta = delta if isinstance(delta, dict) else {}
        for field, value in delta.items():
            if isinstance(value, str) and field != "role":
                reading.texts.append(Text((index, field), delta, field))
            elif value and not isinstance(value, str):
                self._held(index, field, value, reading)
        if isinstance(choice.get("text"), str):  # the older completions
            reading.texts.append(Text((index, "text"), choice, "text"))
        if choice.get("finish_reason"):
            reading.ends.append((index,))
            self._part.pop(index, None)

    def _held(self, index: int, field: str, value: Any, reading: Reading) -> None:
        first = value[0] if isinstance(value, list) and value and isinstance(value[0], dict) else {}
        many = isinstance(value, list) and len({_number(c.get("index")) for c in value if isinstance(c, dict)}) > 1
        number: Hashable = "many" if many else _number(first.get("index"))
        reading.part = key = (index, field, number)
        before = self._part.get(index)
        if before is not None and before != key and not many:
            reading.ends.append(before)
        self._part[index] = key

    def more(self, key: Key, like: Event, text: str) -> Event:
        head = {k: v for k, v in like.items() if k not in ("choices", "usage")}
        index, field = key[0], str(key[1])
        if field == "text":
            return head | {"choices": [{"index": index, "text": text, "finish_reason": None}]}
        return head | {"choices": [{"index": index, "delta": {field: text}, "finish_reason": None}]}

    def call(self, events: list[Event]) -> tuple[str, str] | None:
        said = [call for event in events for call in _chat_calls(event)]
        if not said:
            return None
        return "".join(c.get("name") or "" for c in said), "".join(c.get("arguments") or "" for c in said)

    def rewrite(self, events: list[Event], arguments: str) -> None:
        rest = arguments
        for event in events:
            for call in _chat_calls(event):
                if "arguments" in call:
                    call["arguments"], rest = rest, ""


def _chat_calls(event: Event) -> list[dict[str, Any]]:
    found = []
    for choice in event.get("choices") or ():
        delta = choice.get("delta") or {}
        found += [c.get("function") or {} for c in delta.get("tool_calls") or () if isinstance(c, dict)]
        found += [delta["function_call"]] if isinstance(delta.get("function_call"), dict) else []
    return [call for call in found if isinstance(call, dict)]


class MessagesForm:
    """Anthropic's messages: blocks that start, grow and stop."""

    _TEXTS = {"text_delta": "text", "thinking_delta": "thinking"}  # noqa: RUF012  # a constant
    _WHOLE = frozenset(("tool_use", "server_tool_use", "mcp_tool_use"))

    def __init__(self) -> None:
        self._tools: set[int] = set()

    def read(self, event: Event) -> Reading:
        kind, index = event.get("type"), _number(event.get("index"))
        if kind == "content_block_start":
            return self._start(event.get("content_block"), index)
        if kind == "content_block_delta":
            return self._delta(event.get("delta"), index)
        if kind == "content_block_stop":
            self._tools.discard(index)
            return Reading(ends=[(index,)])
        return Reading(ends=[()] if kind in ("message_delta", "message_stop") else [], sealed=True)

    def _start(self, block: Any, index: int) -> Reading:
        if isinstance(block, dict) and block.get("type") in self._WHOLE:
            self._tools.add(index)
            return Reading(part=(index, "call"))
        if isinstance(block, dict) and isinstance(block.get("text"), str):
            return Reading(texts=[Text((index, "text"), block, "text")])
        return Reading(sealed=True)

    def _delta(self, delta: Any, index: int) -> Reading:
        if index in self._tools:
            return Reading(part=(index, "call"))
        field = self._TEXTS.get(str(delta.get("type"))) if isinstance(delta, dict) else None
        if isinstance(delta, dict) and field is not None and isinstance(delta.get(field), str):
            return Reading(texts=[Text((index, field), delta, field)])
        return Reading(sealed=True)

    def more(self, key: Key, like: Event, text: str) -> Event:  # noqa: ARG002  # a block is known by its number
        field = str(key[1])
        delta = {"type": f"{field}_delta", field: text}
        return {"type": "content_block_delta", "index": key[0], "delta": delta}

    def call(self, events: list[Event]) -> tuple[str, str] | None:
        name, said = "", []
        for event in events:
            block, delta = event.get("content_block") or {}, event.get("delta") or {}
            name = str(block.get("name") or name)
            if block.get("input"):
                said.append(msgspec.json.encode(block["input"]).decode())
            said.append(str(delta.get("partial_json") or ""))
        return name, "".join(said)

    def rewrite(self, events: list[Event], arguments: str) -> None:
        rest = arguments
        for event in events:
            if (event.get("content_block") or {}).get("input"):
                event["content_block"]["input"] = {}
            delta = event.get("delta")
            if isinstance(delta, dict) and "partial_json" in delta:
                delta["partial_json"], rest = rest, ""


class ResponsesForm:
    """OpenAI's responses: `….delta` events, each text closed by a `….done` that says it again as a whole."""

    def __init__(self) -> None:
        self._calls: set[int] = set()  # output_index of items that are calls

    def read(self, event: Event) -> Reading:
        kind, output = str(event.get("type")), _number(event.get("output_index"))
        item = event.get("item")
        if kind == "response.output_item.added" and isinstance(item, dict) and _is_call(item):
            self._calls.add(output)
            return Reading(part=(output, "call"))
        if kind == "response.output_item.done" and output in self._calls:
            self._calls.discard(output)
            return Reading(part=(output, "call"), ends=[(output,)])
        if output in self._calls and "output_index" in event:
            return Reading(part=(output, "call"))
        base = kind.removesuffix(".delta").removesuffix(".done").removesuffix("_part")
        key = (output, base, _number(event.get("content_index")), _number(event.get("summary_index")))
        if kind.endswith(".delta") and isinstance(event.get("delta"), str):
            event.pop("logprobs", None)
            return Reading(texts=[Text(key, event, "delta")])
        if kind == "response.output_item.done":
            return Reading(ends=[(output,)], sealed=True)
        if kind.endswith(".done"):
            return Reading(ends=[key], sealed=True)
        if kind in ("response.completed", "response.incomplete", "response.failed"):
            return Reading(ends=[()], sealed=True)
        return Reading(sealed=True)

    def more(self, key: Key, like: Event, text: str) -> Event:
        fields = ("item_id", "output_index", "content_index", "summary_index", "sequence_number")
        return {"type": f"{key[1]}.delta"} | {k: like[k] for k in fields if k in like} | {"delta": text}

    def call(self, events: list[Event]) -> tuple[str, str] | None:
        item: dict[str, Any] = next((e["item"] for e in reversed(events) if isinstance(e.get("item"), dict)), {})
        said = item.get("arguments", item.get("input"))
        if not said:
            said = "".join(str(e.get("delta") or "") for e in events)
        text = said if isinstance(said, str) else msgspec.json.encode(said).decode()
        return str(item.get("name", item.get("type", ""))), text

    def rewrite(self, events: list[Event], arguments: str) -> None:
        rest = arguments
        for event in events:
            for holder in (event, event.get("item")):
                field = next((f for f in ("arguments", "input") if isinstance(holder, dict) and holder.get(f)), None)
                if field is not None and isinstance(holder, dict):
                    holder[field] = arguments
            if isinstance(event.get("delta"), str):
                event["delta"], rest = rest, ""


def _is_call(item: dict[str, Any]) -> bool:
    return str(item.get("type")).endswith("_call")


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0


FORMS: dict[str, type[Form]] = {"chat": ChatForm, "messages": MessagesForm, "responses": ResponsesForm}
