"""Filters as SQL conditions over entries (`e`), the rows of the traces list. Values are always bound.

What only the spans below can say (a model, a tool, tokens, cost) stands in the entry of their trace. Words, ids and
attributes are looked up by their marks first, so that few entries are read; what the entry holds itself is compared.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, get_args

import msgspec

from pilothouse.domain.record import Source
from pilothouse.store.telemetry import dialect
from pilothouse.telemetry import marks
from pilothouse.telemetry.entries import SEPARATOR, SPREAD_US
from pilothouse.telemetry.filter import Query, Range, Term

MARKED = "<marks>"
SPANS_OF_TIME = "<of that time>"


class Condition(msgspec.Struct):
    """SQL with the values of its `?`, in order, and with the marks to look for in place of each MARKED.

    `slow`: no mark leads to it, so that texts or spans are read. SPANS_OF_TIME stands for when these spans may be.
    """

    sql: str = "true"
    params: list[Any] = []
    ways: list[marks.Ways] = []
    slow: bool = False

    def with_marks(self, spelled: Callable[[marks.Ways], str]) -> "Condition":
        """The same, with what is said for each of the marks; those for which nothing is are left as they are."""
        said = [(spelled(ways), ways) for ways in self.ways]
        texts = iter(text or MARKED for text, _ in said)
        sql = re.sub(MARKED, lambda _: next(texts), self.sql)
        return Condition(sql, self.params, [ways for text, ways in said if not text], self.slow)

    def of_spans(self, since_us: int, until_us: int) -> str:
        """The SQL, where entries are of such a time."""
        between = f"t.ts BETWEEN {dialect.at(str(since_us - SPREAD_US))} AND {dialect.at(str(until_us + SPREAD_US))}"
        return self.sql.replace(SPANS_OF_TIME, between)


class Window(msgspec.Struct, frozen=True):
    """The time that is looked at, µs; 0: open."""

    since_us: int = 0
    until_us: int = 0

    def of(self, column: str, later_us: int = 0) -> Condition:
        """A condition that a time lies within; `later_us` widens both ends."""
        parts, params = ["true"], list[Any]()
        if self.since_us:
            parts.append(f"{column} >= {dialect.at()}")
            params.append(self.since_us - later_us)
        if self.until_us:
            parts.append(f"{column} < {dialect.at()}")
            params.append(self.until_us + later_us)
        return Condition(" AND ".join(parts), params)


_COLUMNS = {
    **{
        name: f"e.{name}"
        for name in ("route", "env", "outcome", "release", "canary", "session", "api", "cache", "source", "app")
    },
    "latency": "e.duration_ms", "ttft": "e.ttft_ms", "cost": "e.cost_usd", "tokens": "e.input_tokens + e.output_tokens",
    "user": 'e."user"', "status": "nullif(e.status, 0)", "attempts": "e.attempt_count", "segment": "e.segment",
    "key": "e.key_id", "name": "e.name",
}  # fmt: skip
ASIDE = tuple(sorted({*get_args(Source)} - {"edge"}))  # requests that no user waited for
AS_WRITTEN = ("session", "user", "key")  # millions of ids differ: to write each in small letters takes long
# Of a trace, any of its spans.
SETS = {"model": "e.models", "provider": "e.providers", "error": "e.errors", "tool": "e.tools"}
_HAS = {
    "tool": "e.tools <> ''", "documents": "e.documents", "error": "e.failed", "retry": "e.retry",
    "fallback": "e.fallback", "guard": "e.guard", "score": "e.scored", "stream": "e.stream",
    "gateway": "NOT e.is_trace",
}  # fmt: skip
_TEXTS = ("e.name", "e.route", "e.error_type", "e.error_message", "e.preview_in", "e.preview_out")
_IDS = ("e.id", "e.trace_id", "e.own_trace_id", "e.root_id")


def conditions(query: Query) -> Condition:
    """What an entry must meet. What no user waited for only where `source` is asked for."""
    made = [Condition("e.listed")]
    if not any(term.field in ("source", "id") for term in query.terms):
        made.append(Condition(f"e.source NOT IN {ASIDE}"))
    for term in query.terms:
        one = _condition(term)
        made.append(msgspec.structs.replace(one, sql=f"NOT coalesce({one.sql}, false)") if term.negated else one)
    return all_of(made)


def _condition(term: Term) -> Condition:
    if not term.field:
        return _words(term.values[0])
    if term.field in _COLUMNS:
        return any_of([_one(term, _COLUMNS[term.field], value) for value in term.values or term.ranges])
    return any_of([_looked_up(term.field, value) for value in term.values])


def _looked_up(field: str, value: str) -> Condition:
    if field == "id":
        return _ident(value)
    if field == "has":
        return Condition(_HAS[value])
    return _among(SETS[field], value) if field in SETS else _label(field.removeprefix("label."), value)


def all_of(made: list[Condition]) -> Condition:
    """Each of them is needed."""
    return _joined("AND", made)


def any_of(made: list[Condition]) -> Condition:
    """One of them is enough."""
    return _joined("OR", made)


def _joined(word: str, made: list[Condition]) -> Condition:
    return Condition(
        f" {word} ".join(f"({one.sql})" for one in made),
        [value for one in made for value in one.params],
        [ways for one in made for ways in one.ways],
        any(one.slow for one in made),
    )


def _marked(*ways: Sequence[str]) -> Condition:
    """Entries with the marks of all texts of one of the ways."""
    return Condition(MARKED, [], [tuple(tuple(way) for way in ways)])


def _one(term: Term, expression: str, value: str | Range) -> Condition:
    if isinstance(value, Range):
        return _between(expression, value)
    if term.known is not None and term.known.kind == "flag":
        return Condition(f"{expression} = ?", [value == "true"])
    if term.field not in AS_WRITTEN:
        return _text(expression, value)
    return msgspec.structs.replace(_text(expression, value, any_case=False), slow=len(value) > 1 and value[0] == "*")


def _text(expression: str, value: str, *, any_case: bool = True) -> Condition:
    """Equal; with `*`, in any case."""
    if "*" not in value:
        return Condition(f"{expression} = ?", [value])
    inner = value.strip("*")
    if not inner:
        return Condition(f"{expression} <> ''")  # whatever it is, but something
    if "*" not in inner and value.endswith("*"):  # what is asked for most, by what is quick
        test = "contains" if value.startswith("*") else "starts_with"
        text = f"lower({expression})" if any_case else expression
        return Condition(f"{test}({text}, ?)", [inner.lower() if any_case else inner])
    pattern = value.replace("!", "!!").replace("%", "!%").replace("_", "!_").replace("*", "%")
    return Condition(f"{expression} {'ILIKE' if any_case else 'LIKE'} ? ESCAPE '!'", [pattern])


def _among(names: str, value: str) -> Condition:
    """One of the names of a set is so."""
    if "*" not in value:
        return Condition(f"contains({names}, ?)", [f"{SEPARATOR}{value}{SEPARATOR}"])
    inner = value.strip("*").lower()
    if not inner:
        return Condition(f"{names} <> ''")
    if "*" in inner:
        pattern = f"[^{SEPARATOR}]*".join(re.escape(part) for part in value.split("*"))
        return Condition(f"regexp_matches({names}, ?)", [f"(?i){SEPARATOR}{pattern}{SEPARATOR}"])
    begin, end = ("" if value.startswith("*") else SEPARATOR), ("" if value.endswith("*") else SEPARATOR)
    return Condition(f"contains(lower({names}), ?)", [begin + inner + end])


def _between(expression: str, r: Range) -> Condition:
    parts, params = [], []
    if r.low is not None:
        parts.append(f"{expression} {'>' if r.above else '>='} ?")
        params.append(r.low)
    if r.high is not None:
        parts.append(f"{expression} {'<=' if r.through else '<'} ?")
        params.append(r.high)
    return Condition(" AND ".join(parts), params)


def _words(text: str) -> Condition:
    """The text stands in one of the line's texts, by whole words; or it is an id."""
    words = marks.words(text)
    said = any_of([Condition(f"contains(lower({column}), ?)", [text.lower()]) for column in _TEXTS])
    if not words:
        return msgspec.structs.replace(said, slow=True)
    if words == [text.lower()]:  # a word alone, which may be an id
        return _marked(*([word] for word in dict.fromkeys((*words, text))))
    found = any_of([said, *(Condition(f"{column} = ?", [text]) for column in _IDS)])
    return all_of([_marked(words, [text]), found])


