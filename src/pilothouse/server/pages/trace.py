"""Trace: what happened in it?"""

from typing import Any

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.responses import Response

from pilothouse.domain.errors import BadRequest, NotFound
from pilothouse.domain.hashing import content_hash
from pilothouse.domain.manifest import PARTS
from pilothouse.domain.record import Payload, Record, Tokens
from pilothouse.server.pages import difference, waterfall
from pilothouse.server.pages.context import PageContext
from pilothouse.server.pages.guard import field
from pilothouse.server.pages.render import Page
from pilothouse.telemetry.waterfall import Waterfall

COMPARED = 6_000  # characters of a body that are compared by word
BODY_SHOWN = 20_000  # characters of a body on the page; the rest is in the JSON twin


class Message(msgspec.Struct, frozen=True):
    """A message of a conversation as text."""

    role: str
    text: str
    kind: str = "text"  # or json


class Body(msgspec.Struct, frozen=True):
    """A payload, opened: messages where it is a conversation, text where it is not."""

    name: str
    messages: tuple[Message, ...]
    raw: str
    cut: int = 0  # characters left out


async def show(ctx: PageContext, page: Page) -> Response:
    """`GET /traces/{id}`: a trace by its id, or by that of a request in it; `under`: only what is below a step."""
    ident = page.request.path_params["ident"]
    detail = await run_in_threadpool(ctx.trace, ident)
    if detail is None:
        raise NotFound(f"No request or trace {ident}", where="traces", hint="it may have expired, or not be loaded yet")
    record, tree = detail.record, detail.waterfall
    under = page.request.query_params.get("under", "")
    first = tree.steps[0]
    named = (record.route or record.requested_model) if record else first.name
    return page.respond(
        "trace.html",
        title=f"{named} {(record.id if record else tree.trace_id)[:8]}",
        at="traces",
        r=record,
        first=first,
        detail=detail,
        tree=tree,
        totals=tree.totals,
        under=under,
        drawing=waterfall.draw(tree, under=under),
        orphans=sum(step.orphan for step in tree.steps),
        tokens=_buckets(record.tokens) if record else [],
        parts=[(name, record.parts.get(name, "")) for name in PARTS] if record else [],
        absent=content_hash(None),
        facts=_facts(record) if record else [],
    )


async def _tree(ctx: PageContext, page: Page) -> Waterfall:
    ident = page.request.path_params["ident"]
    tree = await run_in_threadpool(ctx.tree, ident)
    if tree is None:
        raise NotFound(f"No trace {ident}", where="traces", hint="it may have expired")
    return tree


async def rows(ctx: PageContext, page: Page) -> Response:
    """`GET /traces/{id}/rows?from=&under=`: a window of the waterfall's rows, fetched when scrolled to or opened."""
    tree = await _tree(ctx, page)
    address = page.request.query_params
    start = address.get("from", "0")
    under = address.get("under", "")
    drawing = waterfall.draw(tree, int(start) if start.isdigit() and len(start) < 9 else 0, under)
    return page.respond("wf_rows.html", title="Steps", at="traces", drawing=drawing, tree=tree, under=under)


async def step(ctx: PageContext, page: Page) -> Response:
    """`GET /traces/{id}/step?of=`: a step in full, fetched when its bar is opened."""
    tree = await _tree(ctx, page)
    of = page.request.query_params.get("of", "")
    found = next((one for one in tree.steps if one.id == of), None)
    if found is None:
        raise NotFound(f"No step {of} in this trace", where="traces")
    own = found.merged if found.kind == "request" else found.id
    span = await run_in_threadpool(ctx.span, tree.trace_id, own) if own and found.kind != "attempt" else None
    return page.respond(
        "step_part.html" if page.partial else "step.html",
        title=found.name,
        at="traces",
        tree=tree,
        step=found,
        span=span,
        figures=waterfall.figures(found.row or {}),
        said=[(one, _shaped(one.name, one.body)) for one in span.said] if span else [],
        attributes=sorted(span.attributes.items()) if span else [],
    )


async def compare(ctx: PageContext, page: Page) -> Response:
    """`GET /compare?of=&of=`: the difference of two payloads, by word."""
    owners = page.request.query_params.getlist("of")
    if len(owners) != 2:
        raise BadRequest("two spans can be compared, no more and no fewer", where="of", hint="tick two of them")
    found = await run_in_threadpool(ctx.payloads, owners, page.actor)
    return page.respond(
        "compare.html",
        title="Two payloads",
        at="traces",
        owners=owners,
        bodies=differences(*(found.get(owner, Payload()) for owner in owners)),
    )


def differences(a: Payload, b: Payload) -> list[tuple[str, tuple[difference.Piece, ...], int]]:
    """Bodies that either has, with their difference and the characters that were not compared."""
    names = (("Request", "request"), ("Upstream", "upstream"), ("Response", "response"))
    made = []
    for name, attribute in names:
        old, new = (_indented(getattr(one, attribute) or "") for one in (a, b))
        if old or new:
            cut = max(0, len(old) - COMPARED, len(new) - COMPARED)
            made.append((name, difference.words(old[:COMPARED], new[:COMPARED]), cut))
    return made


