"""What a guardrail is: something that looks at a text or at tool calls and says what it found there."""

from collections.abc import Awaitable
from typing import Literal, Protocol

import msgspec

At = Literal["input", "output"]


class ToolCall(msgspec.Struct, frozen=True):
    """A call that the model asks for; `arguments` is JSON text as it came."""

    name: str
    arguments: str = ""


class Seen(msgspec.Struct, frozen=True):
    """What a guardrail is shown: one text at a time, and once in each direction the tools.

    `role`: whose message the text is from, where that is known. `tools`: the names that a request declares (input).
    `calls`: the calls of one answer (output). `text` is empty where tools or calls are shown.
    """

    text: str
    at: At
    route: str = ""
    role: str = ""
    tools: tuple[str, ...] = ()
    calls: tuple[ToolCall, ...] = ()


class Found(msgspec.Struct, frozen=True):
    """`kind` of what was found: a word or two, which is recorded; never the thing itself.

    `spans`: where it is, as (start, end) characters of the text; these are masked, or looked at again as more of a
    stream arrives. Empty: it is the text as a whole, which can be blocked or flagged but not masked.
    """

    kind: str
    spans: tuple[tuple[int, int], ...] = ()


Look = Found | None


class Guardrail(Protocol):
    """The plugin protocol. An app's own guardrail is a function of this signature, `async` where it waits."""

    def look(self, seen: Seen) -> Look | list[Found] | Awaitable[Look | list[Found]]:
        """What is wrong with `seen`; None where nothing. To raise is to fail: the policy's `fail` then decides."""
        ...


class Streaming(Protocol):
    """What a guardrail may have besides, so that a stream is not held back for longer than it needs."""

    window: int  # characters of its longest finding

    def hold(self, text: str) -> int:
        """How many characters at the end of `text` may belong to a finding that is not complete."""
        ...
