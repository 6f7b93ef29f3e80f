"""The JSON value in a model's answer: the last complete one, out of reasoning tags, Markdown fences and prose.

Which of several values is meant is decided by rules that can be said in a sentence, or not at all:

- Only values of the kind that the schema wants (object or array) count.
- The last one counts, and only if there are words between it and the one before: two in a row are two answers.
- Something that looks like a value and is none, after it or touching it, means that it is not the whole answer.
"""

import re
from typing import Any

import msgspec

from pilothouse.gateway.repair import NOT_JSON, TEXT_MAX, Broken, Value, decode, doubled_key, mend

_THINK = re.compile(r"\s*<(think|thinking|reasoning)>", re.IGNORECASE)
_THOUGHT = re.compile(r"(?:^|\n)[ \t]*</(?:think|thinking|reasoning)>[ \t]*(?:\r?\n|$)", re.IGNORECASE)
_FENCED = re.compile(r"\s*```[A-Za-z0-9_-]*[ \t]*\r?\n(.*?)\r?\n?[ \t]*```\s*", re.DOTALL)
_FENCE = re.compile(r"```[A-Za-z0-9_-]*")
_PLACEHOLDER = re.compile(r"\{\{?\s*[\w .-]*\s*\}?\}")  # {name}, {{ name }}: of a template, no value
_LIST = re.compile(r"\[\s*(?:[\"'\[{]|-?\d|true|false|null|$)")  # what follows “[” looks like JSON, not like words
_JOINED_BEFORE = re.compile(r"[\"'\]}]\s*[,:]\s*$|^[\s\]}]*[\]}]\s*$|[\"']\s*:")
_JOINED_AFTER = re.compile(r"\s*[,:]\s*[\"'\[{\d]|.*[\"']\s*:", re.DOTALL)
_KINDS = {"{[": "object or array", "{": "object", "[": "array"}
STARTS_MAX = 8  # opening brackets tried that turn out to open no value
_REFUSAL = re.compile(
    r"\s*(?:(?:i'?m|i am|we'?re|we are)\s+(?:very |so |really )?(?:sorry|afraid|unable|not able)|sorry\b|"
    r"unfortunately,? i|(?:as an ai\b[^.]*?,? )?(?:i|we)\s+(?:can(?:'|no)?t|can not|won'?t|will not|must decline)|"
    r"i apologi[sz]e)",
    re.IGNORECASE,
)


class Found(msgspec.Struct, frozen=True):
    """What the text stages made of an answer. `text`: JSON, or empty with the reason in `error`."""

    text: str = ""
    value: Any = NOT_JSON
    repairs: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    error: str = ""
    refused: bool = False


def find(text: str, *, close: bool, kinds: str = "{[") -> Found:
    """The value in `text` with the repairs that made it JSON; or why there is none.

    `close`: the model says that it was finished, so that missing closing brackets may be added. `kinds`: the brackets
    that a value of the wanted kind opens with.
    """
    if len(text) > TEXT_MAX:
        return Found(error=f"the output is not JSON, and too long ({len(text)} characters) to be repaired")
    rest, tags = _without_reasoning(text)
    if rest is None:
        return Found(stages=("strip",), error="the output ends inside the model's reasoning")
    stages = ("strip",) if tags else ()
    value = decode(rest) if tags else NOT_JSON
    if value is not NOT_JSON:
        return Found(rest, value, tags, (*stages, "exact"))
    stages = (*stages, "extract")
    fenced = _FENCED.fullmatch(rest)
    if fenced:
        rest, tags = fenced[1].strip(), (*tags, "fence")
        value = decode(rest)
        if value is not NOT_JSON:
            return Found(rest, value, tags, stages)
    try:
        return _in_words(rest, tags, stages, close=close, kinds=kinds)
    except Broken as error:
        refused = not any(c in rest for c in "{[") and is_refusal(rest)
        why = "the model refused in words" if refused else f"the output is not JSON: {error.why}"
        return Found(stages=(*stages, "refusal") if refused else stages, error=why, refused=refused)


