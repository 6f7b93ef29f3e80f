"""A stage: a route's live release, served in this process, with a scripted provider in the place of each of its own.

Nothing leaves the machine and no pointer moves. Retries, breakers, fallbacks, deadlines and validation are those of the
release; limits and budgets are left out, since an exercise is no traffic. Records stay, with the source `drill`.
"""

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import jsonschema_rs
import msgspec

from pilothouse.config.app import RouteConfig
from pilothouse.domain.errors import Refused
from pilothouse.domain.manifest import Manifest
from pilothouse.domain.record import Record
from pilothouse.domain.table import Live, ProviderEntry
from pilothouse.domain.wires import GenerateRequest, JournalLine
from pilothouse.evals import dataset as datasets
from pilothouse.evals.run import body as case_body
from pilothouse.gateway.pipeline import Gateway
from pilothouse.providers.script import Rule, Script
from pilothouse.providers.scripted import ScriptedProvider
from pilothouse.releases import registry
from pilothouse.server.composition import Control
from pilothouse.server.drills.sample import sample
from pilothouse.server.generating import gateway
from pilothouse.store.state import pointers
from pilothouse.telemetry import read

PLAIN = "This answer was staged."
_NEWEST = """SELECT id FROM requests WHERE source = 'edge' AND route = ? AND status = 200
ORDER BY env = ? DESC, ts DESC LIMIT 20"""


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """What is exercised: the live release, and a request to exercise it with. `asked`: where that comes from."""

    route: RouteConfig
    env: str
    live: Live
    body: dict[str, Any]
    asked: str
    answer: Rule  # a good answer, as a staged provider gives it

    @property
    def manifest(self) -> Manifest:
        """Of the live release."""
        return self.live.manifest


def scene(control: Control, route: str, env: str) -> Scene:
    """Read all that is needed. Refused where the route is not live in `env`, or nothing was ever asked of it."""
    config = control.route(route)
    with control.state.read() as conn:
        pointer = pointers.get(conn, route, env)
    if pointer is None:
        raise Refused(f"{route} is not live in {env}", hint="promote a release first", code="not_live")
    live = registry.release(control.state, route, pointer.stable)
    body, asked = _recorded(control, route, env) or _case(config) or ({}, "")
    if not asked:
        raise Refused(
            f"nothing is known that one could ask {route}",
            hint="send it a request whose payload is kept, or give its gate a dataset",
            code="nothing_to_ask",
        )
    return Scene(route=config, env=env, live=live, body=body, asked=asked, answer=_answer(live.manifest))


def _recorded(control: Control, route: str, env: str) -> tuple[dict[str, Any], str] | None:
    for (ident,) in control.telemetry.rows(_NEWEST, [route, env]):
        kept = read.payload(control.telemetry, ident)
        if kept is None or not kept["request"]:
            continue
        with contextlib.suppress(msgspec.DecodeError):
            body: dict[str, Any] = msgspec.json.decode(kept["request"], type=dict[str, Any])
            if "messages" in body:
                return {k: v for k, v in body.items() if k not in ("stream", "stream_options")}, f"request {ident}"
    return None


def _case(config: RouteConfig) -> tuple[dict[str, Any], str] | None:
    if config.gate is None:
        return None
    first = datasets.load(config.gate.dataset).cases[0]
    return case_body(first, config.name), f"case {first.id}"


def _answer(manifest: Manifest) -> Rule:
    schema = manifest.schema
    if schema is None:
        return Rule(reply=PLAIN)
    value = sample(schema)
    if not jsonschema_rs.is_valid(schema, value):
        raise Refused("no answer could be made that meets the route's schema", where="schema", code="no_sample")
    return Rule(json=value)


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one staged request."""

    outcome: str
    way: str
    error: str
    attempts: int
    ms: float
    text: str
    delivered_invalid: bool


class Stage:
    """A gateway on scripted providers. `ask` sends the scene's request once."""

    def __init__(self, scene_: Scene, gateway: Gateway, records: dict[str, Record]) -> None:
        self._scene = scene_
        self._gateway = gateway
        self._records = records

    async def ask(self, live: Live | None = None) -> Seen:
        """One request; of another release than the scene's where one is given."""
        scene_ = self._scene
        reply = await self._gateway.generate(
            GenerateRequest(
                route=scene_.route.name, env=scene_.env, live=live or scene_.live, body=dict(scene_.body),
                app=scene_.route.app, tier=scene_.route.tier, source="drill",
            )
        )  # fmt: skip
        record = self._records.pop(reply.request_id)
        return Seen(
            outcome=record.outcome,
            way=record.way,
            error=record.error_type,
            attempts=len(record.attempts),
            ms=record.duration_ms,
            text=reply.text,
            delivered_invalid=bool(record.validation and record.validation.delivered_invalid),
        )


@contextlib.asynccontextmanager
async def staged(control: Control, scene_: Scene, scripts: Mapping[str, Script]) -> AsyncIterator[Stage]:
    """A stage on which each provider plays its script; one that has none answers well."""
    good = Script(rules=[scene_.answer])
    table, records = control.current_table(), dict[str, Record]()
    async with contextlib.AsyncExitStack() as stack:
        providers: dict[str, ProviderEntry] = {}
        for name in table.providers:
            server = ScriptedProvider(scripts.get(name, good))
            await server.start()
            stack.push_async_callback(server.close)
            url = f"http://127.0.0.1:{server.port}/v1"
            providers[name] = ProviderEntry(name=name, kind="scripted", base_url=url)

        def seen(line: JournalLine) -> None:
            if isinstance(line, Record):
                records[line.id] = line

        own = msgspec.structs.replace(table, providers=providers, limits=())
        made = await stack.enter_async_context(gateway(control, own, secret=str, seen=seen))
        yield Stage(_unlimited(scene_), made, records)


def _unlimited(scene_: Scene) -> Scene:
    """The scene without limits and cache: each request is asked anew."""
    live, policy = scene_.live, scene_.live.manifest.policy
    free = msgspec.structs.replace(policy, limits=(), cache=None)
    manifest = msgspec.structs.replace(live.manifest, policy=free)
    return msgspec.structs.replace(scene_, live=msgspec.structs.replace(live, manifest=manifest))
