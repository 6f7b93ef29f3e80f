"""One part alone taken back: the mixed release is tried on recorded inputs before it serves anybody."""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from pilothouse.domain.change import Actor
from pilothouse.domain.errors import PilothouseError, Refused
from pilothouse.domain.table import Live
from pilothouse.domain.wires import GenerateReply, GenerateRequest
from pilothouse.gateway.pipeline import Gateway
from pilothouse.gateway.replay import again
from pilothouse.releases import mixed
from pilothouse.releases.mixed import Mixed
from pilothouse.server import timing
from pilothouse.server.composition import Control
from pilothouse.server.generating import generating, require_providers
from pilothouse.server.verbs.releases import settled
from pilothouse.telemetry import callers

INPUTS = 20  # newest recorded inputs that must render
SENT = 3  # newest of them that are sent to the model, and whose answers must be valid
SEND_S = 30.0  # for all of them together
WINDOW_US = 7 * 86_400 * 1_000_000


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """Take `part` back in `env`: to what it is in release `to`, or was before. `force`: also where nothing is recorded
    to try it on; needs a reason."""

    route: str
    env: str
    part: str
    to: int | None = None
    reason: str = ""
    force: bool = False


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """What recorded inputs have shown of a manifest. `failures`: why one did not render or its answer was not valid."""

    inputs: int
    rendered: int
    sent: int
    valid: int
    failures: tuple[str, ...] = ()
    unsent: str = ""  # why none was sent

    @property
    def ok(self) -> bool:
        """All that was tried has passed, and something was."""
        return self.inputs > 0 and not self.failures

    @property
    def sentence(self) -> str:
        """The numbers in one line."""
        if not self.inputs:
            return "no recorded input to try it on"
        sent = f"{self.valid} of {self.sent} sent anew are valid" if self.sent else f"none sent anew: {self.unsent}"
        return f"{self.rendered} of {self.inputs} recorded inputs render, {sent}"


async def revert(control: Control, order: Order, actor: Actor) -> dict[str, Any]:
    """Serve the mixed release on every worker when this returns; Refused (`not_verified`) where its trial fails."""
    began, decided_us = control.clock.monotonic(), control.clock.now_us()
    order = msgspec.structs.replace(order, reason=control.typed(order.reason))
    await control.load()
    made = await asyncio.to_thread(mixed.compose, control.state, order.route, order.env, order.part, order.to)
    shown = await asyncio.to_thread(verify, control, made)
    _admit(order, made, shown)
    moved, release = await asyncio.to_thread(
        mixed.revert,
        control.state,
        made,
        actor=actor,
        reason=order.reason,
        verified=shown.sentence,
        clock=control.clock,
    )
    told = await settled(control, moved, began)
    await timing.note(control, moved, decided_us)
    return {
        **told,
        "part": order.part,
        "source": made.source,
        "release": release.number,
        "made": not made.exists,
        "verified": msgspec.structs.asdict(shown) | {"sentence": shown.sentence},
    }


def _admit(order: Order, made: Mixed, shown: Verified) -> None:
    if shown.ok:
        return
    if not shown.inputs and order.force and order.reason.strip():
        return
    hint = "see `pilothouse release diff`; to go back whole: pilothouse rollback " + order.route
    if not shown.inputs:
        hint = "with --force and --reason it is done untried"
    why = "; ".join(shown.failures[:3]) or shown.sentence
    raise Refused(f"{made.notes} is not served: {why}", where=order.env, hint=hint, code="not_verified")


def verify(control: Control, made: Mixed) -> Verified:
    """Render the newest recorded inputs on the mixed manifest, and send some of them; nothing else moves. Blocking."""
    pointer = made.pointer
    since_us = control.clock.now_us() - WINDOW_US
    found = callers.recorded(control.telemetry, pointer.route, pointer.env, since_us, INPUTS)
    inputs = [(row, request) for row, request, _ in found if not row["inline"]]
    failures = [why for row, request in inputs if (why := _renders(made.live, pointer.route, row, request))]
    rendered = len(inputs) - len(failures)
    bodies = [msgspec.json.decode(request) for row, request in inputs if row["api"] == "chat"][:SENT]
    if failures or not bodies:
        unsent = "they do not render" if failures else "none is of the chat API"
        return Verified(inputs=len(inputs), rendered=rendered, sent=0, valid=0, failures=tuple(failures), unsent=unsent)
    try:
        require_providers(control, [made.live])
    except Refused as refused:
        return Verified(inputs=len(inputs), rendered=rendered, sent=0, valid=0, unsent=refused.what)
    replies = _send(control, made, bodies)
    bad = tuple(f"an answer is not valid: {why}" for why in replies if why)
    return Verified(inputs=len(inputs), rendered=rendered, sent=len(bodies), valid=len(bodies) - len(bad), failures=bad)


def _renders(live: Live, route: str, row: dict[str, Any], request: str) -> str:
    """Why an input cannot be rendered; empty where it can."""
    try:
        again(request, live, route, row["api"])
    except PilothouseError as error:
        return f"request {row['id']} does not render: {error.what}"
    return ""


def _send(control: Control, made: Mixed, bodies: Sequence[dict[str, Any]]) -> list[str]:
    """Each input through the edge's own pipeline on the mixed release; why it failed, empty where it did not."""
    pointer = made.pointer
    config = control.config.routes.get(pointer.route)

    async def one(gateway: Gateway, body: dict[str, Any]) -> str:
        request = GenerateRequest(
            route=pointer.route,
            env=pointer.env,
            live=made.live,
            body={name: value for name, value in body.items() if name not in ("stream", "stream_options")},
            app=config.app if config else "",
            tier=config.tier if config else "standard",
            source="replay",
        )
        reply: GenerateReply = await gateway.generate(request)
        # A static answer in the model's place proves nothing of the release.
        return reply.error or ("" if reply.outcome in ("success", "fallback") else f"outcome {reply.outcome}")

    async def through(gateway: Gateway) -> list[str]:
        try:
            async with asyncio.timeout(SEND_S):
                return list(await asyncio.gather(*(one(gateway, body) for body in bodies)))
        except TimeoutError:
            return [f"no answer within {SEND_S:g} s"] * len(bodies)

    return asyncio.run(generating(control, through))
