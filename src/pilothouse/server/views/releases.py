"""The releases page: pointers, history, lanes over time, the live canary as evidence."""

from typing import Any, Literal

import msgspec
from sqlalchemy import Connection

from pilothouse.config.route import RouteConfig
from pilothouse.domain.manifest import Manifest
from pilothouse.domain.release import CanaryRun, Pointer, Release
from pilothouse.releases import history
from pilothouse.releases.history import Move
from pilothouse.server.composition import Control
from pilothouse.server.pages.context import (
    BUCKET_S,
    WINDOW_S,
    CanaryState,
    LaneSpan,
    PointerState,
    ReleaseBoard,
    ReleaseNow,
    ReleaseRow,
    Window,
)
from pilothouse.server.views import canaries as drawn
from pilothouse.server.views.overview import point
from pilothouse.store.state import canaries, changes, pointers, releases, runs
from pilothouse.telemetry import read

WINDOWS: tuple[Window, ...] = ("1h", "24h", "7d")
Ended = Literal["", "promoted", "rolled_back", "aborted", "replaced"]


def board(control: Control, route: str) -> ReleaseBoard | None:
    """All that the page shows of a route; None where neither config nor store knows it."""
    now_us = control.clock.now_us()
    config = control.config.routes.get(route)
    with control.state.read() as conn:
        found = releases.of_route(conn, route)
        if config is None and not found:
            return None
        moves = history.moves(conn, route)
        standing = _now(conn, route, config, moves)
        log = changes.find(conn, route=route, limit=200)[::-1]
        rows = tuple(_row(conn, found, index) for index in range(len(found)))
        practised = drawn.practised(conn, route)
    window = _window(moves, now_us)
    since, bucket_s = now_us - WINDOW_S[window] * 1_000_000, BUCKET_S[window]
    traffic = read.traffic(control.telemetry, since, now_us, bucket_s, route=route, env="prod")
    return ReleaseBoard(
        **msgspec.structs.asdict(standing),
        since_us=since,
        until_us=now_us,
        releases=rows,
        lanes=lanes(moves, since),
        points=tuple(point(one) for one in traffic[0].points) if traffic else (),
        history=tuple(log),
        bucket_s=bucket_s,
        drills=practised,
    )


def now(control: Control, route: str) -> ReleaseNow | None:
    """Its pointers and its canaries alone; None where neither config nor store knows it."""
    config = control.config.routes.get(route)
    with control.state.read() as conn:
        if config is None and releases.latest(conn, route) is None:
            return None
        return _now(conn, route, config, history.moves(conn, route))


def _now(conn: Connection, route: str, config: RouteConfig | None, moves: list[Move]) -> ReleaseNow:
    return ReleaseNow(
        route=route,
        owner=config.owner if config else "",
        pointers=tuple(_pointer(conn, one, moves) for one in pointers.every(conn, route)),
        canaries=drawn.shown(conn, route),
    )


def _window(moves: list[Move], now_us: int) -> Window:
    """The shortest window that holds every move, so that a young route's lanes are not a sliver at the edge."""
    age_s = (now_us - min((move.ts_us for move in moves), default=now_us)) / 1_000_000
    return next((window for window in WINDOWS if age_s < WINDOW_S[window]), WINDOWS[-1])


def _row(conn: Connection, found: list[Release], index: int) -> ReleaseRow:
    release = found[index]
    before = found[index + 1].parts if index + 1 < len(found) else {}
    judged = runs.verdict(conn, release.route, release.number)
    return ReleaseRow(
        number=release.number,
        created_us=release.created_us,
        author=release.author,
        notes=release.notes,
        vcs=release.vcs_commit + ("-dirty" if release.vcs_dirty else ""),
        hash=release.manifest_hash,
        changed=tuple(part for part, address in release.parts.items() if before.get(part) != address),
        verdict=judged.verdict if judged else None,
    )


def _pointer(conn: Connection, pointer: Pointer, moves: list[Move]) -> PointerState:
    mine = [move for move in moves if move.env == pointer.env]
    target = history.target(conn, pointer)
    began = next((m.ts_us for m in reversed(mine) if m.before is None or m.before.stable != pointer.stable), 0)
    running = canaries.running(conn, pointer.route, pointer.env)
    return PointerState(
        env=pointer.env,
        stable=pointer.stable,
        since_us=began,
        previous=target.target,
        canary=_canary(pointer, running[-1] if running else None),
        disabled_reason=(pointer.disabled_reason or "disabled") if pointer.disabled else "",
        pinned_model=pointer.pinned_model,
    )


def _canary(pointer: Pointer, run: CanaryRun | None) -> CanaryState | None:
    if pointer.canary is None:
        return None
    evidence: dict[str, Any] = run.evidence if run else {}
    return CanaryState(
        release=pointer.canary,
        share=pointer.share,
        since_us=pointer.canary_started_us,
        n=max((int(one["n"]) for one in evidence.get("guardrails", ())), default=0),
    )


def lanes(moves: list[Move], since_us: int) -> tuple[LaneSpan, ...]:
    """Stretches of time in which each environment named a release, those that reach into the window."""
    spans: list[LaneSpan] = []
    for env in sorted({move.env for move in moves}):
        mine = [move for move in moves if move.env == env]
        spans += [*_lane(mine, env, "stable"), *_lane(mine, env, "canary")]
    return tuple(span for span in spans if span.to_us is None or span.to_us >= since_us)


def _lane(moves: list[Move], env: str, kind: Literal["stable", "canary"]) -> list[LaneSpan]:
    spans: list[LaneSpan] = []
    release: int | None = None
    began = 0
    for move in moves:
        names = getattr(move.after, kind)
        if names == release:
            continue
        if release is not None:
            spans.append(
                LaneSpan(env=env, release=release, kind=kind, from_us=began, to_us=move.ts_us, ended=_end(move, kind))
            )
        release, began = names, move.ts_us
    if release is not None:
        spans.append(LaneSpan(env=env, release=release, kind=kind, from_us=began, to_us=None))
    return spans


def _end(move: Move, kind: str) -> Ended:
    if move.action in (history.ROLLBACK, history.REVERT, history.RESTORE):
        return "rolled_back"
    if move.action == "canary.abort":
        return "aborted"
    if kind == "canary" and move.before is not None and move.after.stable == move.before.canary:
        return "promoted"
    return "replaced"


def manifest(control: Control, route: str, number: int) -> Manifest | None:
    """The manifest of a release; None where there is none."""
    with control.state.read() as conn:
        found = [one for one in releases.of_route(conn, route) if one.number == number]
        return releases.manifest(conn, found[0]) if found else None
