"""T1.0: requests rendered again from their record alone, and compared with what was sent."""

from collections import Counter

from pilothouse.domain.errors import PilothouseError
from pilothouse.domain.facts import StoredRequest
from pilothouse.domain.hashing import bytes_hash
from pilothouse.domain.manifest import PARTS, ModelRef
from pilothouse.domain.security_facts import ReconstructSample
from pilothouse.domain.table import Live
from pilothouse.gateway.replay import rebuild
from pilothouse.releases import registry
from pilothouse.server.composition import Control
from pilothouse.telemetry.samples import sample_requests

SAMPLE = 20


def sample(control: Control, route: str, env: str, since_us: int, known: frozenset[str]) -> ReconstructSample | None:
    """Up to 20 requests of the route; None where it has none that reached a provider. `known`: hashes that resolve."""
    drawn = sample_requests(control.telemetry, route, env, SAMPLE, since_us)
    if not drawn:
        return None
    first = _first_models(control, drawn)
    lives: dict[int, Live | str] = {}
    reasons = Counter(_why_not(control, one, first.get(one.id), known, lives) for one in drawn)
    ok = reasons.pop("", 0)
    return ReconstructSample(n=len(drawn), ok=ok, reasons=dict(reasons), sampled_us=control.clock.now_us())


def _first_models(control: Control, drawn: list[StoredRequest]) -> dict[str, ModelRef]:
    """Request → the model of its first attempt, which a pin may have put in the release's place."""
    marks = ", ".join("?" * len(drawn))
    found = control.telemetry.rows(
        f"SELECT request_id, arg_min(provider, n), arg_min(model, n) FROM attempts "  # noqa: S608  # only marks
        f"WHERE request_id IN ({marks}) GROUP BY request_id",
        [one.id for one in drawn],
    )
    return {ident: ModelRef(provider, model) for ident, provider, model in found}


def _why_not(
    control: Control,
    one: StoredRequest,
    model: ModelRef | None,
    known: frozenset[str],
    lives: dict[int, Live | str],
) -> str:
    """Why the request cannot be made again byte for byte; empty where it can."""
    if not one.inline:
        missing = [part for part in PARTS if one.parts.get(part, "") not in known]
        if missing:
            return f"the {missing[0]} does not resolve"
    if not one.payload_request:
        return f"the body is not kept (log mode {one.log_mode or 'off'})"
    live = None if one.inline else _live(control, one, lives)
    if isinstance(live, str):
        return live
    try:
        body = rebuild(one.payload_request, live, one.route, model)
    except PilothouseError as error:
        return f"it cannot be rendered: {error.kind}"
    recorded = one.upstream_redacted_hash or one.upstream_hash
    return "" if bytes_hash(body) == recorded else "the body differs from what was sent"


def _live(control: Control, one: StoredRequest, lives: dict[int, Live | str]) -> Live | str:
    if one.release is None:
        return "no release is recorded"
    if one.release not in lives:
        try:
            lives[one.release] = registry.release(control.state, one.route, one.release)
        except PilothouseError as error:
            lives[one.release] = f"its release does not resolve: {error.kind}"
    return lives[one.release]
