"""Parsed → Resolved: which release answers, stable or canary, or an inline manifest for a raw provider/model."""

import difflib
import functools

from pilothouse.domain.bucket import bucket
from pilothouse.domain.errors import BadRequest, NotFound, RouteDisabled
from pilothouse.domain.manifest import Manifest
from pilothouse.domain.model_ref import ModelRef
from pilothouse.domain.table import Entry, Live, Table
from pilothouse.gateway.switches import NOBODY, Asking, pinned_to, switched
from pilothouse.gateway.types import Parsed, Resolved
from pilothouse.providers.registry import wire_of


def resolve(parsed: Parsed, env: str, table: Table, request_id: str, asking: Asking = NOBODY) -> Resolved:
    """The release that `parsed.model` names in `env`; raises NotFound or RouteDisabled.

    `asking`: what flags may know of the request beside what is parsed of it.
    """
    if not parsed.model:
        return _only(parsed, table)
    entry = table.entry(parsed.model, env)
    if entry is not None:
        session = parsed.session or request_id
        resolved = _entry(parsed, entry, session)
        return switched(resolved, entry, table.flags.get(env, {}), session, asking) if entry.switches else resolved
    ref = ModelRef.parse(parsed.model)
    if ref.name and ref.provider in table.providers:
        live = inline(ref)
        return Resolved(parsed=parsed, live=live, model=ref, route=parsed.model, inline=True)
    raise _unknown(parsed.model, env, table, bool(ref.name))


def _only(parsed: Parsed, table: Table) -> Resolved:
    """A request that names no model goes to the only provider there is for it."""
    speaking = sorted(p.name for p in table.providers.values() if parsed.api in wire_of(p).native)
    if len(speaking) != 1:
        raise BadRequest(
            f"the request names no model, and {len(speaking)} providers could take it",
            where="x-pilothouse-route",
            hint=f"send the header x-pilothouse-route with a route or provider/model; providers: {', '.join(speaking)}",
            code="no_route",
        )
    ref = ModelRef(speaking[0], "")
    return Resolved(parsed=parsed, live=inline(ref), model=ref, route=speaking[0], inline=True)


def _entry(parsed: Parsed, entry: Entry, session: str) -> Resolved:
    if entry.disabled:
        raise RouteDisabled(
            f"the route “{entry.route}” is switched off in {entry.env}: {entry.disabled_reason or 'no reason given'}",
            where=entry.route,
            hint="ask its owner; it comes back when the switch is turned",
        )
    canary = entry.canary is not None and in_canary(entry.salt, session, entry.share)
    live = entry.canary if canary and entry.canary is not None else entry.stable
    model, pinned = live.manifest.model, entry.pinned_model
    if pinned:
        live, model = pinned_to(live, pinned), ModelRef.parse(pinned)
    return Resolved(parsed, live, model, entry.route, entry.app, entry.tier, canary, pinned=bool(pinned))


def in_canary(salt: str, session: str, share: float) -> bool:
    """Whether a session is among the `share` (0 … 1) of sessions that the canary gets; the same answer always."""
    return bucket(salt, session) < share


@functools.lru_cache(maxsize=4096)
def inline(ref: ModelRef) -> Live:
    """The manifest of a raw model: the model, and defaults for everything else."""
    manifest = Manifest(model=ref)
    return Live(release=0, manifest=manifest, parts=manifest.hashes(), hash=manifest.hash())


def _unknown(model: str, env: str, table: Table, raw: bool) -> NotFound:
    routes = [e.route for e in table.entries.values() if e.env == env]
    if raw and model.partition("/")[0] not in routes:
        close = difflib.get_close_matches(model.partition("/")[0], table.providers, 1)
        known = f"did you mean {close[0]}/…?" if close else f"providers: {', '.join(sorted(table.providers)) or 'none'}"
        return NotFound(
            f"no route and no provider for “{model}” in {env}", where="model", hint=known, code="unknown_route"
        )
    close = difflib.get_close_matches(model, routes, 1)
    known = f"did you mean {close[0]}?" if close else f"routes of {env}: {', '.join(sorted(routes)) or 'none'}"
    return NotFound(f"no route “{model}” in {env}", where="model", hint=known, code="unknown_route")
