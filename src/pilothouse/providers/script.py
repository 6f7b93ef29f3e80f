"""The script of the scripted provider: which rule answers which request, and how.

```yaml
seed: 7                       # of every random choice; the same requests then meet the same fate
model: scripted-1             # the model name in answers; the requested one where it is left out
rules:                        # the first rule that matches answers
  - match: {contains: refund, regex: "order \\\\d+", model: small, attempt: 1, stream: true, schema: false}
    rate: 0.3                 # of the matching requests; the others go on to the next rule
    times: 2                  # at most so often
    reply: "You said: {input}"      # or json: {…}, or tool_calls: [{name, arguments}]
    thinking: Let me see.     # what it thinks before it answers
    usage: {prompt: 20, completion: 5, cached: 4, cache_write: 0, reasoning: 0}   # or none
    latency: 0.2              # seconds before the answer's head; [low, high] for a random one
    first_token: 0.1          # seconds between the head of a stream and its first token
    chunk_delay: 0.01         # between chunks
    chunk_size: 12            # characters in a chunk
    status: 429               # an error instead of an answer
    retry_after: 2
    error: try later
    refuse: overloaded        # or this error, with the status and in the words of the dialect that is spoken
    fault: stall              # see FAULTS
    headers: {x-ratelimit-remaining-requests: "3", retry-after-ms: "250"}
```
"""

import random
import re
from typing import Any, Literal

import msgspec

from pilothouse.domain.errors import ConfigError
from pilothouse.domain.hashing import content_hash

Fault = Literal[
    "stall", "stall_head", "stall_mid", "cut", "cut_before", "reset", "garbage", "malformed", "no_done", "no_finish",
    "error_event", "error_body", "drop",
]  # fmt: skip
FAULTS: dict[str, str] = {
    "stall": "the head of the answer, then nothing",
    "stall_head": "nothing at all, the connection open",
    "stall_mid": "half of the answer, then nothing",
    "cut": "half of the answer, then the connection closed",
    "cut_before": "the head of the answer, then the connection closed",
    "reset": "half of the answer, then the connection reset (TCP RST)",
    "garbage": "half of the answer, then events that are not JSON",
    "malformed": "an answer that is not JSON",
    "no_done": "the whole answer without its end marker ([DONE], message_stop …)",
    "no_finish": "the whole answer without a finish_reason",
    "error_event": "half of the answer, then the provider's own error event",
    "error_body": "the provider's own error with status 200 instead of an answer",
    "drop": "the connection closed without a byte",
}
Refusal = Literal["context_window", "content_filter", "overloaded", "rate_limit", "quota", "credentials"]
Seconds = float | tuple[float, float]


class Match(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that is given must hold. `contains` and `regex` look at the last user message."""

    contains: str | None = None
    regex: str | None = None
    anywhere: str | None = None  # in any message
    model: str | None = None
    attempt: int | None = None  # the n-th call with these messages, from 1
    stream: bool | None = None
    schema: bool | None = None


class UsageRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the provider says it counted, inclusive as OpenAI's totals are."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0
    cache_write: int = 0
    reasoning: int = 0


class ToolCall(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tool that the answer calls."""

    name: str
    arguments: dict[str, Any] = {}


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to answer what matches."""

    match: Match = Match()
    rate: float = 1.0
    times: int | None = None
    reply: str | list[str] | None = None
    json: Any = None
    tool_calls: list[ToolCall] = []
    thinking: str | None = None
    usage: UsageRule | Literal["none"] | None = None
    latency: Seconds = 0.0
    first_token: Seconds = 0.0
    chunk_delay: Seconds = 0.0
    chunk_size: int = 12
    status: int = 200
    retry_after: float | str | None = None
    error: str = "scripted error"
    refuse: Refusal | None = None
    fault: Fault | None = None
    finish_reason: str | None = None
    served_model: str | None = None
    fingerprint: str = "fp_scripted"
    headers: dict[str, str] = {}


class Script(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rules in order; what none matches is answered with the last user message."""

    seed: int = 0
    model: str = ""
    rules: list[Rule] = []


DEFAULT = Rule(reply="You said: {input}")


def load(text: bytes, where: str) -> Script:
    """A script from YAML (or JSON); raises ConfigError."""
    try:
        script = msgspec.yaml.decode(text, type=Script) if text.strip() else Script()
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise ConfigError(f"the script is wrong: {error}", where=where, hint="see providers/script.py") from error
    for i, rule in enumerate(script.rules):
        try:
            re.compile(rule.match.regex or "")
        except re.error as error:
            raise ConfigError(f"rule {i}: the regex is wrong: {error}", where=where) from error
        if not 0 <= rule.rate <= 1:
            raise ConfigError(f"rule {i}: rate is not between 0 and 1", where=where, hint="write 0.3 for 30 %")
    return script


def last_user(messages: list[Any]) -> str:
    """The text of the last user message."""
    for message in reversed(messages):
        if isinstance(message, dict) and message.get("role") == "user":
            return text_of(message.get("content"))
    return ""


def text_of(content: Any) -> str:
    """A message's text, whether it is a string or parts."""
    if isinstance(content, list):
        return "".join(str(p.get("text", "")) for p in content if isinstance(p, dict))
    return content if isinstance(content, str) else ""


class Player:
    """Plays a script: keeps count of what was asked how often."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self._random = random.Random(script.seed)
        self._asked: dict[str, int] = {}
        self._used: dict[int, int] = {}

    def choose(self, body: dict[str, Any]) -> Rule:
        """The rule that answers this request."""
        found = body.get("messages")
        messages: list[Any] = found if isinstance(found, list) else []
        key = content_hash(messages)
        attempt = self._asked[key] = self._asked.get(key, 0) + 1
        for i, rule in enumerate(self.script.rules):
            if not _holds(rule.match, body, messages, attempt):
                continue
            if rule.times is not None and self._used.get(i, 0) >= rule.times:
                continue
            if rule.rate < 1.0 and self._random.random() >= rule.rate:
                continue
            self._used[i] = self._used.get(i, 0) + 1
            return rule
        return DEFAULT

    def seconds(self, value: Seconds) -> float:
        """A fixed or random time."""
        return self._random.uniform(*value) if isinstance(value, tuple) else value

    def text(self, rule: Rule, body: dict[str, Any]) -> str:
        """The text of the answer; `{input}` in it stands for the last user message."""
        if rule.json is not None:
            return msgspec.json.encode(rule.json).decode()
        reply = self._random.choice(rule.reply) if isinstance(rule.reply, list) else rule.reply
        if reply is None:
            return "" if rule.tool_calls else "You said: " + last_user(body.get("messages") or [])
        return reply.replace("{input}", last_user(body.get("messages") or []))


def _holds(match: Match, body: dict[str, Any], messages: list[Any], attempt: int) -> bool:
    asked = last_user(messages)
    shape = body.get("response_format")
    wants = isinstance(shape, dict) and shape.get("type") == "json_schema"
    return (
        (match.contains is None or match.contains in asked)
        and (match.regex is None or re.search(match.regex, asked) is not None)
        and (match.anywhere is None or any(match.anywhere in text_of(m.get("content")) for m in messages))
        and (match.model is None or match.model == body.get("model"))
        and (match.attempt is None or match.attempt == attempt)
        and (match.stream is None or match.stream == bool(body.get("stream")))
        and (match.schema is None or match.schema == wants)
    )
