"""The filter language of the traces list: one line of text to terms, and terms back to the same line.

`route:docs-answer env:prod -outcome:success model:gpt*,claude* latency>2s cost:0.01..0.05 label.team:"blue team" words`

Terms are joined by AND, values within a term by OR, `-` negates. Text may hold `*`; numbers are compared or given as a
range `low..high` of which the upper end is not part. What is no field is looked for in inputs and outputs.
`telemetry.filter_sql` makes bound conditions of it.
"""

import difflib
import math
import re
from collections.abc import Mapping
from typing import Literal

import msgspec

from pilothouse.domain.errors import BadRequest

Kind = Literal["text", "number", "flag", "has"]
LENGTH_MAX = 2_000
TERMS_MAX = 40
HAS = {
    "tool": "a tool was called",
    "documents": "documents were retrieved",
    "error": "something failed",
    "retry": "the model was asked more than once",
    "fallback": "a fallback answered",
    "guard": "a guardrail acted",
    "score": "somebody or something judged it",
    "stream": "it was streamed",
    "gateway": "it came through the gateway",
}


class Field(msgspec.Struct, frozen=True):
    """What a term may name. `unit` of a number: ms, usd, or empty for a count."""

    name: str
    kind: Kind
    about: str
    unit: str = ""


FIELDS: dict[str, Field] = {
    field.name: field
    for field in (
        Field("route", "text", "route of the app"),
        Field("env", "text", "prod, staging, dev"),
        Field("outcome", "text", "success, failed, fallback …"),
        Field("error", "text", "type of error, anywhere in the trace"),
        Field("model", "text", "model that answered"),
        Field("provider", "text", "who served the model"),
        Field("latency", "number", "over 2s, or 200ms..1s", "ms"),
        Field("ttft", "number", "time to the first token", "ms"),
        Field("cost", "number", "USD", "usd"),
        Field("tokens", "number", "in and out together, 1000 or 2k"),
        Field("release", "text", "number, or the app's own version"),
        Field("canary", "flag", "true or false"),
        Field("user", "text", "pseudonym of a user"),
        Field("session", "text", "a conversation"),
        Field("tool", "text", "name of a tool that was called"),
        Field("has", "has", ", ".join(HAS)),
        Field("api", "text", "chat, messages, responses …"),
        Field("cache", "text", "hit, semantic, miss …"),
        Field("status", "number", "HTTP status"),
        Field("attempts", "number", "calls of a model"),
        Field("source", "text", "edge, otlp, eval, replay, shadow"),
        Field("app", "text", "app"),
        Field("segment", "text", "segment of users"),
        Field("key", "text", "id of the API key"),
        Field("name", "text", "name of the route or of the first span"),
        Field("id", "text", "of a request or a trace"),
    )
}
LABEL = Field("label", "text", "a label of the request, or an attribute of the span")

_NAME = re.compile(r"(label\.[^\s:<>=\",]+|[A-Za-z_]+)(:|>=|<=|>|<|=)")
_BARE = re.compile(r'[^\s",]+')
_NUMBER = re.compile(r"(\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)([a-zA-Z$]*)")
_PLAIN = re.compile(r'[^\s",:<>=-][^\s",:<>=]*')  # words that need no quotes as a text of their own
_SCALES: dict[str, dict[str, float]] = {
    "ms": {"ms": 1.0, "s": 1_000.0, "m": 60_000.0, "min": 60_000.0, "h": 3_600_000.0},
    "usd": {"": 1.0, "usd": 1.0},
    "": {"": 1.0, "k": 1_000.0, "m": 1_000_000.0},
}
_EXAMPLES = {"ms": "500ms or 2s", "usd": "0.01", "": "1000 or 2k"}


class Range(msgspec.Struct, frozen=True):
    """Numbers from `low` up to `high`; None: no bound. `above`: without `low`; `through`: with `high`."""

    low: float | None = None
    high: float | None = None
    above: bool = False
    through: bool = False


class Term(msgspec.Struct, frozen=True):
    """A condition. `field` is empty for words, `label.KEY` for a label. Any of `values` or `ranges` is enough."""

    field: str
    values: tuple[str, ...] = ()
    ranges: tuple[Range, ...] = ()
    negated: bool = False

    @property
    def known(self) -> Field | None:
        """The field's definition; None for words."""
        return LABEL if self.field.startswith("label.") else FIELDS.get(self.field)

    def __str__(self) -> str:
        sign = "-" if self.negated else ""
        if not self.field:
            word = self.values[0]
            return sign + (word if _PLAIN.fullmatch(word) else _quoted(word))
        field = self.known
        unit = field.unit if field else ""
        if len(self.ranges) == 1 and (shown := _comparison(self.ranges[0], unit)):
            return f"{sign}{self.field}{shown}"
        parts = [_value(v) for v in self.values] + [_range(r, unit) for r in self.ranges]
        return f"{sign}{self.field}:{','.join(parts)}"