def is_refusal(text: str) -> bool:
    """Whether the words say that the model will not answer (in English; of others “not JSON” is said)."""
    return _REFUSAL.match(text.replace("’", "'")) is not None


def _without_reasoning(text: str) -> tuple[str | None, tuple[str, ...]]:
    """Without the tagged reasoning at the beginning; None where it is not closed. Tags inside a value stay."""
    rest, tags = text, False
    while opened := _THINK.match(rest):
        closed = rest.lower().find(f"</{opened[1].lower()}>", opened.end())
        if closed < 0:
            return None, ("think_tags",)
        rest, tags = rest[closed + len(opened[1]) + 3 :].strip(), True
    if not tags and not rest.lstrip().startswith(("{", "[")) and (thought := _THOUGHT.search(rest)):
        rest, tags = rest[thought.end() :].strip(), True  # the opening tag was part of the prompt
    return rest, ("think_tags",) if tags else ()


def _in_words(text: str, tags: tuple[str, ...], stages: tuple[str, ...], *, close: bool, kinds: str) -> Found:
    value, behind = _last(text, close=close, kinds=kinds)
    before, after = text[: value.start], text[value.end :]
    if _JOINED_BEFORE.search(text[behind : value.start]) or _JOINED_AFTER.match(after):
        raise Broken("more is joined to the value that can be read")
    decoded = decode(value.json)
    if decoded is NOT_JSON:
        key = doubled_key(value.json)
        raise Broken("a number or a string in it is not JSON" if key is None else f"the key “{key}” is there twice")
    repairs = dict.fromkeys((*tags, *_around(before, after), *value.edits))
    return Found(value.json, decoded, tuple(repairs), (*stages, "repair") if value.edits else stages)


def _around(before: str, after: str) -> tuple[str, ...]:
    """The names of what was taken away around the value."""
    fence = ("fence",) if _FENCE.search(before) else ()
    words = _FENCE.sub("", before).strip() + _FENCE.sub("", after).strip()
    if not words:
        return fence
    return (*fence, "extra_closers" if not words.strip("}] \t\r\n") else "prose")


def _last(text: str, *, close: bool, kinds: str) -> tuple[Value, int]:
    """The last value of a wanted kind, and where the value before it ends; raises Broken where it is not certain that
    it is the answer."""
    best: Value | None = None
    at = tried = behind = 0
    while (start := _next_open(text, at)) >= 0:
        try:
            value = mend(text, start, close=close and best is None)
        except Broken as error:
            tried += 1
            at = _past(text, start, error)
            if tried > STARTS_MAX:
                raise Broken("there is no JSON value in it, but many brackets") from error
            continue
        at = value.end
        if value.json[0] in kinds:
            _apart(text, best, value)
            behind = best.end if best else 0
            best = value
    if best is None:
        raise Broken(f"there is no {_KINDS[kinds]} in it")
    return best, behind


def _past(text: str, start: int, error: Broken) -> int:
    """Where to go on after a bracket that opens no value; raises Broken where it looks like a value gone wrong."""
    placeholder = _PLACEHOLDER.match(text, start)
    if placeholder:
        return placeholder.end()
    if text[start] == "{" or _LIST.match(text, start):
        raise error
    return start + 1


def _apart(text: str, before: Value | None, value: Value) -> None:
    """Two values must have words between them, or be equal."""
    if before is None:
        return
    between = _FENCE.sub("", text[before.end : value.start])
    if not any(c.isalnum() for c in between) and before.json != value.json:
        raise Broken("it holds two values in a row, and either could be the answer")


def _next_open(text: str, at: int) -> int:
    places = [p for p in (text.find("{", at), text.find("[", at)) if p >= 0]
    return min(places, default=-1)
