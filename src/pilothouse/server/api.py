"""`/api/v1`: the verbs over HTTP."""

import asyncio
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from pilothouse.domain.alert import Alert, Rule
from pilothouse.domain.errors import BadRequest
from pilothouse.domain.finding import Review
from pilothouse.releases.edit import Edit
from pilothouse.releases.pointer import Promotion
from pilothouse.server import api_changes
from pilothouse.server.api_changes import streamed
from pilothouse.server.composition import Control
from pilothouse.server.endpoints import body, maybe_whole, route, who
from pilothouse.server.twins import own_state
from pilothouse.server.verbs import (
    alerts,
    audit,
    backups,
    canaries,
    drills,
    edits,
    evals,
    hosts,
    keys,
    releases,
    retention,
    reviews,
    runbooks,
    transfers,
)
from pilothouse.server.verbs import replay as replays

PREFIX = "/api/v1"


class NewKey(msgspec.Struct, forbid_unknown_fields=True):
    """POST /keys."""

    name: str
    env: str
    owner: str = ""


class NewRelease(msgspec.Struct, forbid_unknown_fields=True):
    """POST /routes/{route}/releases.

    `base`: from that release instead of the app's files; `parts`: in the place of its own, in the manifest's form.
    `newest`: 409 where the newest release is another. `dry`: what would be made, and nothing is.
    """

    notes: str = ""
    base: int | None = None
    parts: dict[str, Any] = {}
    newest: int | None = None
    dry: bool = False


class Promote(msgspec.Struct, forbid_unknown_fields=True):
    """POST /routes/{route}/promote. No `release`: the newest. No `share`: stable at once."""

    release: int
    env: str = "prod"
    share: float | None = None
    force: bool = False
    reason: str = ""


class RunEval(msgspec.Struct, forbid_unknown_fields=True):
    """POST /routes/{route}/evals. No `baseline`: what prod points at. `fresh`: ask again what is known already."""

    release: int
    baseline: int | None = None
    fresh: bool = False


class Replay(msgspec.Struct, forbid_unknown_fields=True):
    """POST /requests/{id}/replay."""

    send: bool = False


class Answer(msgspec.Struct, forbid_unknown_fields=True):
    """POST /alerts/{id}/actionable."""

    actionable: bool


async def status(control: Control, request: Request) -> dict[str, Any]:
    """What runs, who holds which table, how the loops fare."""
    del request
    return own_state(control)


async def sign_in_link(control: Control, request: Request) -> dict[str, str]:
    """A one-time token for a person; only for programs, which show the admin token."""
    who(request)
    return {"token": await asyncio.to_thread(control.gate.issue_link)}


async def create_key(control: Control, request: Request) -> dict[str, Any]:
    """A new key, shown this once."""
    asked = await body(request, NewKey)
    return await keys.create(control, asked.name, asked.env, who(request), owner=asked.owner)


async def list_keys(control: Control, request: Request) -> dict[str, Any]:
    """Every key without its secret."""
    del request
    return {"keys": await asyncio.to_thread(keys.every, control)}


async def revoke_key(control: Control, request: Request) -> dict[str, Any]:
    """End a key."""
    return await keys.revoke(control, request.path_params["id"], who(request))


async def create_release(control: Control, request: Request) -> dict[str, Any]:
    """The next release from the app's files."""
    asked = await body(request, NewRelease)
    name = request.path_params["route"]
    edit = Edit(base=asked.base, parts=asked.parts, newest=asked.newest)
    if asked.dry:
        return edits.shown(await edits.draft(control, name, edit))
    return releases.shown(await releases.create(control, name, who(request), asked.notes, edit))


async def list_releases(control: Control, request: Request) -> dict[str, Any]:
    """Releases, pointers and moves of a route."""
    env = request.query_params.get("env") or None
    return await asyncio.to_thread(releases.history, control, request.path_params["route"], env)


