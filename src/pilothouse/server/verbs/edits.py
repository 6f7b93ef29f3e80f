"""A release that is made by editing another, or the app's files: checked part by part, and shown before it is made."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from pilothouse.config import parts as files
from pilothouse.config.app import RouteConfig
from pilothouse.domain.callers import Callers, Incompatible
from pilothouse.domain.errors import BadRequest, ConfigError, Conflict
from pilothouse.domain.manifest import PARTS, Manifest, manifest_from_parts
from pilothouse.providers.schema_lint import kind_of
from pilothouse.releases import compatibility, indexes, registry
from pilothouse.releases import diff as diffs
from pilothouse.releases.edit import Draft, Edit
from pilothouse.server import callers, safeguards
from pilothouse.server.composition import Control
from pilothouse.store.state import pointers, releases


def base(control: Control, config: RouteConfig, number: int | None) -> Manifest:
    """What an edit begins with: release `number`, or the app's files as they were last read. Blocking; NotFound."""
    return config.manifest if number is None else registry.release(control.state, config.name, number).manifest


def edited(control: Control, config: RouteConfig, edit: Edit) -> RouteConfig:
    """The route with the manifest that `edit` says. Blocking; BadRequest with `where` at the part (`parts.NAME`)."""
    return _edited(control, config, edit, base(control, config, edit.base))


def _edited(control: Control, config: RouteConfig, edit: Edit, begun: Manifest) -> RouteConfig:
    if edit.begun and begun.hash() != edit.begun:
        raise Conflict(
            "the app's files have changed since the edit was begun", where=config.name,
            hint="compare what you typed with what they say now", code="base_moved",
        )  # fmt: skip
    if unknown := sorted(set(edit.parts) - set(PARTS)):
        raise BadRequest(f"there is no part {unknown[0]!r}", where="parts", hint=f"parts: {', '.join(PARTS)}")
    plain = {name: begun.part(name) for name in PARTS}
    for name, value in edit.parts.items():
        _check(name, value, plain)
    manifest = manifest_from_parts(plain | edit.parts)
    if manifest.model.provider not in control.config.providers:
        known = ", ".join(sorted(control.config.providers))
        raise BadRequest(f"no provider {manifest.model.provider!r}", where="parts.model", hint=f"providers: {known}")
    return msgspec.structs.replace(config, manifest=manifest)


def _check(name: str, value: Any, plain: dict[str, Any]) -> None:
    """One part alone: the manifest's form, no key that it does not know, and what its own kind asks for."""
    where = f"parts.{name}"
    try:
        kept = manifest_from_parts(plain | {name: value}).part(name)
    except msgspec.ValidationError as error:
        raise BadRequest(f"it is not as the manifest has it: {_plainly(str(error), name)}", where=where) from error
    if name not in ("params", "tools", "schema") and (key := _lost(value, kept)):
        raise BadRequest(f"there is no key {key!r}", where=where, hint="a key that nobody knows would do nothing")
    check = _CHECKS.get(name)
    if value is not None and check is not None:
        check(value, where)


def _plainly(text: str, name: str) -> str:
    return text.replace(f"$.{name}.", "").replace(f"$.{name}", name)


def _lost(given: Any, kept: Any, at: str = "") -> str:
    """The path of the first key that was given and not taken; empty where there is none."""
    if isinstance(given, dict) and isinstance(kept, dict):
        for key, value in given.items():
            path = f"{at}.{key}" if at else str(key)
            if key not in kept:
                return path
            if found := _lost(value, kept[key], path):
                return found
    if isinstance(given, list) and isinstance(kept, list | tuple):
        return next(
            (lost for i, pair in enumerate(zip(given, kept, strict=False)) if (lost := _lost(*pair, f"{at}[{i}]"))), ""
        )
    return ""


def _template(value: Any, where: str) -> None:
    found = files.undeclared(value["text"], where)
    if missing := [name for name in found if name not in value.get("variables", ())]:
        raise ConfigError(
            f"the template uses {', '.join(missing)}, which its variables do not name",
            where=where, hint="add the name to its variables",
        )  # fmt: skip


_CHECKS: dict[str, Callable[[Any, str], object]] = {
    "prompt": _template, "system": _template, "schema": files.usable_schema, "tools": files.tool_list,
}  # fmt: skip


async def draft(control: Control, route: str, edit: Edit, env: str = "prod") -> Draft:
    """What `create` would make of the same edit, the difference, and who would not survive it; nothing is made.

    Raises what `create` raises.
    """
    if edit.base is None:
        await control.reread()
    await control.load()
    return await asyncio.to_thread(_draft, control, route, edit, env)


def _draft(control: Control, route: str, edit: Edit, env: str) -> Draft:
    config = control.route(route)
    begun = base(control, config, edit.base)
    of = _edited(control, config, edit, begun)
    safeguards.check(of.manifest.policy, control.app_dir)
    warnings = registry.warnings_of(of.manifest, kinds(control, of))
    with control.state.read() as conn:
        newest = releases.latest(conn, route)
        registry.unmoved(newest, edit.newest)
        after, about = indexes.resolve(conn, of.manifest)
        live = pointers.get(conn, route, env)
        stable = releases.get(conn, route, live.stable) if live is not None else None
        whole = stable is not None and not releases.missing(conn, stable)
        served = releases.manifest(conn, stable) if stable is not None and whole else None
    after = registry.plain(after)
    found: tuple[Incompatible, ...] = ()
    sample = None
    if served is not None and (found := compatibility.compare(served, after, Callers())):
        seen = callers.of(control, route, env)
        found, sample = compatibility.compare(served, after, seen), seen.sample
    same = newest is not None and newest.manifest_hash == after.hash()
    return Draft(
        before=begun,
        after=after,
        against=live.stable if live is not None else None,
        incompatible=found,
        callers=sample,
        warnings=(*warnings, *about),
        floating_alias=registry.floating_alias(after.model),
        same_as=newest.number if newest is not None and same else None,
    )


def shown(draft_: Draft) -> dict[str, Any]:
    """A draft as JSON: the parts that differ, and what stands against them."""
    found = diffs.diff(draft_.before, draft_.after)
    return {
        "hash": draft_.after.hash(),
        "same_as": draft_.same_as,
        "against": draft_.against,
        "floating_alias": draft_.floating_alias,
        "warnings": draft_.warnings,
        "incompatible": [msgspec.to_builtins(one) | {"breaks": one.breaks} for one in draft_.incompatible],
        "callers": draft_.callers,
        "parts": [{"part": one.part, "summary": one.summary, "unified": one.unified} for one in found if one.changed],
    }


def kinds(control: Control, route: RouteConfig) -> list[str]:
    """The kinds of the providers that the route may be served by."""
    policy = route.manifest.policy
    models = [route.manifest.model, *(d.model for d in policy.balance.over), *(f.model for f in policy.fallback)]
    used = [control.config.providers.get(model.provider) for model in models if model is not None]
    return [kind_of(provider.kind, provider.base_url) for provider in used if provider is not None]
