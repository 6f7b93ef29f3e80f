"""Alternate models: evaluated with the route's own gate, probed every hour, and what is known of each."""

import asyncio
from typing import Any

import msgspec

from pilothouse.config.route import RouteConfig
from pilothouse.domain.alternate import Alternate
from pilothouse.domain.errors import PilothouseError
from pilothouse.domain.manifest import Manifest
from pilothouse.domain.model_ref import ModelRef
from pilothouse.domain.policy import Policy
from pilothouse.domain.release_facts import Drill
from pilothouse.domain.table import Live
from pilothouse.domain.wires import GenerateReply, GenerateRequest
from pilothouse.gateway.pipeline import Gateway
from pilothouse.server.composition import Control
from pilothouse.server.generating import generating
from pilothouse.store.state import drills, pointers
from pilothouse.store.telemetry import dialect

ENV = "prod"
OWN_KINDS = ("local", "scripted")
EVALUATED, PROBED = "alternate_model", "alternate_probe"
EVERY_US = 3_600 * 1_000_000
KEEP_US = 7 * 86_400 * 1_000_000  # probes older than this are forgotten
WEEK_US = KEEP_US
PROBE = {"messages": [{"role": "user", "content": "Answer with the one word: ready"}]}
_QUOTA = f"""SELECT max(ratelimit_limit) FROM attempts WHERE provider = ? AND model = ?
  AND ratelimit_limit IS NOT NULL AND ts >= {dialect.at()}"""  # noqa: S608  # our own fragment
_PEAK = f"""SELECT max(n) FROM (SELECT sum(requests) AS n FROM rollup_minute WHERE source = 'edge' AND route = ?
  AND env = ? AND minute >= {dialect.at()} GROUP BY minute)"""  # noqa: S608  # likewise


def of_route(control: Control, route: RouteConfig, env: str = ENV) -> list[Alternate]:
    """What is known of each alternate that the route names. Blocking."""
    with control.state.read() as conn:
        evaluated = _newest(drills.list_drills(conn, route.name, env, EVALUATED))
        probed = _newest(drills.list_drills(conn, route.name, env, PROBED))
    since = control.clock.now_us() - WEEK_US
    peak = control.telemetry.rows(_PEAK, [route.name, env, since])[0][0] if route.alternates else None
    found = []
    for model in route.alternates:
        if model == route.manifest.model:
            continue
        provider = control.config.providers.get(model.provider)
        one = _alternate(str(model), evaluated.get(str(model)), probed.get(str(model)), float(peak) if peak else None)
        own = provider is not None and provider.kind in OWN_KINDS
        found.append(msgspec.structs.replace(one, own=own))
    return found


def _newest(found: list[Drill]) -> dict[str, Drill]:
    """Model → its newest drill; they come newest first."""
    kept: dict[str, Drill] = {}
    for one in found:
        kept.setdefault(str(one.detail.get("model", "")), one)
    return kept


def _alternate(model: str, evaluated: Drill | None, probed: Drill | None, peak: float | None) -> Alternate:
    eval_detail: dict[str, Any] = evaluated.detail if evaluated else {}
    probe_detail: dict[str, Any] = probed.detail if probed else {}
    return Alternate(
        model=model,
        evaluated_us=evaluated.ts_us if evaluated else None,
        passed=evaluated.ok if evaluated else None,
        pass_rate=eval_detail.get("pass_rate"),
        n=int(eval_detail.get("n", 0)),
        probed_us=probed.ts_us if probed else None,
        answered=probed.ok if probed else None,
        probe_ms=probe_detail.get("ms"),
        quota=probe_detail.get("quota"),
        peak=peak,
    )


def on(manifest: Manifest, model: ModelRef) -> Manifest:
    """The manifest on another model, and on that alone: a fallback must not answer for it."""
    policy = msgspec.structs.replace(manifest.policy, fallback=(), hedge=None, balance=Policy().balance)
    return msgspec.structs.replace(manifest, model=model, policy=policy)


async def hourly(control: Control) -> None:
    """Probe every alternate of every route live in production that was not probed for an hour."""
    due = await asyncio.to_thread(_due, control)
    if due:
        await asyncio.to_thread(probe, control, due)


def _due(control: Control) -> list[tuple[str, ModelRef]]:
    since = control.clock.now_us() - EVERY_US
    due = []
    with control.state.read() as conn:
        for route in control.config.routes.values():
            if not route.alternates or pointers.get(conn, route.name, ENV) is None:
                continue
            last = _newest(drills.list_drills(conn, route.name, ENV, PROBED))
            for model in route.alternates:
                known = last.get(str(model))
                if model != route.manifest.model and (known is None or known.ts_us <= since):
                    due.append((route.name, model))
    return due


def probe(control: Control, due: list[tuple[str, ModelRef]]) -> list[Drill]:
    """One short question to each; what came of it is kept. Blocking."""

    async def through(gateway: Gateway) -> list[GenerateReply]:
        return [await _ask(gateway, route, model) for route, model in due]

    replies = asyncio.run(generating(control, through))
    with control.state.write() as conn:
        now = control.clock.now_us()
        drills.forget(conn, PROBED, now - KEEP_US)
        found = []
        for (route, model), reply in zip(due, replies, strict=True):
            quota = control.telemetry.rows(_QUOTA, [model.provider, model.name, now - WEEK_US])[0][0]
            detail = {"model": str(model), "ms": round(reply.duration_ms, 1), "error": reply.error, "quota": quota}
            drill = Drill(id=0, kind=PROBED, route=route, env=ENV, ts_us=now, ok=not reply.error, detail=detail)
            found.append(drills.record(conn, drill, control.clock))
    return found


async def _ask(gateway: Gateway, route: str, model: ModelRef) -> GenerateReply:
    manifest = Manifest(model=model, params={"temperature": 0, "max_tokens": 8})
    live = Live(release=0, manifest=manifest, parts=manifest.hashes(), hash=manifest.hash())
    request = GenerateRequest(route=route, env=ENV, live=live, body=PROBE, source="eval")
    try:
        return await gateway.generate(request)
    except PilothouseError as error:
        return GenerateReply(request_id="", text="", error=error.kind)
