"""The pages' JSON twins."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.routing import BaseRoute

from pilothouse.config.quantities import seconds
from pilothouse.domain.clock import Clock
from pilothouse.domain.errors import BadRequest, NotFound
from pilothouse.domain.table import ENVIRONMENTS
from pilothouse.domain.wires import MetricPoint, MetricQuery
from pilothouse.review.render import to_json
from pilothouse.server import reading
from pilothouse.server.composition import Control
from pilothouse.server.endpoints import maybe_whole, route, who
from pilothouse.server.pages.context import WINDOW_S, Window
from pilothouse.server.verbs import alerts, evals, reviews
from pilothouse.server.views import overview as overviews
from pilothouse.server.views import releases, traces
from pilothouse.telemetry import listing
from pilothouse.telemetry.filter import of_address
from pilothouse.telemetry.listing import Asked
from pilothouse.telemetry.metrics import CATALOGUE

DEFAULT_S = 86_400


async def overview(control: Control, request: Request) -> dict[str, Any]:
    """The overview, and how control itself fares."""
    env = request.query_params.get("env", "prod")
    if env not in ENVIRONMENTS:
        raise BadRequest(f"there is no environment {env!r}", hint=f"environments: {', '.join(ENVIRONMENTS)}")
    await control.load()
    found = await asyncio.to_thread(overviews.overview, control, _window(request), env)
    return {**msgspec.structs.asdict(found), "control": own_state(control)}


def _window(request: Request) -> Window:
    asked = request.query_params.get("window", "24h")
    for known in ("1h", "24h", "7d"):
        if asked == known:
            return known
    raise BadRequest(f"there is no window {asked!r}", hint=f"windows: {', '.join(WINDOW_S)}")


def own_state(control: Control) -> dict[str, Any]:
    """Loops, workers and what went wrong, for people who wonder whether the watcher itself is well."""
    return {
        "revision": control.table.revision if control.table else None,
        "workers": control.link.workers() if control.link else [],
        "hosts": control.hosts.known if control.hosts else [],
        "leads": control.hosts.leads if control.hosts else True,
        "loops": list(control.loops.states.values()),
        "task_failures": [f"{type(one).__name__}: {one}" for one in control.tasks.failures],
        "forward": control.forwarded,
        "config_error": control.config_error,
        "gateway": control.listening.gateway,
        "routes": sorted(control.config.routes),
    }


async def list_traces(control: Control, request: Request) -> dict[str, Any]:
    """Requests and traces over OTLP alone, newest first: `q` is the filter."""
    asked = request.query_params
    query = of_address(asked)
    wanted = Asked(
        query=query,
        since_us=moment(asked.get("since", ""), control.clock),
        until_us=moment(asked.get("until", ""), control.clock),
        before=await asyncio.to_thread(traces.cursor, control.telemetry, asked.get("before", "")),
        limit=maybe_whole(request, "limit") or 50,
    )
    await control.load()
    found = await asyncio.to_thread(listing.find, control.telemetry, wanted)
    return {
        "filter": str(query),
        "traces": found.rows,
        "next": found.next,
        "total": found.total,
        "capped": found.capped,
        "facets": found.facets,
        "latency": found.latency,
        "cost": found.cost,
    }


def moment(text: str, clock: Clock) -> int:
    """A time in µs since 1970 from `1h` (that long ago), µs, or ISO 8601; 0 where empty. BadRequest."""
    if not text:
        return 0
    if text.isdigit():
        return int(text)
    try:
        return clock.now_us() - int(seconds(text) * 1_000_000)
    except ValueError:
        pass
    try:
        read = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadRequest(f"{text!r} is not a time", hint="1h, 2026-11-23T14:00:00Z, or µs since 1970") from error
    return int((read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp() * 1_000_000)


async def one_trace(control: Control, request: Request) -> dict[str, Any]:
    """A request (or a trace's first) with its record, payload, and the waterfall of its trace; `payload=no`: without
    the payload, which of a route that is kept in full is not read then.
    """
    ident = request.path_params["id"]
    wanted = request.query_params.get("payload", "") != "no"
    actor = who(request)
    await control.load()

    def find() -> dict[str, Any]:
        found = traces.request(control.telemetry, ident, whole=True)
        if found is None:
            raise NotFound(f"no request or trace {ident!r} is stored")
        own = [found.record.id] if found.record and wanted else []
        return {
            "record": found.record,
            "payload": next(iter(reading.bodies(control, own, actor, "json").values()), None),
            "spans": found.spans,
            "siblings": found.siblings,
            "waterfall": found.waterfall,
            "replay": found.replay,
        }

    return await asyncio.to_thread(find)


async def list_releases(control: Control, request: Request) -> dict[str, Any]:
    """Every route's board, or one's."""
    asked = request.query_params.get("route", "")
    names = [asked] if asked else sorted(control.config.routes)

    def find() -> dict[str, Any]:
        boards = [releases.board(control, name) for name in names]
        if asked and boards[0] is None:
            raise NotFound(f"no route {asked!r}", hint=f"routes: {', '.join(sorted(control.config.routes))}")
        return {"routes": [board for board in boards if board is not None]}

    return await asyncio.to_thread(find)


async def metrics(control: Control, request: Request) -> dict[str, Any]:
    """Every metric of the catalogue (or those named) for a route over a window."""
    asked = request.query_params
    names = [name for name in asked.get("metric", "").split(",") if name] or list(CATALOGUE)
    since = moment(asked.get("since", "") or f"{DEFAULT_S}s", control.clock)
    by = tuple(name for name in asked.get("by", "").split(",") if name)
    await control.load()

    def ask(name: str) -> list[MetricPoint]:
        return control.metrics(
            MetricQuery(
                metric=name,
                route=asked.get("route", ""),
                env=asked.get("env", ""),
                model=asked.get("model", ""),
                release=maybe_whole(request, "release"),
                since_us=since,
                by=by,
                bucket_s=maybe_whole(request, "bucket_s") or 0,
            )
        )

    def all_of() -> dict[str, Any]:
        return {name: {**_definition(name), "points": ask(name)} for name in names}

    return {"route": asked.get("route", ""), "since_us": since, "metrics": await asyncio.to_thread(all_of)}


def _definition(name: str) -> dict[str, Any]:
    definition = CATALOGUE.get(name)
    return {"unit": definition.unit, "formula": definition.formula} if definition else {}


async def review(control: Control, request: Request) -> dict[str, Any]:
    """The review of one route, or of all."""
    made = await reviews.review(control, request.query_params.get("route", ""), request.query_params.get("env", "prod"))
    return to_json(made)


async def list_evals(control: Control, request: Request) -> dict[str, Any]:
    """Eval runs, newest first."""
    return {"runs": await asyncio.to_thread(evals.every, control, request.query_params.get("route") or None)}


async def list_alerts(control: Control, request: Request) -> dict[str, Any]:
    """Alerts, newest first, resolved ones too."""
    name = request.query_params.get("route") or None

    return {"alerts": await asyncio.to_thread(alerts.every, control, (), name)}


def routes(control: Control) -> list[BaseRoute]:
    """Every twin."""
    table = (
        ("/overview.json", overview),
        ("/traces.json", list_traces),
        ("/traces/{id}.json", one_trace),
        ("/releases.json", list_releases),
        ("/metrics.json", metrics),
        ("/review.json", review),
        ("/evals.json", list_evals),
        ("/alerts.json", list_alerts),
    )
    return [route(control, "GET", path, handler) for path, handler in table]
