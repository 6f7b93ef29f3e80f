"""Low-risk repairs of a model's JSON: each undoes a known habit of models, has a name, and invents no value.

Text inside JSON strings is never touched. What is still not JSON afterwards is invalid: no guessing.
"""

import re
from collections.abc import Callable
from typing import Any

import msgspec

_decode = msgspec.json.Decoder().decode
_THINK = re.compile(r"<(think|thinking|reasoning)>.*?</\1>", re.DOTALL | re.IGNORECASE)
_FENCE = re.compile(r"```[A-Za-z0-9_-]*[ \t]*\r?\n?(.*?)```", re.DOTALL)
_OPEN = re.compile(r"[{\[]")
_LITERALS = {"True": "true", "False": "false", "None": "null"}
_PAIRS = {"{": "}", "[": "]"}
NOT_JSON = object()
TEXT_MAX = 1 << 16  # characters; longer outputs are not repaired, so that no output costs more than milliseconds
STARTS_MAX = 8  # opening brackets tried as the start of the value


def decode(text: str) -> Any:
    """The JSON value in `text`, or NOT_JSON. NaN and infinities are not JSON."""
    try:
        return _decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return NOT_JSON


def repair(text: str, *, truncated: bool) -> tuple[str, list[str]]:
    """`text` as JSON and the repairs that made it so, in order; the text as it came where none helps.

    `truncated`: the model ran out of tokens: what is missing is unknown, so nothing is closed for it.
    """
    if len(text) > TEXT_MAX or decode(text) is not NOT_JSON:
        return text, []
    done: list[str] = []
    now = text
    for name, step in STEPS:
        if name == "closers" and truncated:
            continue
        changed = step(now)
        if changed != now:
            now = changed
            done.append(name)
            if decode(now) is not NOT_JSON:
                return now, done
    return text, []


def think_tags(text: str) -> str:
    """Without the model's reasoning in tags."""
    return _THINK.sub("", text).strip()


def fence(text: str) -> str:
    """The inside of the last Markdown fence."""
    found = _FENCE.findall(text)
    return found[-1].strip() if found else text


def prose(text: str) -> str:
    """The last complete object or array, without the words around it."""
    best = ""
    at = tried = 0
    while (start := _next_open(text, at)) >= 0 and tried < STARTS_MAX:
        end = _close_of(text, start)
        tried += end < 0
        if end < 0:
            at = start + 1
            continue
        best = text[start:end]
        at = end
    if best:
        return best
    start = _next_open(text, 0)
    return text[start:].strip() if start > 0 else text  # an unclosed value still loses the words before it


def _next_open(text: str, at: int) -> int:
    found = _OPEN.search(text, at)
    return found.start() if found else -1


def _close_of(text: str, start: int) -> int:
    """One past the bracket that closes the one at `start`, strings skipped; -1 where it is not closed."""
    stack: list[str] = []
    i = start
    while i < len(text):
        c = text[i]
        if c in "\"'" and _opens_string(text, i, c):
            i = _string_end(text, i)
            continue
        if c in _PAIRS:
            stack.append(_PAIRS[c])
        elif c in "}]":
            if not stack or stack.pop() != c:
                return -1
            if not stack:
                return i + 1
        i += 1
    return -1


def _opens_string(text: str, at: int, quote: str) -> bool:
    """A double quote always does; a single one only where a value or key may stand (not an apostrophe)."""
    if quote == '"':
        return True
    before = at - 1
    while before >= 0 and text[before].isspace():
        before -= 1
    return before >= 0 and text[before] in "{[,:"


def _string_end(text: str, start: int) -> int:
    quote = text[start]
    i = start + 1
    while i < len(text):
        if text[i] == "\\":
            i += 2
            continue
        if text[i] == quote and (quote == '"' or _closes_single(text, i)):
            return i + 1
        i += 1
    return len(text)


def _closes_single(text: str, at: int) -> bool:
    """A single quote ends its string only before punctuation: the one in “it's” does not."""
    after = at + 1
    while after < len(text) and text[after].isspace():
        after += 1
    return after == len(text) or text[after] in ",:}]"


def _outside(text: str, change: Callable[[str], str]) -> str:
    """`change` applied to what is not inside strings."""
    out: list[str] = []
    i = last = 0
    while i < len(text):
        if text[i] in "\"'" and _opens_string(text, i, text[i]):
            out.append(change(text[last:i]))
            end = _string_end(text, i)
            out.append(text[i:end])
            i = last = end
            continue
        i += 1
    out.append(change(text[last:]))
    return "".join(out)


def trailing_comma(text: str) -> str:
    """Without commas before a closing bracket."""
    return _outside(text, lambda part: re.sub(r",(\s*[}\]])", r"\1", part))


def python_literals(text: str) -> str:
    """true, false and null as JSON writes them."""
    return _outside(text, lambda part: re.sub(r"\b(True|False|None)\b", lambda m: _LITERALS[m[1]], part))


def single_quotes(text: str) -> str:
    """Strings in single quotes as JSON strings."""
    out: list[str] = []
    i = 0
    while i < len(text):
        if text[i] in "\"'" and _opens_string(text, i, text[i]):
            end = _string_end(text, i)
            inner = text[i + 1 : end - 1]
            out.append(text[i:end] if text[i] == '"' else '"' + inner.replace("\\'", "'").replace('"', '\\"') + '"')
            i = end
            continue
        out.append(text[i])
        i += 1
    return "".join(out)


def closers(text: str) -> str:
    """With the closing brackets that are missing at the end; an open string or a dangling key is left alone."""
    stack: list[str] = []
    i = 0
    while i < len(text):
        c = text[i]
        if c == '"':
            i = _string_end(text, i)
            if not text[:i].endswith('"') or i > len(text):
                return text
            continue
        if c in _PAIRS:
            stack.append(_PAIRS[c])
        elif c in "}]" and (not stack or stack.pop() != c):
            return text
        i += 1
    tail = text.rstrip()
    if not stack or tail.endswith((",", ":")):
        return text
    return tail + "".join(reversed(stack))


STEPS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("think_tags", think_tags),
    ("fence", fence),
    ("prose", prose),
    ("trailing_comma", trailing_comma),
    ("python_literals", python_literals),
    ("single_quotes", single_quotes),
    ("closers", closers),
)