class Query(msgspec.Struct, frozen=True):
    """Terms, all of which must hold; as text it reads back as the same."""

    terms: tuple[Term, ...] = ()

    def __str__(self) -> str:
        return " ".join(str(term) for term in self.terms)

    def without(self, field: str) -> "Query":
        """The same less every term on a field."""
        return Query(tuple(term for term in self.terms if term.field != field))

    def chosen(self, field: str) -> tuple[str, ...]:
        """The values that a field must have one of; empty where it is not asked for so."""
        return tuple(v for t in self.terms if t.field == field and not t.negated for v in t.values)

    def toggled(self, field: str, value: str) -> "Query":
        """The same with one more value that the field may have, or without it where it has it already."""
        had = self.chosen(field)
        values = tuple(v for v in had if v != value) if value in had else (*had, value)
        rest = tuple(t for t in self.terms if t.field != field or t.negated)
        return Query((*rest, Term(field, values)) if values else rest)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _value(text: str) -> str:
    return text if _BARE.fullmatch(text) else _quoted(text)


def _scaled(value: float, unit: str) -> str:
    if unit == "ms" and value >= 1_000 and (value / 1_000) * 1_000 == value:
        return _plain(value / 1_000) + "s"
    return _plain(value) + ("ms" if unit == "ms" else "")


def _plain(value: float) -> str:
    return repr(value).removesuffix(".0")


def _comparison(r: Range, unit: str) -> str:
    """`>2s` and its like; empty where it takes both ends to say it."""
    if r.low is not None and r.high is None:
        return (">" if r.above else ">=") + _scaled(r.low, unit)
    if r.high is not None and r.low is None:
        return ("<=" if r.through else "<") + _scaled(r.high, unit)
    return ""


def _range(r: Range, unit: str) -> str:
    if r.low is not None and r.low == r.high:
        return _scaled(r.low, unit)
    return "..".join("" if end is None else _scaled(end, unit) for end in (r.low, r.high))


def _wrong(what: str, at: int, hint: str) -> BadRequest:
    return BadRequest(what, where=f"character {at + 1} of the filter", hint=hint)


def parse(text: str) -> Query:
    """The terms of a line; BadRequest says what is wrong, at which character, and what would be right."""
    if len(text) > LENGTH_MAX:
        raise _wrong(f"a filter has {LENGTH_MAX:,} characters at most", LENGTH_MAX, "leave some terms out")
    terms: list[Term] = []
    at = 0
    while True:
        while at < len(text) and text[at].isspace():
            at += 1
        if at == len(text):
            return Query(tuple(terms))
        if len(terms) == TERMS_MAX:
            raise _wrong(f"a filter has {TERMS_MAX} terms at most", at, "join values with a comma: route:a,b")
        term, at = _term(text, at)
        terms.append(term)


def _term(text: str, at: int) -> tuple[Term, int]:
    start = at
    negated = text[at] == "-" and at + 1 < len(text) and not text[at + 1].isspace()
    at += negated
    named = _NAME.match(text, at)
    if named is None:
        word, end = _word(text, at, words=True)
        return Term("", (word,), negated=negated), end
    name, operator = named[1], named[2]
    field = LABEL if name.startswith("label.") else FIELDS.get(name.lower())
    if field is None:
        near = difflib.get_close_matches(name.lower(), FIELDS, 1)
        hint = f"did you mean {near[0]}:?" if near else "put words with a colon into quotes, or use label.NAME:value"
        raise _wrong(f"there is no field {name!r}", start + negated, hint)
    if field.kind != "number" and operator not in (":", "="):
        raise _wrong(f"{name} is text: it cannot be compared", named.start(2), f"write {name}:value")
    places, end = _listed(text, named.end(), field)
    term = Term(field.name if field is not LABEL else name, negated=negated)
    if field.kind != "number":
        return msgspec.structs.replace(term, values=tuple(_checked(field, value, p) for value, p in places)), end
    ranges = tuple(_as_range(field, operator, value, p) for value, p in places)
    if operator not in (":", "=") and len(ranges) > 1:
        raise _wrong("a comparison has one value", places[1][1], f"write {name}>1 or {name}:1..2,5..6")
    return msgspec.structs.replace(term, ranges=ranges), end


def _listed(text: str, at: int, field: Field) -> tuple[list[tuple[str, int]], int]:
    """Values with their places, and where they end."""
    found: list[tuple[str, int]] = []
    while True:
        if at == len(text) or text[at].isspace() or text[at] == ",":
            example = _EXAMPLES[field.unit] if field.kind == "number" else "a value"
            raise _wrong(f"{field.name} has no value", at, f"write {field.name}:{example}")
        value, end = _word(text, at)
        found.append((value, at))
        at = end
        if at == len(text) or text[at] != ",":
            if at < len(text) and not text[at].isspace():
                raise _wrong("a quoted value ends with its quote", at, "leave a space before the next term")
            return found, at
        at += 1


