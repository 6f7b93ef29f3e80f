"""What the callers of a route send and are served, from the newest of its recorded requests."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import msgspec

from pilothouse.domain.callers import Callers
from pilothouse.store.telemetry import TelemetryStore, dialect
from pilothouse.telemetry import payloads
from pilothouse.telemetry.entries import IS_TOOL, TOOL

SAMPLE = 1_000  # newest requests whose bodies are read
_LONGEST_VALUE = 60  # characters of a text that may be one of an enum
_MOST_VALUES = 50  # different ones of a field, after which it is no enum
_DEEPEST = 6
_ANSWERED = "source = 'edge' AND route = ? AND env = ? AND outcome NOT IN ('refused', 'failed')"
Json = dict[str, Any]


def callers(store: TelemetryStore, route: str, env: str, since_us: int) -> Callers:
    """Callers of `route` in `env` since then: all are counted, the newest `SAMPLE` are read; tool spans all count."""
    (total,) = store.rows(
        f"SELECT count(*) FROM requests WHERE {_ANSWERED} AND ts >= {dialect.at()}",  # noqa: S608  # our own fragments
        [route, env, since_us],
    )[0]
    bodies = recorded(store, route, env, since_us, SAMPLE)
    seen = _Seen()
    for _, request, response in bodies:
        seen.request(_decoded(request))
        seen.response(_decoded(response))
    for name, n in _tool_spans(store, route, env, since_us):
        seen.called[name] = max(seen.called[name], n)
    return Callers(
        total=total,
        sample=len(bodies),
        since_us=since_us,
        formats=dict(seen.formats.most_common()),
        own_tools=dict(seen.own_tools.most_common()),
        called=dict(seen.called.most_common()),
        prompted=seen.prompted,
        variables=dict(seen.variables.most_common()),
        objects=seen.objects,
        fields=dict(seen.fields.most_common()),
        values={field: dict(found) for field, found in seen.values.items() if len(found) <= _MOST_VALUES},
    )


def recorded(store: TelemetryStore, route: str, env: str, since_us: int, n: int) -> list[tuple[Json, str, str]]:
    """(row, request, response) of the newest `n` answered requests whose bodies are kept. Row: id, api, release."""
    rows = store.query(
        f"""SELECT id, coalesce(api, 'chat') AS api, release, coalesce(inline, false) AS inline FROM requests
WHERE {_ANSWERED} AND ts >= {dialect.at()} AND log_mode IN ('full', 'redacted') ORDER BY ts DESC LIMIT ?""",  # noqa: S608
        [route, env, since_us, n],
    )
    kept = payloads.fetch(store, [row["id"] for row in rows])
    return [
        (row, kept[row["id"]]["request"], kept[row["id"]]["response"])
        for row in rows
        if kept.get(row["id"], {}).get("request")
    ]


def _tool_spans(store: TelemetryStore, route: str, env: str, since_us: int) -> list[tuple[str, int]]:
    """Tools that the route's traces ran, and how often."""
    return [
        (name, n)
        for name, n in store.rows(
            f"""SELECT {TOOL} AS tool, count(*) FROM spans t WHERE {IS_TOOL} AND t.ts >= {dialect.at()}
  AND t.trace_id IN (SELECT trace_id FROM requests WHERE {_ANSWERED} AND ts >= {dialect.at()})
GROUP BY 1 ORDER BY 2 DESC""",  # noqa: S608  # our own fragments
            [since_us, route, env, since_us],
        )
    ]


class _Seen:
    """Counts, request by request."""

    def __init__(self) -> None:
        self.formats: Counter[str] = Counter()
        self.own_tools: Counter[str] = Counter()
        self.called: Counter[str] = Counter()
        self.variables: Counter[str] = Counter()
        self.fields: Counter[str] = Counter()
        self.values: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.prompted = self.objects = 0

    def request(self, body: Any) -> None:
        if not isinstance(body, dict):
            return
        self.prompted += 1
        prompt = body.get("prompt")
        variables = prompt.get("variables") if isinstance(prompt, dict) else None
        self.variables.update(list(variables) if isinstance(variables, dict) else ())
        asked = body.get("response_format")
        schema = asked.get("json_schema") if isinstance(asked, dict) else None
        if isinstance(schema, dict) and isinstance(schema.get("schema"), dict):
            self.formats[msgspec.json.encode(schema["schema"]).decode()] += 1
        tools = body.get("tools")
        self.own_tools.update(set(_names(tools if isinstance(tools, list) else ())))

    def response(self, body: Any) -> None:
        if not isinstance(body, dict):
            return
        self.called.update(set(_calls(body)))
        answer = _decoded(_text(body))
        if isinstance(answer, dict):
            self.objects += 1
            held = dict(_held(answer))
            self.fields.update(list(held))
            for field, value in held.items():
                if isinstance(value, str) and len(value) <= _LONGEST_VALUE and len(self.values[field]) <= _MOST_VALUES:
                    self.values[field][value] += 1


def _names(tools: Any) -> Iterator[str]:
    for tool in tools:
        function = (tool.get("function") or tool) if isinstance(tool, dict) else {}
        if isinstance(function, dict) and isinstance(function.get("name"), str):
            yield function["name"]


def _messages(body: Json) -> Iterator[Json]:
    """The messages of an answer, in any of the three APIs, or of a stream that was put together."""
    for choice in body.get("choices") or ():
        if isinstance(choice, dict) and isinstance(choice.get("message"), dict):
            yield choice["message"]
    for item in body.get("output") or ():
        if isinstance(item, dict):
            yield item
    if "role" in body or "content" in body or "tool_calls" in body:
        yield body


def _blocks(message: Json) -> list[Json]:
    content = message.get("content")
    return [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []


def _calls(body: Json) -> Iterator[str]:
    """Names of the tools that an answer calls."""
    for message in _messages(body):
        yield from _names(message.get("tool_calls") or ())
        for block in [message, *_blocks(message)]:
            if block.get("type") in ("tool_use", "function_call") and isinstance(block.get("name"), str):
                yield block["name"]


def _text(body: Json) -> str:
    for message in _messages(body):
        content = message.get("content")
        if isinstance(content, str):
            return content
        said = [block["text"] for block in _blocks(message) if isinstance(block.get("text"), str)]
        if said:
            return "".join(said)
    return ""


def _held(value: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Every field of a JSON value with what stands there."""
    if depth > _DEEPEST:
        return
    if isinstance(value, dict):
        for name, inner in value.items():
            yield f"{path}/{name}", inner
            yield from _held(inner, f"{path}/{name}", depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _held(inner, f"{path}/*", depth + 1)


def _decoded(text: str) -> Any:
    try:
        return msgspec.json.decode(text) if text else None
    except msgspec.DecodeError:
        return None
