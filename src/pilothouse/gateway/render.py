"""Resolved → Rendered: the upstream body. Its bytes are a function of the client's body and the manifest alone.

A route's body is made anew: system, history, prompt, parameters, tools, schema. An inline request's bytes go on as
they came, except the model's name, and the wish for usage in a stream.
"""

import functools
import re
from collections.abc import Callable
from typing import Any

import jinja2
import jinja2.meta
import jinja2.sandbox
import msgspec

from pilothouse.domain.errors import BadRequest, ConfigError
from pilothouse.domain.manifest import Manifest, Template
from pilothouse.gateway.render_native import shaped
from pilothouse.gateway.types import Parsed, Rendered, Resolved
from pilothouse.providers.openai import text_of

_encode = msgspec.json.Encoder().encode
_raw = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_USAGE = {"include_usage": True}
_OURS = frozenset(("model", "messages", "stream"))  # params cannot change what makes a request this request
_BACKSLASH = 92
_NAME = re.compile(r"[^A-Za-z0-9_-]")
ToChat = Callable[[Parsed], dict[str, Any]]
_sandbox = jinja2.sandbox.ImmutableSandboxedEnvironment(
    undefined=jinja2.StrictUndefined, autoescape=False, keep_trailing_newline=False
)
# What differs from call to call would make a request that cannot be sent again.
del _sandbox.globals["lipsum"], _sandbox.filters["random"]


def render(resolved: Resolved, to_chat: ToChat | None = None) -> Rendered:
    """The upstream body, its model's name left open; raises BadRequest, ConfigError.

    `to_chat`: the request's body in chat form, of an API whose form is another; None: it cannot be said in chat.
    """
    if resolved.parsed.api != "chat":
        return _native(resolved, to_chat)
    return _inline(resolved) if resolved.inline else _route(resolved)


def _native(resolved: Resolved, to_chat: ToChat | None) -> Rendered:
    """A request of another API: its own bytes where nothing shapes them, else in its own words or in chat."""
    parsed, manifest = resolved.parsed, resolved.live.manifest

    def chat() -> Rendered:
        if to_chat is None:
            raise BadRequest(
                f"the provider does not speak the API “{parsed.api}”",
                where="model",
                hint="name a route or a model whose provider does",
                code="unsupported_api",
            )
        body = to_chat(parsed)
        if parsed.stream:
            body["stream_options"] = _USAGE  # the other API's stream says its usage always
        said = msgspec.structs.replace(
            parsed, api="chat", body=body, messages=body["messages"], raw=_encode(body), wants_usage=True
        )
        return render(msgspec.structs.replace(resolved, parsed=said))

    parts = (manifest.prompt, manifest.system, manifest.tools, manifest.schema)
    if to_chat is not None and (manifest.params or any(part is not None for part in parts)):
        fields = shaped(resolved, expand)
        if fields is None:
            return chat()
        return Rendered(resolved, b'{"model":', b"," + _encode(fields)[1:], parsed.stream, form=parsed.api, chat=chat)
    if parsed.named is not None:
        start, end = parsed.named
        before, after = parsed.raw[:start], parsed.raw[end:]
        return Rendered(resolved, before, after, parsed.stream, form=parsed.api, plain=True)
    if "model" not in parsed.body:
        return Rendered(resolved, parsed.raw, b"", parsed.stream, form=parsed.api, nameless=True)
    if manifest.params:
        fields = _raw(parsed.raw) | {k: v for k, v in manifest.params.items() if k not in _OURS}
        fields.pop("model")
        return Rendered(resolved, b'{"model":', b"," + _encode(fields)[1:], parsed.stream, form=parsed.api)
    before, after = _cut(parsed) or _cut_anew(parsed)
    return Rendered(resolved, before, after, parsed.stream, form=parsed.api, chat=chat if to_chat else None)


def _route(resolved: Resolved) -> Rendered:
    parsed, manifest = resolved.parsed, resolved.live.manifest
    body = parsed.body.copy()
    body.pop("model", None)
    body.pop("prompt", None)
    if "metadata" in body and not body.get("store"):
        del body["metadata"]  # ours: labels of the record; OpenAI takes it only for stored completions
    body["messages"] = _messages(parsed, manifest)
    params = manifest.params
    if params:
        body |= params if _OURS.isdisjoint(params) else {k: v for k, v in params.items() if k not in _OURS}
    if manifest.tools is not None:
        body["tools"] = manifest.tools
    if manifest.schema is not None:
        name = _NAME.sub("_", resolved.route)[:64]
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": name, "schema": manifest.schema, "strict": True},
        }
    if not parsed.stream:
        return Rendered(resolved, b'{"model":', b"," + _encode(body)[1:], stream=False)
    # A schema is checked on the whole answer, so a stream is gathered, or asked for as a whole, and cut up afterwards.
    stream = manifest.schema is None
    gather = not stream and body.get("n") in (None, 1) and not body.get("logprobs")
    if not stream and not gather:
        body.pop("stream", None)
        body.pop("stream_options", None)
    if (stream or gather) and not parsed.wants_usage:
        body["stream_options"] = (body.get("stream_options") or {}) | _USAGE
    strip = stream and not parsed.wants_usage
    return Rendered(resolved, b'{"model":', b"," + _encode(body)[1:], stream, strip, gather=gather)


