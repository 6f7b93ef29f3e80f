"""Tool calls: do they name a declared tool, with arguments that meet its schema, as the request allows, and no loop?

Read are the shapes of OpenAI chat and responses and of Anthropic messages. Tools that the provider runs itself
(web_search …) have no schema here and are left alone.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from pilothouse.domain.errors import ConfigError
from pilothouse.domain.hashing import bytes_hash
from pilothouse.domain.policy import ToolRules
from pilothouse.gateway.compiled import validator
from pilothouse.gateway.explain import explained
from pilothouse.gateway.extract import find
from pilothouse.gateway.repair import NOT_JSON, decode

Fault = Literal["name", "arguments", "id", "order", "parallel", "choice", "loop"]
_ALLOWED = {"none": (0, 0), "required": (1, None), "any": (1, None)}
_canonical = msgspec.json.Encoder(order="deterministic").encode
_encode = msgspec.json.encode


class ToolError(msgspec.Struct, frozen=True):
    """What is wrong with a call, or with the conversation's calls. `where`: a JSON pointer into the message.

    `what` names no value of the output; `said` does, for the model that is asked again.
    """

    fault: Fault
    where: str
    what: str
    said: str = ""
    call: int | None = None


class Tool(msgspec.Struct, frozen=True):
    """A declared tool. `schema` None: the model may give it anything."""

    name: str
    schema: dict[str, Any] | None = None

    def check(self) -> Any | None:
        """The compiled schema; None where there is none, or one that cannot be used."""
        if self.schema is None:
            return None
        try:
            return validator(self.schema, bytes_hash(_encode(self.schema)), f"the schema of the tool “{self.name}”")
        except ConfigError:
            return None


class Toolbox(msgspec.Struct, frozen=True):
    """The tools of a request, by name, and what it says of their use."""

    tools: dict[str, Tool]
    least: int = 0  # calls
    most: int | None = None
    only: frozenset[str] = frozenset()  # empty: any of the tools

    @property
    def has_schemas(self) -> bool:
        """Whether there is anything to check arguments against."""
        return any(tool.schema is not None for tool in self.tools.values())


def toolbox(declared: Any, choice: Any = None, parallel: Any = None) -> Toolbox:
    """What a request's `tools`, `tool_choice` and `parallel_tool_calls` say."""
    tools = {tool.name: tool for tool in map(_tool, declared if isinstance(declared, list) else ()) if tool}
    least, most = 0, None
    only: frozenset[str] = frozenset()
    if isinstance(choice, str):
        least, most = _ALLOWED.get(choice, (0, None))
    elif isinstance(choice, dict):
        least, most, only = _chosen(choice)
        parallel = False if choice.get("disable_parallel_tool_use") is True else parallel
    if parallel is False:
        most = 1 if most is None else min(most, 1)
    return Toolbox(tools, least, most, only)


def _tool(declared: Any) -> Tool | None:
    if not isinstance(declared, dict):
        return None
    function = declared.get("function")
    inner = function if isinstance(function, dict) else declared
    name = inner.get("name")
    if not isinstance(name, str):
        return None
    schema = inner.get("parameters", inner.get("input_schema"))
    return Tool(name, schema if isinstance(schema, dict) else None)


def _chosen(choice: dict[str, Any]) -> tuple[int, int | None, frozenset[str]]:
    """What a `tool_choice` object asks: least and most calls, and of which tools."""
    kind = choice.get("type")
    if kind == "allowed_tools":
        inner = choice.get("allowed_tools")
        inner = inner if isinstance(inner, dict) else choice
        names = {tool.name for tool in map(_tool, inner.get("tools") or ()) if tool}
        return (1 if inner.get("mode") == "required" else 0), None, frozenset(names)
    named = _tool(choice)
    if named is not None:
        return 1, None, frozenset((named.name,))
    least, most = _ALLOWED.get(str(kind), (0, None))
    return least, most, frozenset()


