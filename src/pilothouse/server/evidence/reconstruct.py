"""T1.0: requests rendered again from their record alone, and compared with what was sent."""

from collections import Counter

from pilothouse.domain.errors import PilothouseError
from pilothouse.domain.facts import StoredRequest
from pilothouse.domain.hashing import bytes_hash
from pilothouse.domain.manifest import PARTS
from pilothouse.domain.model_ref import ModelRef
from pilothouse.domain.security_facts import ReconstructSample
from pilothouse.domain.table import Live
from pilothouse.gateway.replay import rebuild
from pilothouse.releases import registry
from pilothouse.server.composition import Control
from pilothouse.telemetry.samples import sample_requests

SAMPLE = 20
KEEP_US = 3_600 * 1_000_000  # how long a full sample stands: the checklist asks for 20 a day


def samples(
    control: Control, routes: list[str], env: str, since_us: int, known: frozenset[str]
) -> dict[str, ReconstructSample]:
    """Route → up to 20 of its requests made again; without those that have none. `known`: hashes that resolve."""
    kept = {route: one for route in routes if (one := _kept(control, route, env)) is not None}
    drawn = {route: _draw(control, route, env, since_us) for route in routes if route not in kept}
    first = _first_models(control, [one.id for requests in drawn.values() for one in requests])
    for route, requests in drawn.items():
        if requests:
            kept[route] = _judged(control, requests, first, known)
            control.reconstructed[route, env] = kept[route]
    return kept


def _kept(control: Control, route: str, env: str) -> ReconstructSample | None:
    """A full sample that is still good; while a route has little traffic it is drawn anew each time."""
    found = control.reconstructed.get((route, env))
    good = found is not None and found.n >= SAMPLE and control.clock.now_us() - found.sampled_us < KEEP_US
    return found if good else None


def _draw(control: Control, route: str, env: str, since_us: int) -> list[StoredRequest]:
    return sample_requests(control.telemetry, route, env, SAMPLE, since_us)


def _judged(
    control: Control, drawn: list[StoredRequest], first: dict[str, ModelRef], known: frozenset[str]
) -> ReconstructSample:
    lives: dict[tuple[int, str], Live | str] = {}
    reasons = Counter(_why_not(control, one, first.get(one.id), known, lives) for one in drawn)
    ok = reasons.pop("", 0)
    return ReconstructSample(n=len(drawn), ok=ok, reasons=dict(reasons), sampled_us=control.clock.now_us())


def _first_models(control: Control, ids: list[str]) -> dict[str, ModelRef]:
    """Request → the model of its first attempt, which a pin may have put in the release's place."""
    if not ids:
        return {}
    found = control.telemetry.rows(
        "SELECT request_id, arg_min(provider, n), arg_min(model, n) FROM attempts "
        "WHERE request_id IN (SELECT unnest(?)) GROUP BY request_id",
        [ids],
    )
    return {ident: ModelRef(provider, model) for ident, provider, model in found}


def _why_not(
    control: Control,
    one: StoredRequest,
    model: ModelRef | None,
    known: frozenset[str],
    lives: dict[tuple[int, str], Live | str],
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
        kept = one.payload_upstream  # only of what cannot be rendered again
        body = kept.encode() if kept else rebuild(one.payload_request, live, one.route, model, one.api)
    except PilothouseError as error:
        return f"it cannot be rendered: {error.kind}"
    recorded = one.upstream_redacted_hash or one.upstream_hash
    return "" if bytes_hash(body) == recorded else "the body differs from what was sent"


def _live(control: Control, one: StoredRequest, lives: dict[tuple[int, str], Live | str]) -> Live | str:
    if one.release is None:
        return "no release is recorded"
    at = one.release, one.manifest
    if at not in lives:
        try:
            lives[at] = registry.answered(control.state, one.route, one.release, one.parts)
        except PilothouseError as error:
            lives[at] = f"its release does not resolve: {error.kind}"
    return lives[at]
