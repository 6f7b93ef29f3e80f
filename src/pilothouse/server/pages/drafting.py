"""A new release on the page: another one, or the app's files, edited part by part. What is made is what was shown."""

import json
import math
from typing import Any, NoReturn
from urllib.parse import urlencode

import msgspec
from starlette.datastructures import FormData
from starlette.responses import Response

from pilothouse.config import parts as files
from pilothouse.domain.errors import BadRequest, Conflict, NotFound, PilothouseError
from pilothouse.domain.manifest import Manifest
from pilothouse.domain.model_ref import ModelRef
from pilothouse.releases.edit import Draft, Edit
from pilothouse.server.pages import difference
from pilothouse.server.pages.context import PageContext
from pilothouse.server.pages.guard import field, redirect, whole
from pilothouse.server.pages.plan_shown import Start
from pilothouse.server.pages.render import Page

TEMPLATES = ("system", "prompt")
DOCUMENTS = ("params", "tools", "schema", "policy")  # typed as JSON
EMPTY: dict[str, Any] = {"params": {}, "policy": {}, "tools": None, "schema": None}
FIELDS = (
    "notes", "model", "index", "index_version", *DOCUMENTS,
    *(f"{name}{more}" for name in TEMPLATES for more in ("", "_variables", "_version")),
)  # fmt: skip
FILES = "files"
WHERE = "new release"
LEVELS = 100  # of typed JSON within one another
_DEEP = object()
Wrong = dict[str, PilothouseError]  # field → what is wrong with it; "" for what has no field


async def show(ctx: PageContext, page: Page) -> Response:
    """`GET /releases/new?route=&base=`: the form, filled with what is edited. `base`: a number, or `files`."""
    query = page.request.query_params
    start = await _start(ctx, query.get("route", ""), query.get("base", ""))
    return _respond(page, start, typed_of(start.manifest), {})


async def edit(ctx: PageContext, page: Page, form: FormData) -> Response:
    """`POST /releases/new`: shows the difference; with `do=create` makes what was shown, and nothing else."""
    start = await _start(ctx, field(form, "route"), field(form, "base"))
    typed = {name: _raw(form, name) for name in FIELDS}
    parts, wrong = read(typed, start.manifest)
    if wrong:
        return _respond(page, start, typed, wrong)
    newest = whole(field(form, "newest"), "the newest release that was seen", WHERE)
    asked = Edit(base=start.base, parts=parts, newest=newest, begun=field(form, "begun"))
    try:
        draft = await ctx.plans.draft(start.route, asked)
        if field(form, "do") != "create" or field(form, "shown") != draft.after.hash():
            return _respond(page, start, typed, {}, draft)
        number, said = await ctx.plans.create(start.route, asked, typed["notes"].strip(), page.actor)
    except PilothouseError as error:
        return _respond(page, start, typed, {_place(error): error})
    query = {"route": start.route, "release": str(number), "said": said}
    return redirect(page, f"/releases/plan?{urlencode(query)}")


async def _start(ctx: PageContext, route: str, base: str) -> Start:
    if not route:
        raise NotFound("no route was named", where=WHERE, hint="start from the releases page")
    number = None if base == FILES else whole(base or "0", "the release to start from", WHERE)
    return await ctx.plans.start(route, number)


def _raw(form: FormData, name: str) -> str:
    """What was typed, as it was: browsers send line ends of their own."""
    value = form.get(name, "")
    return value.replace("\r\n", "\n") if isinstance(value, str) else ""


def _place(error: PilothouseError) -> str:
    """The field that an error is about: `parts.NAME`, maybe with a line behind it."""
    name = error.where.removeprefix("parts.").partition(":")[0]
    return name if name in FIELDS else ""


def typed_of(manifest: Manifest) -> dict[str, str]:
    """A manifest as the form has it."""
    typed = dict.fromkeys(FIELDS, "")
    for name in TEMPLATES:
        part = manifest.part(name) or {"text": "", "variables": (), "version": ""}
        typed |= {name: part["text"], f"{name}_variables": ", ".join(part["variables"])}
        typed[f"{name}_version"] = part["version"]
    for name in DOCUMENTS:
        part = manifest.part(name)
        typed[name] = "" if part == EMPTY[name] else msgspec.json.format(msgspec.json.encode(part), indent=2).decode()
    typed["model"] = str(manifest.model)
    if manifest.index is not None:
        typed |= {"index": manifest.index.name, "index_version": manifest.index.version}
    return typed