def _ident(value: str) -> Condition:
    begins = value.removesuffix("*")
    if "*" in begins:
        return msgspec.structs.replace(any_of([_text(column, value) for column in _IDS]), slow=True)
    if begins == value:
        same = any_of([Condition(f"{column} = ?", [value]) for column in _IDS])
        return all_of([_marked([value]), same])
    same = any_of([Condition(f"starts_with({column}, ?)", [begins]) for column in _IDS])
    known = marks.beginning(begins)
    return all_of([_marked([known]), same]) if known else msgspec.structs.replace(same, slow=True)


def _label(key: str, value: str) -> Condition:
    """A label of the request, or an attribute of any span of the trace."""
    if not value.strip("*") or "*" not in value:
        return _marked([marks.pair(key, "" if not value.strip("*") else value)])
    of_span, of_request = _text("t.attributes[?]", value), _text("q.labels[?]", value)
    read = Condition(
        f"e.trace_id IN (SELECT t.trace_id FROM spans t WHERE {of_span.sql} AND {SPANS_OF_TIME}) "  # noqa: S608
        f"OR e.id IN (SELECT q.id FROM requests q WHERE {of_request.sql})",
        [key, *of_span.params, key, *of_request.params],
        slow=True,
    )
    return all_of([_marked([marks.pair(key)]), read])


__all__ = ["SETS", "SPREAD_US", "Condition", "Window", "all_of", "any_of", "conditions"]