async def diff(control: Control, request: Request) -> dict[str, Any]:
    """The 8 parts of two releases."""
    a, b = maybe_whole(request, "a"), maybe_whole(request, "b")
    return await asyncio.to_thread(releases.compare, control, request.path_params["route"], a, b)


async def promote(control: Control, request: Request) -> dict[str, Any]:
    """Make a release stable, or canary for a share."""
    asked = await body(request, Promote)
    order = Promotion(
        env=asked.env,
        release=asked.release,
        actor=who(request),
        reason=asked.reason,
        share=asked.share,
        force=asked.force,
    )
    return await releases.promote(control, request.path_params["route"], order)


async def notes(control: Control, request: Request) -> dict[str, Any]:
    """Release notes."""
    release, env = maybe_whole(request, "release"), request.query_params.get("env", "prod")
    return await asyncio.to_thread(releases.noted, control, request.path_params["route"], release, env)


async def runbook(control: Control, request: Request) -> dict[str, Any]:
    """What to do when the route is in trouble."""
    env = request.query_params.get("env", "prod")
    return await runbooks.show(control, request.path_params["route"], env)


async def list_canaries(control: Control, request: Request) -> dict[str, Any]:
    """Canary runs with what they saw."""
    await control.load()
    env = request.query_params.get("env") or None
    return await asyncio.to_thread(canaries.every, control, request.path_params["route"], env)


async def run_eval(control: Control, request: Request) -> Response:
    """A gate run: NDJSON, progress first, the result last."""
    asked = await body(request, RunEval)
    route_name = request.path_params["route"]
    order = evals.Asked(route=route_name, release=asked.release, baseline=asked.baseline, fresh=asked.fresh)
    return streamed(evals.judge(control, order, who(request)))


async def show_eval(control: Control, request: Request) -> dict[str, Any]:
    """A run with its cases and its verdict."""
    try:
        number = int(request.path_params["id"])
    except ValueError as error:
        raise BadRequest(f"a run's id is a whole number, not {request.path_params['id']!r}") from error
    return await asyncio.to_thread(evals.show, control, number)


async def verify_audit(control: Control, request: Request) -> dict[str, Any]:
    """The change log, checked from its first row."""
    del request
    return await asyncio.to_thread(audit.verify, control)


async def list_changes(control: Control, request: Request) -> dict[str, Any]:
    """The newest changes."""
    name, limit = request.query_params.get("route") or None, maybe_whole(request, "limit") or 50
    return await asyncio.to_thread(audit.newest, control, name, limit)


async def list_rules(control: Control, request: Request) -> dict[str, Any]:
    """Rules in force, where they come from, what is wrong with them."""
    del request
    return await asyncio.to_thread(alerts.in_force, control)


async def save_rule(control: Control, request: Request) -> dict[str, Any]:
    """Save a rule; refused without owner, threshold or action."""
    return await alerts.save(control, await body(request, Rule), who(request))


async def acknowledge(control: Control, request: Request) -> Alert:
    """Somebody has it."""
    return await alerts.acknowledge(control, request.path_params["id"], who(request))


async def answer(control: Control, request: Request) -> Alert:
    """Was it worth it?"""
    asked = await body(request, Answer)
    return await alerts.answer(control, request.path_params["id"], asked.actionable, who(request))


async def review(control: Control, request: Request) -> Review:
    """The review as the renderers take it; `/review.json` is for everybody else."""
    asked = request.query_params
    return await reviews.review(control, asked.get("route", ""), asked.get("env", "prod"))


class SignReview(msgspec.Struct, forbid_unknown_fields=True):
    """POST /routes/{route}/review/sign."""

    reason: str = ""
    env: str = "prod"


async def sign_review(control: Control, request: Request) -> dict[str, Any]:
    """Keep the route's review of now, under a name and with a reason."""
    asked = await body(request, SignReview)
    return await reviews.sign(control, request.path_params["route"], asked.env, who(request), asked.reason)


