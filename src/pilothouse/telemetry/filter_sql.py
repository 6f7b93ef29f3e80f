"""Filters as SQL conditions over requests (`r`) and over the first spans of traces (`s`). Values are always bound.

A condition on what only the spans below can say (a model, a tool, tokens, cost) is asked of the whole trace, within the
time that the list looks at.
"""

from typing import Any

import msgspec

from pilothouse.store.telemetry import dialect
from pilothouse.telemetry.filter import Query, Range, Term

SPREAD_US = 3_600_000_000  # a trace's spans lie at most so long after the first of them
MODEL = "coalesce(nullif(r.served_model, ''), r.requested_model)"
TOKENS = "r.input_uncached + r.cache_read + r.cache_write + r.output_text + r.reasoning"
OUTCOME = "CASE WHEN s.status = 'error' THEN 'failed' ELSE 'success' END"
OWN = "coalesce(t.counted_by, '') = ''"  # else another span, or the gateway's request, counts the same call
SPAN_TOKENS = "t.input_uncached + t.cache_read + t.cache_write + t.output_text + t.reasoning"
SPAN_COST = "coalesce(t.cost_usd, t.reported_cost_usd)"
TOOL = "coalesce(nullif(t.attributes['gen_ai.tool.name'], ''), t.name)"
IS_TOOL = "(t.operation = 'execute_tool' OR t.stage = 'tool')"


class Condition(msgspec.Struct):
    """SQL of an arm with the values of its `?`, in order."""

    sql: str = "true"
    params: list[Any] = []


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


# Per arm: an expression of its own row; or of any span of the trace, starting with `any:`; or of all, with `sum:`.
_REQUEST = {
    "route": "r.route", "env": "r.env", "outcome": "r.outcome", "error": "r.error_type", "model": MODEL,
    "provider": "r.provider", "latency": "r.duration_ms", "ttft": "r.ttft_ms", "cost": "r.cost_usd", "tokens": TOKENS,
    "release": "r.release::VARCHAR", "canary": "r.canary", "user": 'r."user"', "session": "r.session",
    "tool": f"any:{TOOL}", "api": "r.api", "cache": "r.cache", "status": "r.status", "attempts": "r.attempt_count",
    "source": "r.source", "app": "r.app", "segment": "r.segment", "key": "r.key_id", "name": "r.route",
}  # fmt: skip
_SPAN = {
    "route": "s.route", "env": "s.env", "outcome": OUTCOME, "error": "any:t.error_type",
    "model": "any:coalesce(nullif(t.response_model, ''), t.request_model)", "provider": "any:t.provider",
    "latency": "s.duration_ms", "ttft": "any:t.ttft_ms", "cost": f"sum:{SPAN_COST}", "tokens": f"sum:{SPAN_TOKENS}",
    "release": "s.release", "canary": "false", "user": 's."user"', "session": "s.session", "tool": f"any:{TOOL}",
    "source": "'otlp'", "app": "s.app", "name": "s.name",
}  # fmt: skip
_SPANS_BELOW = {"tool": IS_TOOL, "documents": "t.documents IS NOT NULL AND len(t.documents) > 0"}
_HAS_REQUEST = {
    "error": "r.outcome = 'failed' OR coalesce(r.error_type, '') <> ''",
    "retry": "r.attempt_count > 1",
    "fallback": "r.fallback_used OR coalesce(r.way, '') <> ''",
    "guard": "len(r.guard_hits) > 0",
    "score": "r.id IN (SELECT request_id FROM scores)",
    "stream": "r.stream",
    "gateway": "true",
}
_HAS_SPAN = {"error": "any:t.status = 'error'", "score": "s.trace_id IN (SELECT trace_id FROM scores)"}


def conditions(query: Query, window: Window) -> tuple[Condition, Condition]:
    """What a request, and what a trace's first span, must meet. Evals and replays only where `source` is asked for."""
    request, span = window.of("r.ts"), window.of("s.ts")
    if not any(term.field in ("source", "id") for term in query.terms):
        request.sql += " AND r.source = 'edge'"
    for term in query.terms:
        for arm, into in (("r", request), ("s", span)):
            made = _condition(term, arm, window)
            into.sql += f" AND NOT coalesce(({made.sql}), false)" if term.negated else f" AND ({made.sql})"
            into.params = into.params + made.params
    return request, span


