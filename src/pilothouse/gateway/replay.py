"""A record's request again: the same upstream body, byte for byte, from the client's body and the manifest alone."""

from pilothouse.domain.model_ref import ModelRef
from pilothouse.domain.record import Record
from pilothouse.domain.table import Live
from pilothouse.gateway.apis.named import api_named
from pilothouse.gateway.render import render
from pilothouse.gateway.resolve import inline
from pilothouse.gateway.types import Incoming, Rendered, Resolved


def rebuild(
    request: str, live: Live | None, route: str = "", model: ModelRef | None = None, api: str = "chat"
) -> bytes:
    """The first upstream body of the request whose payload is `request`.

    `live`: its release, None for an inline manifest. `model`: the one of its first attempt, where a pin had replaced
    the release's own. SHA-256 of the result is the record's `upstream_hash`, or its `upstream_redacted_hash` where
    redaction changed the request. Raises the errors of parse and render.
    """
    rendered = again(request, live, route, api)
    return rendered.upstream((model or rendered.resolved.model).name)


def rebuild_record(record: Record, live: Live | None) -> bytes:
    """The same from a record that has its payload; raises the errors of parse and render.

    A body that cannot be rendered again, because a guardrail masked the request, is kept as it was sent.
    """
    if record.payload is not None and record.payload.upstream:
        return record.payload.upstream.encode()
    first = record.attempts[0] if record.attempts else None
    model = ModelRef(first.provider, first.model) if first else None
    return rebuild(record.payload.request if record.payload else "", live, record.route, model, record.api)


def again(request: str, live: Live | None, route: str, name: str = "chat") -> Rendered:
    """Parse and render once more, in the API of that name."""
    api = api_named(name)
    to_chat = api.to_chat if api.translates else None
    parsed = api.parse(Incoming(body=request.encode(), path=name))
    if live is None:
        ref = ModelRef.parse(parsed.model or route)
        return render(Resolved(parsed=parsed, live=inline(ref), model=ref, route=parsed.model, inline=True), to_chat)
    return render(Resolved(parsed=parsed, live=live, model=live.manifest.model, route=route), to_chat)
