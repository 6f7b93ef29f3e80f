"""Recorded inputs, asked again for a canary: the shadow stage before the first share, and the feed of a canary that
gets little traffic.

It works on what is in the store, after the users have their answers, with a gateway of control's own: no request of a
user waits for it or can fail by it. Its requests are recorded with `source` shadow or replay and the label
`canary_run`, and count nowhere as traffic of users. It spends at most what the route's `canary:` says.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from pilothouse.config.app import RouteConfig
from pilothouse.domain.errors import PilothouseError
from pilothouse.domain.hashing import bytes_hash
from pilothouse.domain.release import CanaryRun
from pilothouse.domain.table import Entry, Live
from pilothouse.domain.wires import Generate, GenerateReply, GenerateRequest
from pilothouse.gateway.pipeline import Gateway
from pilothouse.releases import registry
from pilothouse.releases.shown import Arm
from pilothouse.server import arms, blind, sharing
from pilothouse.server.blind import Answer
from pilothouse.server.composition import Control
from pilothouse.server.generating import generating, require_providers
from pilothouse.store.state import canaries, canary_pairs, pointers
from pilothouse.store.state.canary_pairs import Pair, Tally
from pilothouse.store.telemetry import dialect
from pilothouse.telemetry import read

BATCH = 8  # inputs a look
RECENT_US = 7 * 86_400_000_000  # inputs of this age feed a canary
WINDOW_US = 60_000_000
TIMEOUT_S = 60.0
_INPUTS = f"""SELECT id, outcome, coalesce(valid, true), preview_out FROM requests
WHERE source = 'edge' AND route = ? AND env = ? AND release = ? AND NOT canary AND api = 'chat'
  AND outcome IN ('success', 'fallback', 'degraded', 'failed') AND status <> 499 AND log_mode IN ('full', 'redacted')
  AND {arms.OWN} AND ts >= {dialect.at()} ORDER BY ts DESC LIMIT 2000"""  # noqa: S608  # our own fragments


class Asked(msgspec.Struct, frozen=True):
    """A recorded input and what became of it."""

    id: str
    body: dict[str, Any]
    answer: Answer


async def ask_again(control: Control) -> None:
    """Ask what the running canaries are due. Nothing where their routes say nothing of it."""
    await asyncio.to_thread(_every, control)


def _every(control: Control) -> None:
    with control.state.read() as conn:
        running = [(run, pointers.get(conn, run.route, run.env)) for run in canaries.running(conn)]
    for run, pointer in running:
        route = control.config.routes.get(run.route)
        if route is None or pointer is None or pointer.canary != run.release:
            continue
        if pointer.share == 0:
            _shadow(control, run, route)
        else:
            _feed(control, run, route)


def _shadow(control: Control, run: CanaryRun, route: RouteConfig) -> None:
    policy = route.canary.shadow
    if policy is None:
        return
    due = policy.requests - _tally(control, run).pairs
    if due > 0 and _affordable(control, run, policy.spend_usd):
        found = _inputs(control, run, run.started_us, policy.share)
        _answer(control, run, route, found[:due], spend_usd=policy.spend_usd)


def _feed(control: Control, run: CanaryRun, route: RouteConfig) -> None:
    policy = route.canary.replay
    if policy is None:
        return
    if not _affordable(control, run, policy.spend_usd):
        control.fed_out[run.id] = f"recorded inputs are asked for {policy.spend_usd:g} USD at most"
        return
    now_us = control.clock.now_us()
    last = Arm(
        route=run.route, env=run.env, release=run.release, canary=True, since_us=now_us - WINDOW_US, run=run.id
    )  # fmt: skip
    seen = arms.counts(control.telemetry, last).requests + sharing.recent_elsewhere(control, run.id)
    due = int(policy.per_minute) - seen
    if due > 0:
        found = _inputs(control, run, now_us - RECENT_US, 1.0)
        control.fed_out[run.id] = "" if found else "every recorded input has been asked"
        _answer(control, run, route, found[:due], spend_usd=policy.spend_usd)


def _tally(control: Control, run: CanaryRun) -> Tally:
    with control.state.read() as conn:
        return canary_pairs.tally(conn, run.id)


def _affordable(control: Control, run: CanaryRun, spend_usd: float) -> bool:
    """Whether one more of the dearest kind fits. What has no price cannot be held to a cap: one is asked, no more."""
    tally = _tally(control, run)
    return tally.unknown == 0 and tally.spent + tally.dearest <= spend_usd


def _inputs(control: Control, run: CanaryRun, since_us: int, share: float) -> list[Asked]:
    """The newest inputs of the stable release that were not asked yet, with their answers; at most `BATCH`."""
    with control.state.read() as conn:
        done = {pair.request_id for pair in canary_pairs.of_run(conn, run.id)}
    found: list[Asked] = []
    for ident, outcome, valid, preview in control.telemetry.rows(
        _INPUTS, [run.route, run.env, run.baseline, since_us]
    ):  # fmt: skip
        if ident in done or not _drawn(ident, share):
            continue
        kept = read.payload(control.telemetry, ident)
        body = _body(kept["request"]) if kept and kept["request"] else None
        if kept is None or body is None:
            continue
        text = blind.text_of(kept["response"]) or preview or ""
        found.append(Asked(ident, body, Answer(text=text, usable=outcome != "failed" and bool(valid))))
        if len(found) == BATCH:
            break
    return found


def _drawn(ident: str, share: float) -> bool:
    """Whether a request is among the share that is asked; the same answer always."""
    return int(bytes_hash(ident.encode())[:8], 16) < share * 2**32


def _body(text: str) -> dict[str, Any] | None:
    try:
        body = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return None
    if not isinstance(body, dict):
        return None
    body.pop("stream", None)
    body.pop("stream_options", None)
    return body


def _answer(control: Control, run: CanaryRun, route: RouteConfig, inputs: Sequence[Asked], *, spend_usd: float) -> None:
    """Ask each while it is affordable, compare where it is the shadow stage, and keep what came of it."""
    table = control.current_table()
    entry = table.entry(run.route, run.env)
    if not inputs or entry is None or entry.canary is None:
        return
    shadow = entry.share == 0
    candidate = registry.release(control.state, run.route, run.release)
    judge = table.entry(route.canary.shadow.judge, run.env) if shadow and route.canary.shadow is not None else None
    require_providers(control, [candidate, *([judge.stable] if judge is not None else [])])

    async def through(gateway: Gateway) -> None:
        for asked in inputs:
            if not _affordable(control, run, spend_usd):
                return
            pair = await _one(gateway.generate, run, entry, asked, judge=judge, shadow=shadow)
            with control.state.write() as conn:
                canary_pairs.add(conn, run.id, pair)

    asyncio.run(generating(control, through))


async def _one(
    generate: Generate, run: CanaryRun, entry: Entry, asked: Asked, *, judge: Entry | None, shadow: bool
) -> Pair:
    """An input to the candidate, and to the stable release beside it where it is fed."""

    def request(live: Live, canary: bool) -> GenerateRequest:
        return GenerateRequest(
            route=entry.route,
            env=entry.env,
            live=live,
            body=asked.body,
            app=entry.app,
            tier=entry.tier,
            source="shadow" if shadow else "replay",
            canary=canary,
            labels={arms.RUN: str(run.id), "again": asked.id},
        )

    replies: list[GenerateReply] = []
    assert entry.canary is not None  # noqa: S101  # the caller asked
    try:
        async with asyncio.timeout(TIMEOUT_S):
            replies.append(await generate(request(entry.canary, True)))
            if not shadow:
                replies.append(await generate(request(entry.stable, False)))
                return Pair(request_id=asked.id, answer_id=replies[0].request_id, cost_usd=_cost(replies))
            found = await blind.compare(generate, asked.body, asked.answer, _said(replies[0], entry), judge)
            replies += found.asked
            return Pair(
                request_id=asked.id,
                answer_id=replies[0].request_id,
                winner=found.winner,
                detail=found.detail,
                cost_usd=_cost(replies),
            )
    except TimeoutError:
        return Pair(request_id=asked.id, detail=f"no answer within {TIMEOUT_S:g} s", cost_usd=_cost(replies))
    except PilothouseError as error:
        return Pair(request_id=asked.id, detail=str(error), cost_usd=_cost(replies))


def _said(reply: GenerateReply, entry: Entry) -> Answer:
    usable = not reply.error and reply.outcome != "failed"
    assert entry.canary is not None  # noqa: S101  # the caller asked
    return Answer(text=reply.text, usable=usable and blind.fits(reply.text, entry.canary.manifest))


def _cost(replies: Sequence[GenerateReply]) -> float | None:
    """USD of all; None where one is unknown. What failed before it was asked costs nothing."""
    costs = [reply.cost_usd for reply in replies if not (reply.error and reply.cost_usd is None)]
    known = [cost for cost in costs if cost is not None]
    return sum(known) if len(known) == len(costs) else None