async def replay(control: Control, request: Request) -> dict[str, Any]:
    """A request made again from its record; `send` sends it once more."""
    asked = await body(request, Replay)
    return await replays.replay(control, request.path_params["id"], who(request), send=asked.send)


class RunDrill(msgspec.Struct, forbid_unknown_fields=True):
    """POST /routes/{route}/drills/{kind}."""

    env: str = "prod"


async def drill(control: Control, request: Request) -> Response:
    """Exercise what is promised; the evidence is kept. NDJSON: what is begun, then the result."""
    asked = await body(request, RunDrill)
    kind, name = request.path_params["kind"], request.path_params["route"]
    return streamed(drills.lines(control, kind, name, asked.env, who(request)))


async def back_up(control: Control, request: Request) -> Response:
    """The state, and what is recorded where asked for, in one file; NDJSON with progress."""
    return streamed(backups.back_up(control, await body(request, backups.BackUp), who(request)))


async def list_hosts(control: Control, request: Request) -> dict[str, Any]:
    """The hosts that share the store."""
    del request
    return await asyncio.to_thread(hosts.every, control)


async def forget_host(control: Control, request: Request) -> dict[str, Any]:
    """Wait no longer for a host that will not come back."""
    return await asyncio.to_thread(hosts.forget, control, request.path_params["host"], who(request))


async def show_retention(control: Control, request: Request) -> dict[str, Any]:
    """How long records stay, what they take on the disk, what was removed."""
    del request
    return await asyncio.to_thread(retention.show, control)


async def apply_retention(control: Control, request: Request) -> dict[str, Any]:
    """Move and remove what is due now."""
    del request
    return await retention.apply(control)


async def export(control: Control, request: Request) -> Response:
    """The recorded rows of a time into files; NDJSON with progress."""
    return streamed(transfers.export(control, await body(request, transfers.Export), who(request)))


async def import_(control: Control, request: Request) -> Response:
    """The files of exports into the store; NDJSON with progress."""
    return streamed(transfers.import_(control, await body(request, transfers.Import), who(request)))


def routes(control: Control) -> list[BaseRoute]:
    """Everything under `/api/v1`."""
    table = (
        ("GET", "/status", status),
        ("POST", "/sign-in-links", sign_in_link),
        ("GET", "/keys", list_keys),
        ("POST", "/keys", create_key),
        ("DELETE", "/keys/{id}", revoke_key),
        ("GET", "/routes/{route}/releases", list_releases),
        ("POST", "/routes/{route}/releases", create_release),
        ("GET", "/routes/{route}/diff", diff),
        ("POST", "/routes/{route}/promote", promote),
        ("GET", "/routes/{route}/notes", notes),
        ("GET", "/routes/{route}/runbook", runbook),
        ("GET", "/routes/{route}/canaries", list_canaries),
        ("POST", "/routes/{route}/evals", run_eval),
        ("GET", "/evals/{id}", show_eval),
        ("GET", "/audit/verify", verify_audit),
        ("GET", "/changes", list_changes),
        ("GET", "/review", review),
        ("POST", "/routes/{route}/review/sign", sign_review),
        ("GET", "/rules", list_rules),
        ("POST", "/rules", save_rule),
        ("POST", "/alerts/{id}/ack", acknowledge),
        ("POST", "/alerts/{id}/actionable", answer),
        ("POST", "/requests/{id}/replay", replay),
        ("POST", "/routes/{route}/drills/{kind}", drill),
        ("GET", "/hosts", list_hosts),
        ("DELETE", "/hosts/{host}", forget_host),
        ("GET", "/retention", show_retention),
        ("POST", "/retention", apply_retention),
        ("POST", "/exports", export),
        ("POST", "/imports", import_),
        *api_changes.TABLE,
        ("POST", "/backups", back_up),
    )
    return [route(control, method, PREFIX + path, handler) for method, path, handler in table]
