"""The responses form: OpenAI's responses. Its last event says the whole answer once more."""

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from pilothouse.domain.errors import CutStream, PilothouseError, ServerError, UpstreamError
from pilothouse.providers.failures import failure_within
from pilothouse.providers.form import Assembling
from pilothouse.providers.openai import (
    Choice,
    Completion,
    InputDetails,
    Message,
    OutputDetails,
    Usage,
    events,
    whole_events,
)

ENDS = frozenset(("response.completed", "response.incomplete", "response.failed"))
_CALLS = {"function_call": "arguments", "custom_tool_call": "input"}
_decode = msgspec.json.Decoder().decode


class ResponsesUsage(msgspec.Struct):
    """What the provider counted: totals, as in chat, under other names."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: InputDetails | None = None
    output_tokens_details: OutputDetails | None = None
    total_tokens: int | None = None
    cost: Any = None
    cost_in_usd_ticks: Any = None

    def inclusive(self) -> Usage:
        """In chat's names."""
        return Usage(
            self.input_tokens,
            self.output_tokens,
            self.input_tokens_details,
            self.output_tokens_details,
            total_tokens=self.total_tokens,
            cost=self.cost,
            cost_in_usd_ticks=self.cost_in_usd_ticks,
        )


class _Reason(msgspec.Struct):
    reason: str = ""


class Whole(msgspec.Struct):
    """A response, as far as we look into it."""

    id: str = ""
    model: str = ""
    status: str | None = None
    output: list[dict[str, Any]] | None = None
    usage: ResponsesUsage | None = None
    incomplete_details: _Reason | None = None
    error: Any = None


class Event(msgspec.Struct):
    """One event of a stream, as far as we look into it."""

    type: str = ""
    response: Whole | None = None
    output_index: int = 0
    item: dict[str, Any] | None = None
    delta: Any = None

    @property
    def id(self) -> str | None:
        """The answer's id, in its first event."""
        return self.response.id if self.response else None

    @property
    def model(self) -> str | None:
        """The served model, in its first event."""
        return self.response.model if self.response else None

    @property
    def has_token(self) -> bool:
        """Whether it carries something of the answer, or its end."""
        if self.type == "response.output_item.added":
            return self.item is not None and self.item.get("type") not in ("message", "reasoning")
        return self.type in ENDS or (self.type.endswith(".delta") and bool(self.delta))


_event: Callable[[bytes], Event] = msgspec.json.Decoder(Event).decode
_whole: Callable[[bytes], Whole] = msgspec.json.Decoder(Whole).decode


def read_event(data: bytes) -> Event:
    """One event's data; raises ServerError or RateLimited where it is none, or the provider's own error."""
    try:
        event = _event(data)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise ServerError(f"the provider sent an unreadable event: {error}", code="malformed_stream") from error
    if event.type == "error" or not event.type:
        raise failure_within(msgspec.json.decode(data), streaming=True)
    if event.type == "response.failed":
        raise _failed(event.response, streaming=True)
    return event


def _failed(response: Whole | None, *, streaming: bool) -> UpstreamError:
    error = response.error if response else None
    return failure_within({"error": error} if error else "no reason given", streaming=streaming)


class ResponsesForm:
    """See `Form`."""

    name = "responses"
    done = b""

    def whole(self, data: bytes) -> int:
        """Whole events."""
        return whole_events(data)

    def read(self, body: bytes) -> Completion:
        """A whole response; one that goes on in the background has no finish reason yet."""
        try:
            response = _whole(body)
        except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
            raise _malformed(str(error)) from error
        if response.status == "failed":
            raise _failed(response, streaming=False)
        if response.output is None:
            raise _malformed("it has no output")
        return completion_of(response)

    def first(self, block: bytes) -> Event | None:
        """The first delta that is not empty, an item that is neither message nor reasoning, or the end."""
        began: Event | None = None
        for event in _events(block):
            began = began or (event if event.response is not None else None)
            if event.has_token:
                return began or event
        return None

    def ends(self, block: bytes) -> bool:
        """`response.completed`, or one of its sisters."""
        return (b"response.completed" in block or b"response.incomplete" in block or b"response.failed" in block) and (
            any(event.type in ENDS for event in _events(block))
        )

    def without_usage(self, block: bytes) -> bytes:
        """A response's usage is the client's own."""
        return block

    def assembly(self) -> Assembling:
        """Events put together."""
        return Assembly()

    def error_event(self, error: PilothouseError, body: bytes) -> bytes:  # noqa: ARG002  # `body` says it all
        """An `error` event, after which nothing comes."""
        said = {k: v for k, v in _decode(body)["error"].items() if k != "type"}
        return b"event: error\ndata: " + msgspec.json.encode({"type": "error", "sequence_number": 0} | said) + b"\n\n"


