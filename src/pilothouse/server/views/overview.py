"""The overview: a row for each route in one environment, over one window."""

from collections.abc import Mapping
from typing import Literal

from msgspec.structs import replace

from pilothouse.config.route import RouteConfig
from pilothouse.domain.change import ChainedChange
from pilothouse.domain.finding import RouteReview
from pilothouse.domain.release import Pointer
from pilothouse.server.composition import Control
from pilothouse.server.pages.context import BUCKET_S, WINDOW_S, Mark, Overview, RouteOverview, TrafficPoint, Window
from pilothouse.store.state import alerts, changes, pointers
from pilothouse.store.telemetry import dialect
from pilothouse.telemetry import read
from pilothouse.telemetry.read import Traffic

SHOWN_ALERTS = ("pending", "firing", "acknowledged", "no_data")
MarkKind = Literal["promote", "canary", "rollback", "abort", "other"]
_MARKS: dict[str, MarkKind] = {
    "release.promote": "promote",
    "canary.start": "canary",
    "canary.step": "canary",
    "release.rollback": "rollback",
    "release.revert_part": "rollback",
    "release.restore": "rollback",
    "canary.abort": "abort",
    "route.disable": "other",
    "route.enable": "other",
    "model.pin": "other",
    "model.unpin": "other",
    "provider.drift": "other",
    "pointer.refused": "other",
    "flag.set": "other",
    "flag.rollout": "other",
    "flag.rules": "other",
    "flag.enable": "other",
    "flag.disable": "other",
    "flag.reset": "other",
}
_STABLE = ("release.rollback", "release.promote", "release.revert_part", "release.restore")


def overview(control: Control, window: Window, env: str) -> Overview:
    """Every route of the config, and those that still have a pointer, with its traffic."""
    now = control.clock.now_us()
    since, bucket = now - WINDOW_S[window] * 1_000_000, BUCKET_S[window]
    since -= since % (bucket * 1_000_000)
    with control.state.read() as conn:
        points = {pointer.route: pointer for pointer in pointers.every(conn) if pointer.env == env}
        moves = [one for one in changes.find(conn, env=env, actions=tuple(_MARKS), since_us=since) if one.change.route]
        firing = [alert for alert in alerts.list_alerts(conn, states=SHOWN_ALERTS) if alert.env == env]
    traffic = {one.route: one for one in read.traffic(control.telemetry, since, now, bucket, env=env)}
    priced = _priced(control, since, now, env)
    reviews = {one.route: one for one in control.review.routes if one.env == env} if control.review else {}
    names = sorted({*control.config.routes, *points})
    rows = tuple(
        route_row(name, control.config.routes.get(name), points.get(name), traffic.get(name), reviews.get(name), priced)
        for name in names
    )
    return Overview(
        window=window,
        env=env,
        since_us=since,
        until_us=now,
        bucket_s=bucket,
        routes=rows,
        alerts=tuple(firing),
        marks=tuple(mark(change) for change in moves),
    )


def route_row(
    name: str,
    config: RouteConfig | None,
    pointer: Pointer | None,
    traffic: Traffic | None,
    review: RouteReview | None,
    priced: Mapping[str, int],
) -> RouteOverview:
    """One route; what is not known is None."""
    row = RouteOverview(route=name, priced=priced.get(name, 0))
    if config is not None:
        row = replace(row, app=config.app, tier=config.tier, owner=config.owner, backup=config.backup)
    if pointer is not None:
        row = replace(
            row,
            stable=pointer.stable,
            canary=pointer.canary,
            share=pointer.share,
            disabled_reason=(pointer.disabled_reason or "disabled") if pointer.disabled else "",
            pinned_model=pointer.pinned_model,
        )
    if review is not None:
        row = replace(
            row,
            observe=review.observe,
            evaluate=review.evaluate,
            roll_back=review.roll_back,
            ready=review.ready,
            floor=review.floor,
        )
    return row if traffic is None else _with_traffic(row, traffic)


def _with_traffic(row: RouteOverview, traffic: Traffic) -> RouteOverview:
    total = traffic.total
    return replace(
        row,
        requests=total.requests,
        errors=total.errors,
        p95_ms=total.p95,
        cost_usd=total.cost,
        quality=total.valid / total.structured if total.structured else None,
        quality_n=total.structured,
        points=tuple(point(one) for one in traffic.points),
    )


def point(one: read.TrafficPoint) -> TrafficPoint:
    """A bucket as the pages know it."""
    return TrafficPoint(
        ts_us=one.ts_us,
        requests=one.requests,
        errors=one.errors,
        p50_ms=one.p50,
        p95_ms=one.p95,
        cost_usd=one.cost,
        quality=one.valid / one.structured if one.structured else None,
        quality_n=one.structured,
    )


def mark(change: ChainedChange) -> Mark:
    """A change as a mark on the time axis."""
    one = change.change
    before, after = one.detail.get("before") or {}, one.detail.get("after") or {}
    release = one.detail.get("release")
    moved = one.action in _STABLE and before
    text = f"{before.get('stable')} → {after.get('stable')}" if moved else f"release {release}"
    if one.action in ("route.disable", "route.enable", "model.pin", "model.unpin"):
        text = one.action.replace(".", " ")
    if one.action in ("provider.drift", "pointer.refused"):
        text = one.reason
    if one.object_type == "flag":
        text = f"{one.object_id.rpartition('@')[0]}: {one.detail['said']}"
    return Mark(ts_us=change.ts_us, route=one.route, kind=_MARKS[one.action], text=text, actor=str(one.actor))


def _priced(control: Control, since_us: int, until_us: int, env: str) -> dict[str, int]:
    found = control.telemetry.rows(
        f"SELECT route, sum(priced)::BIGINT FROM rollup_minute WHERE source = 'edge' AND env = ? "  # noqa: S608
        f"AND minute >= {dialect.at()} AND minute < {dialect.at()} GROUP BY route",
        [env, since_us, until_us],
    )
    return dict(found)