def _condition(term: Term, arm: str, window: Window) -> Condition:
    if not term.field:
        return _words(term.values[0], arm)
    if term.field == "id":
        return _ident(term.values, arm)
    if term.field == "has":
        return _any_of([_has(value, arm, window) for value in term.values])
    if term.field.startswith("label."):
        return _label(term, arm)
    expression = (_REQUEST if arm == "r" else _SPAN).get(term.field, "NULL")
    kind, inner = (expression[:3], expression[4:]) if expression[:4] in ("any:", "sum:") else ("", expression)
    inner = f"sum({inner})" if kind == "sum" else inner
    made = _any_of([_one(term, inner, value) for value in term.values or term.ranges])
    if kind == "any":
        only = f"{IS_TOOL} AND " if term.field == "tool" else ""
        return _in_trace(arm, window, Condition(f"{only}({made.sql})", made.params))
    return _in_trace(arm, window, Condition(OWN), made) if kind == "sum" else made


def _label(term: Term, arm: str) -> Condition:
    key = term.field.removeprefix("label.")
    made = _any_of([_text("r.labels[?]" if arm == "r" else "s.attributes[?]", value) for value in term.values])
    return Condition(made.sql, [one for value in made.params for one in (key, value)])


def _any_of(made: list[Condition]) -> Condition:
    return Condition(" OR ".join(f"({one.sql})" for one in made), [value for one in made for value in one.params])


def _one(term: Term, expression: str, value: str | Range) -> Condition:
    if isinstance(value, Range):
        return _between(expression, value)
    if term.known is not None and term.known.kind == "flag":
        return Condition(f"coalesce({expression}, false) = ?", [value == "true"])
    return _text(expression, value)


def _text(expression: str, value: str) -> Condition:
    if "*" not in value:
        return Condition(f"{expression} = ?", [value])
    pattern = value.replace("!", "!!").replace("%", "!%").replace("_", "!_").replace("*", "%")
    some = pattern if pattern.strip("%") else "_%"  # `*` alone: whatever it is, but something
    return Condition(f"{expression} ILIKE ? ESCAPE '!'", [some])


def _between(expression: str, r: Range) -> Condition:
    parts, params = [], []
    if r.low is not None:
        parts.append(f"{expression} {'>' if r.above else '>='} ?")
        params.append(r.low)
    if r.high is not None:
        parts.append(f"{expression} {'<=' if r.through else '<'} ?")
        params.append(r.high)
    return Condition(" AND ".join(parts), params)


def _in_trace(arm: str, window: Window, where: Condition, having: Condition | None = None) -> Condition:
    """A condition on the other spans of the same trace."""
    time = window.of("t.ts", SPREAD_US)
    sql = f"{arm}.trace_id IN (SELECT t.trace_id FROM spans t WHERE {time.sql} AND {where.sql}"  # noqa: S608  # own fragments
    params = time.params + where.params
    if having is None:
        return Condition(sql + ")", params)
    return Condition(f"{sql} GROUP BY t.trace_id HAVING {having.sql})", params + having.params)


def _words(word: str, arm: str) -> Condition:
    columns = ("preview_in", "preview_out", "error_message", "route") if arm == "r" else (
        "name", "preview_in", "preview_out", "error_type"
    )  # fmt: skip
    parts = [f"contains(lower({arm}.{column}), ?)" for column in columns]
    ids = ("r.id", "r.trace_id", "r.own_trace_id") if arm == "r" else ("s.trace_id", "s.span_id")
    parts += [f"{column} = ?" for column in ids]
    return Condition(" OR ".join(parts), [word.lower()] * len(columns) + [word] * len(ids))


def _ident(values: tuple[str, ...], arm: str) -> Condition:
    columns = ("r.id", "r.trace_id", "r.own_trace_id") if arm == "r" else ("s.trace_id", "s.span_id")
    return _any_of([_text(column, value) for value in values for column in columns])


def _has(what: str, arm: str, window: Window) -> Condition:
    if what in _SPANS_BELOW:
        return _in_trace(arm, window, Condition(_SPANS_BELOW[what]))
    sql = (_HAS_REQUEST if arm == "r" else _HAS_SPAN).get(what, "false")
    below = Condition(sql.removeprefix("any:"))
    return _in_trace(arm, window, below) if sql.startswith("any:") else below