def _events(block: bytes) -> Iterator[Event]:
    return (read_event(data) for data in events(block) if data != b"[DONE]")


class Assembly:
    """A stream's events put together into the response that it would have been."""

    def __init__(self) -> None:
        self._response = Whole()
        self._items: dict[int, dict[str, Any]] = {}
        self._done = False

    def add(self, block: bytes) -> None:
        """Take the whole events of `block`."""
        for event in _events(block):
            self._add(event)

    def _add(self, event: Event) -> None:
        if event.response is not None:
            self._response = event.response
        if event.item is not None:
            self._items[event.output_index] = event.item
        elif isinstance(event.delta, str):
            _grow(self._items.setdefault(event.output_index, {"type": "message"}), event.type, event.delta)
        self._done |= event.type in ENDS

    def completion(self) -> Completion:
        """What has arrived so far."""
        output = self._response.output or [self._items[index] for index in sorted(self._items)]
        return completion_of(msgspec.structs.replace(self._response, output=output))

    def finished(self) -> Completion:
        """The completion of a stream that is at its end; CutStream where it only seems to be."""
        if not self._done:
            raise CutStream(
                "the stream ended without response.completed",
                hint="the text so far is incomplete: ask again",
                upstream_status=200,
            )
        return self.completion()


def _grow(item: dict[str, Any], kind: str, delta: str) -> None:
    """Some more of an item that is still being said."""
    field = _CALLS.get(str(item.get("type")))
    if field is not None:
        item[field] = str(item.get(field) or "") + delta
    elif kind in ("response.output_text.delta", "response.refusal.delta"):
        _more(item, "content", "output_text" if kind == "response.output_text.delta" else "refusal", delta)
    elif kind.startswith("response.reasoning"):
        _more(item, "summary", "summary_text", delta)


def _more(item: dict[str, Any], field: str, kind: str, delta: str) -> None:
    parts: list[dict[str, Any]] = item.setdefault(field, [])
    text = "refusal" if kind == "refusal" else "text"
    if not parts or parts[-1].get("type") != kind:
        parts.append({"type": kind, text: ""})
    parts[-1][text] += delta


def completion_of(response: Whole) -> Completion:
    """A response as a completion of one choice: text, function calls in chat's shape, reasoning."""
    output = response.output or []
    parts = [p for i in output if i.get("type") == "message" for p in i.get("content") or () if isinstance(p, dict)]
    text = [str(p.get("text") or "") for p in parts if p.get("type") == "output_text"]
    refusal = "".join(str(p.get("refusal") or "") for p in parts if p.get("type") == "refusal")
    thought = [
        str(p.get("text") or "")
        for i in output
        if i.get("type") == "reasoning"
        for p in [*(i.get("summary") or ()), *(i.get("content") or ())]
        if isinstance(p, dict)
    ]
    calls = [_call(i) for i in output if i.get("type") in _CALLS]
    said = "".join(text) if text or not calls else None
    message = Message(
        content=said, refusal=refusal or None, tool_calls=calls or None, reasoning_content="".join(thought) or None
    )
    return Completion(
        choices=[Choice(message=message, finish_reason=_finish(response, called=bool(calls)))],
        id=response.id,
        model=response.model,
        usage=response.usage.inclusive() if response.usage else None,
    )


def _call(item: dict[str, Any]) -> dict[str, Any]:
    arguments = str(item.get(_CALLS[item["type"]]) or "")
    function = {"name": str(item.get("name") or ""), "arguments": arguments}
    return {"id": str(item.get("call_id") or ""), "type": "function", "function": function}


def _finish(response: Whole, *, called: bool) -> str | None:
    if response.status == "incomplete":
        why = response.incomplete_details.reason if response.incomplete_details else ""
        return "content_filter" if why == "content_filter" else "length"
    if response.status != "completed":
        return None
    return "tool_calls" if called else "stop"


def _malformed(why: str) -> ServerError:
    return ServerError(
        f"the provider's answer is not a response: {why}",
        hint="see the record's attempts; retries and fallbacks follow the route's policy",
        code="malformed_response",
        upstream_status=200,
    )


RESPONSES = ResponsesForm()