def _inline(resolved: Resolved) -> Rendered:
    """The client's own bytes, cut where the model's name stands."""
    parsed = resolved.parsed
    strip = parsed.stream and not parsed.wants_usage
    cut = _cut(parsed)
    if cut is None or "prompt" in parsed.body or (strip and "stream_options" in parsed.body):
        return _inline_anew(resolved, strip)
    before, after = cut
    if strip:
        end = after.rindex(b"}")
        after = after[:end] + b',"stream_options":' + _encode(_USAGE) + after[end:]
    return Rendered(resolved, before, after, parsed.stream, strip)


def _cut(parsed: Parsed) -> tuple[bytes, bytes] | None:
    """The body's bytes before and after its model's name; None where that place is not certain."""
    name = _encode(parsed.body.get("model"))
    # Once, and not in disguise (\\u006d is an m): otherwise it may be another object's key.
    raw = parsed.raw
    plain = (_BACKSLASH not in raw or b"\\u006" not in raw) and raw.count(b'"model"') == 1
    found = re.search(rb'"model"\s*:\s*' + re.escape(name), raw) if plain else None
    return None if found is None else (raw[: found.end() - len(name)], raw[found.end() :])


def _cut_anew(parsed: Parsed) -> tuple[bytes, bytes]:
    """The same by writing the body anew, every field's own bytes kept."""
    fields = {k: v for k, v in _raw(parsed.raw).items() if k != "model"}
    return b'{"model":', (b"," + _encode(fields)[1:] if fields else b"}")


def _inline_anew(resolved: Resolved, strip: bool) -> Rendered:
    """The same, where the bytes cannot simply be cut: every field's own bytes are kept."""
    parsed = resolved.parsed
    if parsed.variables is not None and not parsed.messages:
        raise BadRequest(
            "“prompt” names a prompt, but a raw model has none",
            where="prompt",
            hint="send “messages”, or name a route as the model",
        )
    fields: dict[str, Any] = {k: v for k, v in _raw(parsed.raw).items() if k not in ("model", "prompt")}
    if strip:
        fields["stream_options"] = (parsed.body.get("stream_options") or {}) | _USAGE
    return Rendered(resolved, b'{"model":', b"," + _encode(fields)[1:], parsed.stream, strip)


def _messages(parsed: Parsed, manifest: Manifest) -> list[dict[str, Any]]:
    messages = parsed.messages
    prompt, system = manifest.prompt, manifest.system
    if prompt is None and not messages:
        raise BadRequest(
            "the route's release has no prompt, and no messages were sent", where="messages", hint="send “messages”"
        )
    if prompt is None and system is None:
        return messages
    if prompt is None and system is not None and "{" not in system.text:
        return [{"role": "system", "content": expand(system, {}, "system")}, *messages]
    at = next((i for i in range(len(messages) - 1, -1, -1) if messages[i].get("role") == "user"), None)
    asked = messages[at].get("content") if at is not None else None
    given = {"input": text_of(asked), "messages": messages} if messages else {}
    variables: dict[str, Any] = given | (parsed.variables or {})
    if prompt is not None:
        spoken = {"role": "user", "content": _spoken(expand(prompt, variables, "prompt"), asked)}
        messages = [*messages[:at], spoken, *(messages[at + 1 :] if at is not None else [])]
    if system is not None:
        messages = [{"role": "system", "content": expand(system, variables, "system")}, *messages]
    return messages


def _spoken(text: str, asked: Any) -> Any:
    """The rendered prompt; images and other parts of the message that it stands for are kept beside it."""
    if not isinstance(asked, list):
        return text
    others = [p for p in asked if not (isinstance(p, dict) and p.get("type") == "text")]
    return [{"type": "text", "text": text}, *others] if others else text


@functools.lru_cache(maxsize=2048)
def _compiled(text: str) -> tuple[jinja2.Template, str | None]:
    """The template, and its text once and for all where it uses no variable."""
    template = _sandbox.from_string(text)
    fixed = None if jinja2.meta.find_undeclared_variables(_sandbox.parse(text)) else template.render()
    return template, fixed


def expand(template: Template, variables: dict[str, Any], part: str) -> str:
    """The template's text with its variables; BadRequest (`missing_prompt_variable`) names the one that is missing."""
    for name in template.variables:
        if name not in variables:
            raise _missing(name, part)
    try:
        compiled, fixed = _compiled(template.text)
        if fixed is not None:
            return fixed
        # What `render` does, without its copies: `shared` takes the variables as they are.
        context = compiled.new_context(_sandbox.globals | variables, shared=True)
        return "".join(compiled.root_render_func(context))
    except jinja2.UndefinedError as error:
        name = str(error).split("'")[1] if "'" in str(error) else str(error)
        raise _missing(name, part) from error
    except jinja2.TemplateSyntaxError as error:
        raise ConfigError(
            f"the release's {part} is not a template: {error}", where=f"line {error.lineno}", code="bad_template"
        ) from error
    except (jinja2.TemplateError, ArithmeticError, TypeError, ValueError, AttributeError, LookupError) as error:
        raise BadRequest(
            f"the {part} cannot be rendered with these variables: {error}",
            where="prompt.variables",
            code="bad_variable",
        ) from error


def _missing(name: str, part: str) -> BadRequest:
    return BadRequest(
        f"the {part} needs the variable “{name}”, which was not sent",
        where=f"prompt.variables.{name}",
        hint=f'send prompt: {{"variables": {{"{name}": …}}}}',
        code="missing_prompt_variable",
    )
