"""The watch on providers, wired: what they said they served, from telemetry; pinned questions, once a day."""

import asyncio
from datetime import UTC, datetime

from pilothouse.domain.drift import ProbeDay, Sighting
from pilothouse.domain.errors import PilothouseError
from pilothouse.domain.manifest import Manifest
from pilothouse.domain.model_ref import ModelRef
from pilothouse.domain.table import Live
from pilothouse.domain.wires import GenerateRequest
from pilothouse.gateway.pipeline import Gateway
from pilothouse.releases import drift
from pilothouse.server.composition import Control
from pilothouse.server.generating import generating
from pilothouse.store.state import pointers, releases, sightings
from pilothouse.store.telemetry import dialect

ENV = "prod"
OVERLAP_US = 600 * 1_000_000  # attempts that are loaded late are looked at again
FIRST_US = 7 * 86_400 * 1_000_000  # how far the first look goes back
_SEEN = f"""SELECT provider, model, coalesce(served_model, ''), coalesce(fingerprint, ''), min(epoch_us(ts)),
  max(epoch_us(ts)) FROM attempts
WHERE ts >= {dialect.at()} AND (coalesce(served_model, '') <> '' OR coalesce(fingerprint, '') <> '')
GROUP BY 1, 2, 3, 4"""  # noqa: S608  # our own fragment


async def watch(control: Control) -> None:
    """Keep what providers said of themselves; put the pinned questions to models that were not asked today."""
    await control.load()
    await asyncio.to_thread(look, control)
    if control.config.drift.probes:
        await asyncio.to_thread(ask, control)


def look(control: Control) -> None:
    """What is new in telemetry; a change is in the change log afterwards. Blocking."""
    now = control.clock.now_us()
    with control.state.read() as conn:
        newest = sightings.newest_us(conn)
        users = _users(control)
    since = newest - OVERLAP_US if newest else now - FIRST_US
    rows = control.telemetry.rows(_SEEN, [since])
    seen = [
        Sighting(
            provider=row[0], model=row[1], served_model=row[2], fingerprint=row[3], first_us=row[4], last_us=row[5]
        )
        for row in rows
    ]
    if seen:
        drift.look(control.state, seen, users, control.clock)


def _users(control: Control) -> dict[str, list[str]]:
    """`provider/model` → the routes that production serves by it."""
    users: dict[str, list[str]] = {}
    with control.state.read() as conn:
        for pointer in pointers.every(conn):
            release = releases.get(conn, pointer.route, pointer.stable)
            if pointer.env != ENV or releases.missing(conn, release):
                continue
            model = pointer.pinned_model or str(releases.manifest(conn, release).model)
            users.setdefault(model, []).append(pointer.route)
    return users


def ask(control: Control) -> list[ProbeDay]:
    """The day's questions to every model that serves production and was not asked today. Blocking."""
    now = control.clock.now_us()
    today = datetime.fromtimestamp(now / 1_000_000, UTC).strftime("%Y-%m-%d")
    users = _users(control)
    with control.state.read() as conn:
        due = [
            ref
            for ref in map(ModelRef.parse, users)
            if not any(day.day == today for day in sightings.days(conn, ref.provider, ref.name, 1))
        ]
    if not due:
        return []

    async def through(gateway: Gateway) -> list[dict[str, str]]:
        return [await _answers(gateway, ref, users[str(ref)][0], control.config.drift.probes) for ref in due]

    found = []
    for ref, answers in zip(due, asyncio.run(generating(control, through)), strict=True):
        if not answers:
            continue  # the provider did not answer: that is no drift, and it is asked again in a while
        day = ProbeDay(provider=ref.provider, model=ref.name, day=today, ts_us=now, answers=answers)
        found.append(drift.note_day(control.state, day, users, control.clock)[0])
    return found


async def _answers(gateway: Gateway, model: ModelRef, route: str, n: int) -> dict[str, str]:
    """Question → class of its answer; empty where one was not answered at all."""
    manifest = Manifest(model=model, params={"temperature": 0, "seed": 7, "max_tokens": 24})
    live = Live(release=0, manifest=manifest, parts=manifest.hashes(), hash=manifest.hash())
    found = {}
    for question in drift.QUESTIONS[:n]:
        body = {"messages": [{"role": "user", "content": question}]}
        try:
            reply = await gateway.generate(GenerateRequest(route=route, env=ENV, live=live, body=body, source="eval"))
        except PilothouseError:
            return {}
        if reply.error:
            return {}
        found[question] = drift.answer_class(reply.text)
    return found
