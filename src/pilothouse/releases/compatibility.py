"""Would the callers survive it? A candidate's prompt, schema and tools against what callers send and are served.

An output schema is a promise to who reads the answers: a field that was always there must stay, a type must not
widen. A tool is a promise too: the app runs what the model calls, with the arguments that its parameters name.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from pilothouse.domain.callers import Callers, Incompatible
from pilothouse.domain.manifest import Manifest

Json = dict[str, Any]
_PRIMITIVES = frozenset(("string", "number", "integer", "boolean", "null", "object", "array"))
_GIVEN = frozenset(("input", "messages"))  # variables that every chat request brings along
_OWN_FORMATS = 20  # schemas of callers that are compared, commonest first


def compare(before: Manifest, after: Manifest, callers: Callers) -> tuple[Incompatible, ...]:
    """Everything about `after` that callers of `before` may not survive, the worst first."""
    found = [
        *_prompt(before, after, callers),
        *_schema(before.schema, after.schema, callers),
        *_formats(before, after, callers),
        *_tools(before, after, callers),
    ]
    return tuple(sorted(dict.fromkeys(found), key=lambda one: (-one.n, one.part, one.path)))


def _prompt(before: Manifest, after: Manifest, callers: Callers) -> Iterator[Incompatible]:
    """A variable that the new template needs and callers do not send: their requests would be refused."""
    asked = set(after.prompt.variables if after.prompt else ()) | set(after.system.variables if after.system else ())
    known = set(before.prompt.variables if before.prompt else ()) | set(
        before.system.variables if before.system else ()
    )
    for name in sorted(asked - known - _GIVEN):
        missing = callers.prompted - callers.variables.get(name, 0)
        yield Incompatible(
            part="prompt", path=f".{name}", what="a variable that is not sent", n=max(0, missing), of=callers.prompted
        )


def _schema(before: Json | None, after: Json | None, callers: Callers) -> Iterator[Incompatible]:
    served = callers.objects
    if before is None:
        if after is not None:
            plain = callers.sample - served
            what = "text becomes JSON"
            yield Incompatible(part="schema", path="", what=what, n=max(0, plain), of=callers.sample)
        return
    if after is None:
        yield Incompatible(part="schema", path="", what="the schema is gone: JSON becomes text", n=served, of=served)
        return
    for path, what, field, value in _narrowed(before, after):
        n = callers.fields.get(field, 0) if field else served
        if value is not None:
            n = callers.values.get(field, {}).get(value, 0)
        yield Incompatible(part="schema", path=path, what=what, n=n, of=served)


Narrowed = tuple[str, str, str, str | None]  # path, what, the field that shows whether anybody relies on it, its value


def _narrowed(before: Json, after: Json, path: str = "") -> Iterator[Narrowed]:
    """What a reader of `before` may miss in `after`."""
    old, new = _types(before), _types(after)
    if old and new and not new <= old | ({"integer"} if "number" in old else set()):
        yield path, f"type {_or(old)} becomes {_or(new)}", path, None
        return
    yield from _enums(before, after, path)
    if isinstance(before.get("items"), dict) and isinstance(after.get("items"), dict):
        yield from _narrowed(before["items"], after["items"], f"{path}/*")
    yield from _properties(before, after, path)


def _enums(before: Json, after: Json, path: str) -> Iterator[Narrowed]:
    """A value that is never served again, to somebody who waits for it; and one that nobody knows yet."""
    old, new = _values(before), _values(after)
    if old is None or new is None:
        return
    for value in old:
        if value not in new:
            yield path, f"enum loses {_text(value)}", path, value if isinstance(value, str) else _text(value)
    unknown = [value for value in new if value not in old]
    if unknown:
        yield path, f"enum gains {', '.join(map(_text, unknown))}, never served before", "", ""


def _properties(before: Json, after: Json, path: str) -> Iterator[Narrowed]:
    old, new = before.get("properties") or {}, after.get("properties") or {}
    required, still = set(before.get("required") or ()), set(after.get("required") or ())
    fresh = sorted(still - set(old))
    for name, inner in old.items():
        at = f"{path}/{name}"
        if name not in new:
            kind = "required field" if name in required else "field"
            renamed = next((other for other in fresh if _alike(inner, new.get(other))), None)
            yield at, f"{kind} removed" + (f", perhaps renamed to {renamed}" if renamed else ""), at, None
        else:
            if name in required and name not in still:
                yield at, "required becomes optional", at, None
            if isinstance(inner, dict) and isinstance(new[name], dict):
                yield from _narrowed(inner, new[name], at)


def _formats(before: Manifest, after: Manifest, callers: Callers) -> Iterator[Incompatible]:
    """Callers that send a `response_format` of their own, which a release's schema replaces."""
    if before.schema is not None or after.schema is None:
        return  # it was replaced before, or still goes through
    for text, n in list(callers.formats.items())[:_OWN_FORMATS]:
        try:
            asked = msgspec.json.decode(text)
        except msgspec.DecodeError:
            continue
        lost = list(_narrowed(asked, after.schema)) if isinstance(asked, dict) else []
        for path, what, _, _ in lost:
            said = f"callers' own response_format is replaced: {what}"
            yield Incompatible(part="schema", path=path, what=said, n=n, of=callers.sample)


def _tools(before: Manifest, after: Manifest, callers: Callers) -> Iterator[Incompatible]:
    if after.tools is None:
        gone = _functions(before)
        for name in gone if before.tools else ():
            yield _removed(name, callers)
        return
    old, new = _functions(before), _functions(after)
    for name in old:
        if name not in new:
            yield _removed(name, callers)
    if before.tools is None:
        for name, n in callers.own_tools.items():
            if name not in new:
                what = "callers' own tools are replaced, and it is not among them"
                yield Incompatible(part="tools", path=f"[{name}]", what=what, n=n, of=callers.sample)
    for name in old.keys() & new.keys():
        for path, what, _, value in _narrowed(old[name], new[name]):
            n = 0 if value is not None else callers.called.get(name, 0)
            yield Incompatible(part="tools", path=f"[{name}]{path}", what=what, n=n, of=_calls(callers))


def _removed(name: str, callers: Callers) -> Incompatible:
    what = "tool removed that is called" if callers.called.get(name) else "tool removed"
    return Incompatible(part="tools", path=f"[{name}]", what=what, n=callers.called.get(name, 0), of=_calls(callers))


def _calls(callers: Callers) -> int:
    return sum(callers.called.values())


def _functions(manifest: Manifest) -> dict[str, Json]:
    """Tool name → the schema of its parameters."""
    found = {}
    for tool in manifest.tools or ():
        function = tool.get("function") if isinstance(tool, dict) else None
        if isinstance(function, dict) and isinstance(function.get("name"), str):
            found[function["name"]] = function.get("parameters") or {}
    return found


def _types(schema: Json) -> set[str]:
    """The types that a schema names; empty where it names none, so that nothing can be said."""
    named = schema.get("type")
    return {one for one in ([named] if isinstance(named, str) else named or ()) if one in _PRIMITIVES}


def _values(schema: Json) -> list[Any] | None:
    if "const" in schema:
        return [schema["const"]]
    return schema["enum"] if isinstance(schema.get("enum"), list) else None


def _alike(a: Any, b: Any) -> bool:
    """Two fields that may be one under another name: their types agree."""
    return isinstance(a, dict) and isinstance(b, dict) and _types(a) == _types(b)


def _or(names: set[str]) -> str:
    return " or ".join(sorted(names))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
