"""The pages' context, filled in: readers and verbs of this control."""

import functools
from typing import Any

import msgspec

import pilothouse
from pilothouse.domain.alert import Alert
from pilothouse.domain.change import Actor
from pilothouse.domain.finding import Review
from pilothouse.releases.pointer import Promotion as Order
from pilothouse.review import render
from pilothouse.server import reading
from pilothouse.server.auth import SESSION_S
from pilothouse.server.composition import Control
from pilothouse.server.pages.context import (
    PageContext,
    Promotion,
    Replayed,
    Return,
    SavedView,
    Session,
    SignedIn,
)
from pilothouse.server.reach import reach
from pilothouse.server.verbs import alerts, releases, reverts, reviews, runbooks
from pilothouse.server.verbs import replay as replays
from pilothouse.server.views import flags, overview, plans, traces
from pilothouse.server.views import releases as boards
from pilothouse.store.state import views
from pilothouse.telemetry import listing, sessions, steps


def page_context(control: Control) -> PageContext:
    """What the pages work on."""
    return PageContext(
        clock=control.clock,
        tasks=control.tasks,
        version=pilothouse.__version__,
        gateway_url=control.listening.gateway,
        session=functools.partial(_session, control),
        check_csrf=lambda session, shown: control.gate.check_csrf_token(session.csrf, shown),
        sign_in=functools.partial(_sign_in, control),
        sign_out=control.gate.sign_out,
        password_set=control.gate.password_set,
        overview=functools.partial(overview.overview, control),
        **_telemetry(control),
        routes=lambda: tuple(sorted(control.config.routes)),
        releases=functools.partial(boards.board, control),
        releases_now=functools.partial(boards.now, control),
        manifest=functools.partial(boards.manifest, control),
        runbook=functools.partial(runbooks.markdown, control),
        review=functools.partial(_review, control),
        review_html=render.html,
        alerts=lambda: tuple(alerts.every(control)),
        flags=flags.pages(control),
        plans=plans.pages(control),
        promote=functools.partial(_promote, control),
        rollback=functools.partial(_rollback, control),
        acknowledge=functools.partial(_acknowledge, control),
        set_actionable=functools.partial(_set_actionable, control),
        replay=functools.partial(_replay, control),
        views=lambda person: _views(control, person),
        save_view=functools.partial(_save_view, control),
        drop_view=functools.partial(_drop_view, control),
    )


def _telemetry(control: Control) -> dict[str, Any]:
    """The readers of traces."""
    trees = traces.Trees(control.telemetry, control.clock)
    return {
        "list_traces": functools.partial(listing.find, control.telemetry),
        "values": functools.partial(listing.values, control.telemetry),
        "fresh": functools.partial(listing.fresh, control.telemetry),
        "trace": trees.detail,
        "tree": trees.tree,
        "span": functools.partial(steps.span, control.telemetry),
        "people": lambda by, since_us, typed: sessions.people(control.telemetry, by, since_us, typed=typed),
        "turns": functools.partial(sessions.turns, control.telemetry),
        "payloads": lambda owners, actor: reading.bodies(control, owners, actor, "page"),
    }


def _views(control: Control, person: str) -> tuple[SavedView, ...]:
    with control.state.read() as conn:
        return tuple(SavedView(**msgspec.structs.asdict(one)) for one in views.visible(conn, person))


async def _save_view(control: Control, view: SavedView, actor: Actor) -> str:
    view = msgspec.structs.replace(view, name=control.typed(view.name), filter=control.typed(view.filter))
    with control.state.write() as conn:
        views.put(conn, views.View(**msgspec.structs.asdict(view)), actor=actor, clock=control.clock)
    return f"{view.name} is saved for {'you' if view.owner else 'everybody'}."


async def _drop_view(control: Control, view: SavedView, actor: Actor) -> str:
    with control.state.write() as conn:
        views.drop(conn, view.name, view.owner, actor=actor, clock=control.clock)
    return f"{view.name} is gone."


async def _replay(control: Control, ident: str, send: bool, actor: Actor) -> Replayed:
    told = await replays.replay(control, ident, actor, send=send)
    made = Replayed(
        same=told["same"], hash=told["hash"], recorded_hash=told["recorded_hash"], redacted=told["redacted"]
    )
    if told["reply"] is None:
        return made
    again = msgspec.structs.asdict(told["reply"])
    names = ("text", "error", "request_id", "duration_ms", "cost_usd")
    return msgspec.structs.replace(made, sent=True, **{name: again[name] for name in names})


def _session(control: Control, cookies: dict[str, str]) -> Session | None:
    found = control.gate.session(cookies)
    return Session(actor=found.actor, csrf=found.csrf) if found is not None else None


def _sign_in(control: Control, credential: str) -> SignedIn | None:
    value = control.gate.sign_in(credential)
    return SignedIn(cookie=control.gate.cookie, value=value, max_age_s=SESSION_S) if value is not None else None


def _review(control: Control, route: str) -> Review:
    """The page's review. It is read in a worker thread, where the loader's own loop has just been."""
    routes = [control.route(route)] if route else list(control.config.routes.values())
    made = reviews.compute(control, routes, "prod")
    if not route:
        control.review = made
    return made


async def _promote(control: Control, asked: Promotion, actor: Actor) -> str:
    share = asked.share if asked.share < 1.0 else None
    order = Order(
        env=asked.env, release=asked.release, actor=actor, reason=asked.reason, share=share, force=asked.force
    )
    moved = await releases.promote(control, asked.route, order)
    what = f"Release {moved['to']} is the canary in {asked.env} for {share:.0%} of sessions" if share else (
        f"Release {moved['to']} serves {asked.env}"
    )  # fmt: skip
    return f"{what}, {reach(moved)}."


async def _rollback(control: Control, asked: Return, actor: Actor) -> str:
    if asked.part:
        return await _revert(control, asked, actor)
    moved = await releases.rollback(control, asked.route, asked.env, actor, to=asked.to, reason=asked.reason)
    return f"{asked.route}: release {moved['from']} → {moved['to']} in {asked.env}, {reach(moved)}."


async def _revert(control: Control, asked: Return, actor: Actor) -> str:
    order = reverts.Order(
        route=asked.route, env=asked.env, part=asked.part, to=asked.to, reason=asked.reason, force=asked.force
    )
    moved = await reverts.revert(control, order, actor)
    what = f"{asked.part} alone is as in release {moved['source']}: release {moved['release']} serves {asked.env}"
    return f"{asked.route}: {what}, {reach(moved)}; {moved['verified']['sentence']}."


async def _acknowledge(control: Control, ident: str, actor: Actor) -> str:
    alert: Alert = await alerts.acknowledge(control, ident, actor)
    return f"{alert.rule}: acknowledged by {alert.acknowledged_by}."


async def _set_actionable(control: Control, ident: str, actionable: bool, actor: Actor) -> str:
    alert: Alert = await alerts.answer(control, ident, actionable, actor)
    return f"{alert.rule}: noted as {'worth it' if actionable else 'not worth it'}."