def check_calls(calls: list[Any], box: Toolbox, messages: list[Any], rules: ToolRules) -> list[ToolError]:
    """What is wrong with the calls of one answer, in their order; empty where nothing is."""
    errors: list[ToolError] = []
    ids: set[str] = set()
    seen = Counter(_same(name, arguments) for _, name, arguments in _calls(messages))
    for i, call in enumerate(calls):
        name, arguments = _parts(call)
        errors += _id(i, call, ids)
        errors += _name(i, name, box)
        tool = box.tools.get(name)
        if tool is not None and call.get("type", "function") == "function":
            errors += _arguments(i, arguments, tool)
        same = _same(name, arguments)
        seen[same] += 1
        if rules.repeats and seen[same] >= rules.repeats:
            times = f"the same call of “{name}” for the {seen[same]}th time in this conversation"
            errors.append(_error("loop", i, "", times, "use the results that are there, or answer in words"))
    errors += _count(len(calls), box)
    return errors


def _error(fault: Fault, call: int, where: str, what: str, said: str = "") -> ToolError:
    return ToolError(fault, f"/tool_calls/{call}{where}", what, f"{what}: {said}" if said else what, call)


def _parts(call: Any) -> tuple[str, Any]:
    """A call's name and its arguments as they came."""
    inner = call.get("function") or call.get("custom") if isinstance(call, dict) else None
    if not isinstance(inner, dict):
        return "", ""
    name = inner.get("name")
    return (name if isinstance(name, str) else ""), inner.get("arguments", inner.get("input", ""))


def _id(i: int, call: Any, ids: set[str]) -> Iterator[ToolError]:
    given = call.get("id") if isinstance(call, dict) else None
    if not isinstance(given, str) or not given:
        yield _error("id", i, "/id", "the call has no id, so that no result can answer it")
    elif given in ids:
        yield _error("id", i, "/id", "two calls have the same id")
    else:
        ids.add(given)


def _name(i: int, name: str, box: Toolbox) -> Iterator[ToolError]:
    allowed = box.only or box.tools.keys()
    if name not in box.tools or name not in allowed:
        known = ", ".join(sorted(allowed))
        what = "the call has no name" if not name else f"no tool “{name[:80]}” may be called"
        yield _error("name", i, "/function/name", f"{what}, allowed is one of {known}")


def _arguments(i: int, arguments: Any, tool: Tool) -> Iterator[ToolError]:
    at = "/function/arguments"
    value = decode(arguments) if isinstance(arguments, str) else NOT_JSON
    if value is NOT_JSON:
        yield _error("arguments", i, at, f"the arguments of “{tool.name}” are not JSON")
        return
    check = tool.check()
    if check is None or check.is_valid(value):
        return
    errors, schema = list(check.iter_errors(value)), tool.schema or {}
    loud = explained(errors, schema, quote=True)
    for what, said in zip(explained(errors, schema), loud, strict=False):
        yield ToolError("arguments", f"/tool_calls/{i}{at}", f"{tool.name}: {what}", f"{tool.name}: {said}", i)


def _count(calls: int, box: Toolbox) -> Iterator[ToolError]:
    if calls < box.least:
        named = f"of “{next(iter(box.only))}”" if len(box.only) == 1 else "of a tool"
        yield ToolError("choice", "/tool_calls", f"found no call, allowed is only a call {named} (tool_choice)")
    if box.most is not None and calls > box.most:
        fault: Fault = "parallel" if box.most else "choice"
        rule = "parallel_tool_calls is false" if box.most else "tool_choice is none"
        yield ToolError(fault, "/tool_calls", f"found {calls} calls, allowed are at most {box.most} ({rule})")


def _same(name: str, arguments: Any) -> bytes:
    """What equal calls have in common: the name and the arguments, whatever the order of their keys."""
    value = decode(arguments) if isinstance(arguments, str) else arguments
    return _canonical([name, arguments if value is NOT_JSON else value])


def _calls(messages: list[Any]) -> Iterator[tuple[str, str, Any]]:
    """Id, name and arguments of every call in the conversation so far."""
    for message in messages:
        yield from _calls_of(message)