def read(typed: dict[str, str], begun: Manifest) -> tuple[dict[str, Any], Wrong]:
    """The parts that differ from what was begun with, in the manifest's form; and every field that cannot be read."""
    found: dict[str, Any] = {name: _template(typed, name) for name in TEMPLATES}
    found["index"] = _index(typed)
    wrong: Wrong = {}
    try:
        found["model"] = _model(typed["model"].strip())
    except BadRequest as error:
        wrong["model"] = error
    for name in DOCUMENTS:
        try:
            found[name] = _document(typed[name], name)
        except BadRequest as error:
            wrong[name] = error
    return {name: part for name, part in found.items() if part != _listed(begun.part(name))}, wrong


def _listed(part: Any) -> Any:
    """As JSON has it, with lists for tuples."""
    return msgspec.json.decode(msgspec.json.encode(part))


def _template(typed: dict[str, str], name: str) -> dict[str, Any] | None:
    """None where nothing is typed. Variables that nobody names are those that the text uses."""
    text = typed[name]
    if not text.strip():
        return None
    named = [one.strip() for one in typed[f"{name}_variables"].split(",") if one.strip()]
    try:
        variables = named or list(files.undeclared(text, f"parts.{name}"))
    except PilothouseError:
        variables = []  # the draft says what is wrong with the text
    return {"text": text, "variables": variables, "version": typed[f"{name}_version"].strip()}


def _index(typed: dict[str, str]) -> dict[str, str] | None:
    name = typed["index"].strip()
    return {"name": name, "version": typed["index_version"].strip()} if name else None


def _model(text: str) -> dict[str, str]:
    ref = ModelRef.parse(text)
    if not ref.provider or not ref.name:
        raise BadRequest(
            f"{text!r} is not `provider/model`", where="model", hint="such as openai/gpt-5-mini-2026-08-07"
        )
    return {"provider": ref.provider, "name": ref.name}


def _document(text: str, name: str) -> Any:
    if not text.strip():
        return EMPTY[name]
    try:
        value = json.loads(text, parse_constant=_no_number, parse_int=_integer, parse_float=_fraction)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise BadRequest(f"this is no JSON: {error.msg} at {place}", where=name) from error
    except RecursionError:
        value = _DEEP
    if value is _DEEP or not _shallow(value):
        raise BadRequest(f"this is nested in more than {LEVELS} levels", where=name)
    return value


def _shallow(value: Any, levels: int = LEVELS) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels > 0 and all(_shallow(one, levels - 1) for one in inner)


def _integer(text: str) -> int:
    if len(text) > 20 or not -(1 << 63) <= int(text) < 1 << 64:
        raise BadRequest(f"{text[:20]}{' …' if len(text) > 20 else ''} is too long a number: it must fit 64 bits")
    return int(text)


def _fraction(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise BadRequest(f"{text[:20]}{' …' if len(text) > 20 else ''} is too large a number")
    return value


def _no_number(text: str) -> NoReturn:
    raise BadRequest(f"this is no JSON: {text} is no number")


def _respond(page: Page, start: Start, typed: dict[str, str], wrong: Wrong, draft: Draft | None = None) -> Response:
    status = max((error.status for error in wrong.values()), default=200)
    return page.respond(
        "release_new.html",
        status=status,
        title=f"New release of {start.route}",
        at="releases",
        start=start,
        typed=typed,
        wrong=wrong,
        moved=any(isinstance(error, Conflict) for error in wrong.values()),
        begun=start.manifest.hash(),
        draft=draft,
        parts=difference.between(draft.before, draft.after) if draft is not None else (),
        rows={name: min(28, max(3, typed[name].count("\n") + 2)) for name in (*TEMPLATES, *DOCUMENTS)},
    )
