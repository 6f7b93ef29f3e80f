"""A request again, from its record alone: the same upstream body byte for byte; sent once more where asked."""

import asyncio
from typing import Any

import msgspec

from pilothouse.domain.change import Actor
from pilothouse.domain.errors import NotFound, PilothouseError, Refused
from pilothouse.domain.hashing import bytes_hash
from pilothouse.domain.model_ref import ModelRef
from pilothouse.domain.record import Payload, Record
from pilothouse.domain.table import Live
from pilothouse.domain.wires import GenerateReply, GenerateRequest
from pilothouse.gateway.pipeline import Gateway
from pilothouse.gateway.replay import rebuild
from pilothouse.releases import registry
from pilothouse.server import reading
from pilothouse.server.composition import Control
from pilothouse.server.generating import generating, require_providers
from pilothouse.server.views import rows
from pilothouse.telemetry import read


async def replay(control: Control, ident: str, actor: Actor, *, send: bool = False) -> dict[str, Any]:
    """Rebuild the upstream body of a request and compare its hash with the recorded one; NotFound, Refused."""
    await control.load()
    return await asyncio.to_thread(_replay, control, ident, actor, send)


def _replay(control: Control, ident: str, actor: Actor, send: bool) -> dict[str, Any]:
    record, kept = _stored(control, ident, actor)
    request, sent = kept.request, kept.upstream  # `sent` only where it cannot be rendered again
    live = None if record.inline else _live(control, record)
    first = record.attempts[0] if record.attempts else None
    model = ModelRef(first.provider, first.model) if first else None
    body = sent.encode() if sent else rebuild(request, live, record.route, model, record.api)
    recorded = record.upstream_redacted_hash or record.upstream_hash
    found = bytes_hash(body)
    told: dict[str, Any] = {
        "id": ident,
        "route": record.route,
        "release": record.release,
        "same": found == recorded,
        "hash": found,
        "recorded_hash": recorded,
        "redacted": bool(record.upstream_redacted_hash),
        "body": body.decode(errors="replace"),
        "reply": None,
    }
    if send and live is not None:
        told["reply"] = _send(control, record, live, request)
    return told


def _stored(control: Control, ident: str, actor: Actor) -> tuple[Record, Payload]:
    found = read.request(control.telemetry, ident)
    if found is None:
        raise NotFound(f"no request {ident!r} is stored", hint="the newest ones take a second to be loaded")
    kept = reading.bodies(control, [ident], actor, "replay").get(ident)
    if kept is None or not kept.request:
        mode = found["log_mode"] or "off"
        raise Refused(f"the body of request {ident} was not kept: its log mode is {mode}", code="no_payload")
    return rows.record(found), kept


def _live(control: Control, record: Record) -> Live:
    if record.release is None:
        raise Refused(f"request {record.id} was refused before a release was resolved", code="no_release")
    return registry.answered(control.state, record.route, record.release, record.parts)


def _send(control: Control, record: Record, live: Live, request: str) -> GenerateReply:
    require_providers(control, [live])
    try:
        body: dict[str, Any] = msgspec.json.decode(request)
    except msgspec.DecodeError as error:
        raise PilothouseError(f"the kept body is not JSON: {error}", where=record.id) from error
    body.pop("stream", None)
    again = GenerateRequest(
        route=record.route,
        env=record.env,
        live=live,
        body=body,
        app=record.app,
        tier=record.tier or "standard",
        source="replay",
    )

    async def through(gateway: Gateway) -> GenerateReply:
        return await gateway.generate(again)

    return asyncio.run(generating(control, through))