def _calls_of(message: Any) -> Iterator[tuple[str, str, Any]]:
    if not isinstance(message, dict) or message.get("role") != "assistant":
        return
    for call in message.get("tool_calls") or ():
        if isinstance(call, dict):
            yield (str(call.get("id") or ""), *_parts(call))
    for block in _blocks(message, "tool_use"):
        yield str(block.get("id") or ""), str(block.get("name") or ""), block.get("input")


def _blocks(message: dict[str, Any], kind: str) -> Iterator[dict[str, Any]]:
    content = message.get("content")
    for block in content if isinstance(content, list) else ():
        if isinstance(block, dict) and block.get("type") == kind:
            yield block


def _results_of(message: Any) -> list[str]:
    """Ids of the calls that this message answers."""
    if not isinstance(message, dict):
        return []
    if message.get("role") == "tool":
        return [str(message.get("tool_call_id") or "")]
    return [str(block.get("tool_use_id") or "") for block in _blocks(message, "tool_result")]


def check_messages(messages: list[Any]) -> list[ToolError]:
    """What is wrong with the client's own messages: a result that answers no call, a call left without its result.

    The provider judges such a request; it is noted, never refused.
    """
    errors: list[ToolError] = []
    waiting: dict[str, int] = {}
    for i, message in enumerate(messages):
        results = _results_of(message)
        unknown = [result for result in results if waiting.pop(result, None) is None]
        errors += [ToolError("id", f"/messages/{i}", "a tool result answers no call before it") for _ in unknown]
        if waiting and not results:
            errors.append(ToolError("order", f"/messages/{i}", "a tool call is not answered before this message"))
            waiting.clear()
        waiting |= {call_id: i for call_id, _, _ in _calls_of(message)}
    return errors


def repair_arguments(calls: list[Any], box: Toolbox, *, close: bool) -> list[str]:
    """Make arguments that are not JSON into JSON by the low-risk repairs alone; the names of the repairs made."""
    done: list[str] = []
    for call in calls:
        function = call.get("function") if isinstance(call, dict) else None
        arguments = function.get("arguments") if isinstance(function, dict) else None
        if not isinstance(function, dict) or not isinstance(arguments, str) or decode(arguments) is not NOT_JSON:
            continue
        tool = box.tools.get(str(function.get("name")))
        check = tool.check() if tool else None
        if not arguments.strip():
            if check is not None and check.is_valid({}):
                function["arguments"] = "{}"
                done.append("empty_arguments")
            continue
        found = find(arguments, close=close, kinds="{")
        if found.text:
            function["arguments"] = found.text
            done += found.repairs
    return done


def reask_calls(message: Any, errors: list[ToolError]) -> list[dict[str, Any]]:
    """Chat messages that ask for the calls once more: each answered with what is wrong with it.

    Calls that could not stand in a conversation (no id, no JSON) are quoted in words instead.
    """
    calls = message.tool_calls or []
    again = "Call again with this corrected, or answer in words."
    lines = "\n".join(f"- {error.said or error.what}" for error in errors)
    if not calls or any(e.fault == "id" for e in errors) or any(not _stands(call) for call in calls):
        said = "\n".join(f"- {_encode(_parts(call)).decode()[:2_000]}" for call in calls)
        quoted = f"Your tool calls were:\n{said}\n" if calls else ""
        return [{"role": "user", "content": f"{quoted}They are not valid:\n{lines}\n{again}"}]
    asked: list[dict[str, Any]] = [{"role": "assistant", "content": message.content, "tool_calls": calls}]
    for i, call in enumerate(calls):
        own = [f"- {e.said or e.what}" for e in errors if e.call in (i, None)]
        text = (
            f"Not run: the call is not valid.\n{chr(10).join(own)}\n{again}" if own else "Not run: see the other call."
        )
        asked.append({"role": "tool", "tool_call_id": call["id"], "content": text})
    return asked


def _stands(call: Any) -> bool:
    name, arguments = _parts(call)
    return bool(name) and isinstance(arguments, str) and isinstance(decode(arguments), dict)
