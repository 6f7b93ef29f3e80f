"""Resolved → what flags make of it: a flow that is switched off, or another release or part than the pointer's.

A flag is evaluated with what the request says of itself; its targeting key is what canaries are drawn by: session or
user, or else the request. The record names every flag that had a say, and the parts that really answered.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from pilothouse.domain.errors import FlowOff
from pilothouse.domain.flag import ON, FlagEntry
from pilothouse.domain.flag_conditions import meets
from pilothouse.domain.flag_evaluation import KEY, Evaluation, evaluate
from pilothouse.domain.hashing import content_hash, names_hash
from pilothouse.domain.model_ref import ModelRef
from pilothouse.domain.table import Entry, Live
from pilothouse.gateway.types import Parsed, Resolved

FLOW = "x-pilothouse-flow"
Count = Callable[[str, Evaluation], None]  # environment, evaluation


def _uncounted(_env: str, _made: Evaluation) -> None:
    return None


def _no_header(_name: str) -> str | None:
    return None


class Asking(msgspec.Struct, gc=False):
    """Who asks, as far as flags may know it, and who counts their evaluations."""

    key_id: str = ""
    header: Callable[[str], str | None] = _no_header
    count: Count = _uncounted


NOBODY = Asking()


class _Headers(Mapping[str, str]):
    """The request's headers, read only where a rule names one: `headers.x-tenant`."""

    def __init__(self, header: Callable[[str], str | None]) -> None:
        self._header = header

    def __getitem__(self, name: str) -> str:
        if (value := self._header(name.lower())) is None:
            raise KeyError(name)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def switched(
    resolved: Resolved, entry: Entry, flags: Mapping[str, FlagEntry], session: str, asking: Asking
) -> Resolved:
    """`resolved` as the flags of its route want it."""
    context = context_of(resolved.parsed, entry, session, asking)
    for key in entry.switches:
        flag = flags.get(key)
        if flag is None:
            continue
        if flag.flow is not None:
            if flag.flow.when is None or meets(flag.flow.when, context):
                made = evaluate(flag, context)
                asking.count(entry.env, made)
                if made.value is False:
                    resolved.flags = resolved.flags | {key: made.variant}
                    resolved.off = _off(flag, entry)
                    return resolved
        elif flag.selects is not None:
            made = evaluate(flag, context)
            asking.count(entry.env, made)
            chosen = entry.selectable.get(made.value) if made.value else None
            if chosen is not None:
                resolved = _selected(resolved, chosen, flag.selects.part, entry.pinned_model)
                resolved.flags = resolved.flags | {key: made.variant}
    return resolved


def context_of(parsed: Parsed, entry: Entry, session: str, asking: Asking) -> dict[str, Any]:
    """What a rule may ask about a request of the gateway. A label or a header that is not there meets nothing."""
    labels = parsed.labels
    flow = asking.header(FLOW) or labels.get("flow")
    context: dict[str, Any] = {
        KEY: session,
        "route": entry.route,
        "env": entry.env,
        "app": entry.app,
        "api": parsed.api,
        "key": asking.key_id,
        "session": parsed.session,
        "user": parsed.user,
        "labels": labels,
        "headers": _Headers(asking.header),
    }
    if flow is not None:
        context["flow"] = flow
    if (segment := labels.get("segment")) is not None:
        context["segment"] = segment
    return context


def _off(flag: FlagEntry, entry: Entry) -> FlowOff:
    why = flag.reason or ("no reason given" if not flag.enabled else "by its rules")
    return FlowOff(
        f"this use of “{entry.route}” is switched off in {entry.env}: {why}",
        where=flag.key,
        hint=f"ask its owner; `pilothouse flag enable {flag.key} --env {entry.env}` switches it {ON} again",
    )


def _selected(resolved: Resolved, chosen: Live, part: str, pinned: str) -> Resolved:
    """The request on the chosen release, or on its own with one part of the chosen one."""
    live = with_part(resolved.live, chosen, part) if part else chosen
    model = live.manifest.model
    if pinned:
        live, model = pinned_to(live, pinned), ModelRef.parse(pinned)
    resolved.live, resolved.model = live, model
    if not part:
        resolved.canary = False
    return resolved


_composed: dict[tuple[str, str, str], Live] = {}
_COMPOSED_MAX = 1_024


def with_part(live: Live, other: Live, part: str) -> Live:
    """`live` with one part as `other` has it; its number stays, its hashes are those of what answers."""
    address = other.parts[part]
    if live.parts[part] == address:
        return live
    key = (live.hash, part, address)
    made = _composed.get(key)
    if made is None or made.release != live.release:
        parts = live.parts | {part: address}
        manifest = msgspec.structs.replace(live.manifest, **{part: getattr(other.manifest, part)})
        made = Live(release=live.release, manifest=manifest, parts=parts, hash=names_hash(parts))
        if len(_composed) >= _COMPOSED_MAX:
            _composed.clear()
        _composed[key] = made
    return made


@functools.lru_cache(maxsize=1024)
def _pinned_parts(parts: tuple[tuple[str, str], ...], model: str) -> tuple[dict[str, str], str]:
    changed = dict(parts) | {"model": content_hash(ModelRef.parse(model))}
    return changed, names_hash(changed)


def pinned_to(live: Live, model: str) -> Live:
    """`live` with the part `model` as the pin makes it, so that the record names what really answered."""
    parts, whole = _pinned_parts(tuple(live.parts.items()), model)
    return Live(release=live.release, manifest=live.manifest, parts=parts, hash=whole)