def _word(text: str, at: int, words: bool = False) -> tuple[str, int]:
    """A bare or quoted piece of text from `at`, and where it ends. `words`: a comma is part of it."""
    if text[at] != '"':
        bare = (re.compile(r'[^\s"]+') if words else _BARE).match(text, at)
        if bare is None:
            raise _wrong("a value is missing", at, "write a word, or text in quotes")
        return bare[0], bare.end()
    out: list[str] = []
    i = at + 1
    while i < len(text):
        if text[i] == '"':
            if i == at + 1:
                raise _wrong("the quotes are empty", at, "write text between them")
            return "".join(out), i + 1
        i += text[i] == "\\" and i + 1 < len(text)
        out.append(text[i])
        i += 1
    raise _wrong("a quote is not closed", at, 'end it with "')


def _checked(field: Field, value: str, at: int) -> str:
    if field.kind == "flag":
        if value.lower() not in ("true", "false"):
            raise _wrong(f"{field.name} is true or false, not {value!r}", at, f"write {field.name}:true")
        return value.lower()
    if field.kind == "has" and value.lower() not in HAS:
        near = difflib.get_close_matches(value.lower(), HAS, 1)
        raise _wrong(f"has: knows no {value!r}", at, f"did you mean has:{near[0]}?" if near else ", ".join(HAS))
    return value.lower() if field.kind == "has" else value


def _as_range(field: Field, operator: str, value: str, at: int) -> Range:
    if operator in {">", ">="}:
        return Range(low=_number(field, value, at), above=operator == ">")
    if operator in {"<", "<="}:
        return Range(high=_number(field, value, at), through=operator == "<=")
    low, dots, high = value.partition("..")
    if not dots:
        exact = _number(field, value, at)
        return Range(low=exact, high=exact, through=True)
    if not low and not high:
        raise _wrong("a range needs an end", at, f"write {field.name}:{_EXAMPLES[field.unit].split()[0]}..")
    least = _number(field, low, at) if low else None
    most = _number(field, high, at + len(low) + 2) if high else None
    if least is not None and most is not None and least >= most:
        raise _wrong("a range goes from the smaller to the larger", at, f"write {field.name}:{high}..{low}")
    return Range(low=least, high=most)


def _number(field: Field, text: str, at: int) -> float:
    match = _NUMBER.fullmatch(text)
    scales = _SCALES[field.unit]
    scale = scales.get(match[2].lower()) if match else None
    value = float(match[1]) * scale if match and scale is not None else math.inf
    if not math.isfinite(value):
        raise _wrong(f"{text!r} is no {field.name}", at, f"write {field.name}>{_EXAMPLES[field.unit]}")
    return value


# Parameters of an address that are terms of the filter: pages link to each other with these.
PLAIN = {"route": "route", "env": "env", "outcome": "outcome", "error_type": "error", "release": "release",
         "model": "model", "api": "api", "cache": "cache", "session": "session", "user": "user"}  # fmt: skip


def of_address(address: Mapping[str, str]) -> Query:
    """The filter in an address: the line `q`, and plain parameters as terms; BadRequest."""
    query = parse(address.get("q", "").strip())
    for name, field in PLAIN.items():
        if value := address.get(name, "").strip():
            query = query.without(field).toggled(field, value)
    if text := address.get("text", "").strip():
        query = Query((*query.terms, Term("", (text,))))
    return query


class Place(msgspec.Struct, frozen=True):
    """What is being typed: from `start` to `end` of the line; a value where `field` is known, else a name."""

    start: int
    end: int
    field: str
    typed: str


def typed_at(text: str, cursor: int) -> Place:
    """The piece of the line that the cursor is in, for completion. Never raises."""
    cursor = max(0, min(cursor, len(text)))
    start = _start_of_term(text, cursor)
    end = next((i for i in range(cursor, len(text)) if text[i].isspace() or text[i] == ","), len(text))
    sign = text.startswith("-", start)
    named = _NAME.match(text, start + sign)
    if named is None or named.end() > cursor:
        return Place(start + sign, end, "", text[start + sign : cursor])
    comma = text.rfind(",", named.end(), cursor)
    begin = comma + 1 if comma >= 0 else named.end()
    return Place(begin, end, named[1] if "." in named[1] else named[1].lower(), text[begin:cursor].lstrip('"'))


def _start_of_term(text: str, cursor: int) -> int:
    start, quoted = 0, False
    for i in range(cursor):
        quoted ^= text[i] == '"' and (i == 0 or text[i - 1] != "\\")
        if text[i].isspace() and not quoted:
            start = i + 1
    return start


def completed(text: str, place: Place, value: str) -> tuple[str, int]:
    """The line with the piece replaced, and the cursor after it."""
    piece = _value(value) + " " if place.field else value
    made = text[: place.start] + piece + text[place.end :].lstrip(" " if place.field else "")
    return made, place.start + len(piece)