async def replay(ctx: PageContext, page: Page, form: FormData) -> Response:
    """`POST /traces/{id}/replay`: made again from its record, and with `send` sent once more."""
    ident = page.request.path_params["ident"]
    told = await ctx.replay(ident, bool(field(form, "send")), page.actor)
    return page.respond(
        "replayed_part.html" if page.partial else "replayed.html", title="Replay", at="traces", ident=ident, told=told
    )


def _buckets(tokens: Tokens | None) -> list[tuple[str, int, float, float]]:
    """Disjoint buckets as (name, tokens, x, width) of 480 units."""
    if tokens is None:
        return []
    named = [
        ("input", tokens.input_uncached),
        ("cache read", tokens.cache_read),
        ("cache write", tokens.cache_write),
        ("reasoning", tokens.reasoning),
        ("output", tokens.output_text),
    ]
    total = sum(n for _, n in named) or 1
    views, x = [], 0.0
    for name, n in named:
        width = n / total * 480
        if n:
            views.append((name, n, round(x, 1), round(max(1.0, width - 1), 1)))
        x += width
    return views


def _facts(r: Record) -> list[tuple[str, str]]:
    pairs = [
        ("Environment", r.env),
        ("Provider", r.provider),
        ("Model asked", r.requested_model),
        ("Model served", r.served_model),
        ("Fingerprint", r.fingerprint),
        ("Key", r.key_id),
        ("Session", r.session),
        ("User", r.user),
        ("Segment", r.segment),
        ("Worker", r.worker),
        ("Table revision", str(r.table_revision)),
        ("Logging", r.log_mode),
        ("Source", r.source if r.source != "edge" else ""),
        ("Price from", r.cost_source),
        ("API", r.api if r.api != "chat" else ""),
        ("Cache", _cache(r)),
        ("Stream", r.stream_end if r.stream_end != "complete" else ""),
        ("Served by", f"fallback: {r.way}" if r.way else ""),
        ("Answered", "later" if r.delayed else ""),
        ("Class", r.priority),
        ("Waited for a limit", f"{r.queued_ms:.0f} ms" if r.queued_ms else ""),
        ("Limits", ", ".join(f"{hit.name}: {hit.what}{' (shadow)' if hit.shadow else ''}" for hit in r.limits)),
        ("Guardrails", ", ".join(f"{hit.use} {hit.action} {hit.at} {hit.found}".rstrip() for hit in r.guards)),
        ("Coerced", ", ".join(r.validation.coerced) if r.validation else ""),
        ("Not in the enum", ", ".join(r.validation.unlisted) if r.validation else ""),
    ]
    return [(name, value) for name, value in pairs if value] + sorted(r.labels.items())


def _cache(r: Record) -> str:
    saved = f", saved {r.saved_usd:.6f} USD" if r.saved_usd is not None else ""
    return r.cache + saved if r.cache else ""


async def payload(ctx: PageContext, page: Page) -> Response:
    """`GET /payload?of=`: the bodies of a request or span, fetched when opened."""
    owner = page.request.query_params.get("of", "")
    found = (await run_in_threadpool(ctx.payloads, [owner], page.actor)).get(owner)
    template = "payload_part.html" if page.partial else "payload.html"
    return page.respond(template, title="Payload", at="traces", owner=owner, bodies=opened(found) if found else [])


def opened(found: Payload) -> list[Body]:
    """The bodies that a payload holds, in the order in which they came to be."""
    named = (("Request", found.request), ("Upstream", found.upstream), ("Response", found.response))
    return [_body(name, text) for name, text in named if text]


def _body(name: str, text: str) -> Body:
    shown, cut = text[:BODY_SHOWN], max(0, len(text) - BODY_SHOWN)
    try:
        value = msgspec.json.decode(text.encode())
    except msgspec.DecodeError:
        return Body(name, (), shown, cut)
    pretty = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    return Body(name, _messages(value), pretty[:BODY_SHOWN], max(0, len(pretty) - BODY_SHOWN))


def _messages(value: Any) -> tuple[Message, ...]:
    """The conversation in an OpenAI body, request or response; empty where it is neither."""
    if not isinstance(value, dict):
        return ()
    listed = value.get("messages")
    if not isinstance(listed, list):
        choices = value.get("choices")
        listed = [c.get("message") for c in choices if isinstance(c, dict)] if isinstance(choices, list) else []
    return tuple(m for one in listed if isinstance(one, dict) for m in _said(one))


def _said(message: dict[str, Any]) -> list[Message]:
    role = str(message.get("role", "assistant"))
    said = []
    content = message.get("content")
    if isinstance(content, list):
        content = "\n".join(
            str(part.get("text", f"[{part.get('type')}]")) for part in content if isinstance(part, dict)
        )
    if content:
        said.append(_shaped(role, str(content)))
    for call in message.get("tool_calls") or []:
        function = call.get("function", {}) if isinstance(call, dict) else {}
        said.append(
            Message(f"{role} calls {function.get('name', '')}", _indented(str(function.get("arguments", ""))), "json")
        )
    return said


def _shaped(role: str, text: str) -> Message:
    if text.lstrip()[:1] in {"{", "["} and (pretty := _indented(text)) != text:
        return Message(role, pretty[:BODY_SHOWN], "json")
    return Message(role, text[:BODY_SHOWN])


def _indented(text: str) -> str:
    try:
        return msgspec.json.format(text.encode(), indent=2).decode()
    except msgspec.DecodeError:
        return text
