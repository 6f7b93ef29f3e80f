"""The pages' context, filled in: readers and verbs of this control."""

import functools

import pilothouse
from pilothouse.domain.alert import Alert
from pilothouse.domain.change import Actor
from pilothouse.domain.finding import Review
from pilothouse.releases.pointer import Promotion as Order
from pilothouse.review import render
from pilothouse.server.auth import SESSION_S
from pilothouse.server.composition import Control
from pilothouse.server.pages.context import PageContext, PlanStep, Promotion, Return, Session, SignedIn
from pilothouse.server.verbs import alerts, releases, reviews
from pilothouse.server.views import overview, traces
from pilothouse.server.views import releases as boards


def page_context(control: Control) -> PageContext:
    """What the pages work on."""
    return PageContext(
        clock=control.clock,
        version=pilothouse.__version__,
        gateway_url=control.listening.gateway,
        session=functools.partial(_session, control),
        check_csrf=lambda session, shown: control.gate.check_csrf_token(session.csrf, shown),
        sign_in=functools.partial(_sign_in, control),
        sign_out=control.gate.sign_out,
        password_set=control.gate.password_set,
        overview=functools.partial(overview.overview, control),
        list_requests=functools.partial(traces.list_requests, control),
        request=functools.partial(traces.request, control),
        payload=functools.partial(traces.payload, control),
        routes=lambda: tuple(sorted(control.config.routes)),
        releases=functools.partial(boards.board, control),
        manifest=functools.partial(boards.manifest, control),
        plan=functools.partial(_plan, control),
        review=functools.partial(_review, control),
        review_html=render.html,
        alerts=lambda: tuple(alerts.every(control)),
        promote=functools.partial(_promote, control),
        rollback=functools.partial(_rollback, control),
        acknowledge=functools.partial(_acknowledge, control),
        set_actionable=functools.partial(_set_actionable, control),
    )


def _session(control: Control, cookies: dict[str, str]) -> Session | None:
    found = control.gate.session(cookies)
    return Session(actor=found.actor, csrf=found.csrf) if found is not None else None


def _sign_in(control: Control, credential: str) -> SignedIn | None:
    value = control.gate.sign_in(credential)
    return SignedIn(cookie=control.gate.cookie, value=value, max_age_s=SESSION_S) if value is not None else None


def _plan(control: Control, route: str, release: int, env: str) -> tuple[PlanStep, ...]:
    found = releases.planned(control, route, release, env)
    return tuple(
        PlanStep(kind=step["kind"], text=f"{step['text']}: {step['state']}, {step['message']}")
        for step in found["steps"]
    )


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
    return f"{what}, {releases.reach(moved)}."


async def _rollback(control: Control, asked: Return, actor: Actor) -> str:
    moved = await releases.rollback(control, asked.route, asked.env, actor, to=asked.to, reason=asked.reason)
    return f"{asked.route}: release {moved['from']} → {moved['to']} in {asked.env}, {releases.reach(moved)}."


async def _acknowledge(control: Control, ident: str, actor: Actor) -> str:
    alert: Alert = await alerts.acknowledge(control, ident, actor)
    return f"{alert.rule}: acknowledged by {alert.acknowledged_by}."


async def _set_actionable(control: Control, ident: str, actionable: bool, actor: Actor) -> str:
    alert: Alert = await alerts.answer(control, ident, actionable, actor)
    return f"{alert.rule}: noted as {'worth it' if actionable else 'not worth it'}."
