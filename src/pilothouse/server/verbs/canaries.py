"""Canary runs as JSON: what they saw, what was decided, and how fast a bad one was gone."""

from collections.abc import Iterable
from typing import Any

import msgspec

from pilothouse.domain.release import CanaryLook, CanaryRun, Rollback
from pilothouse.server import arms
from pilothouse.server.composition import Control
from pilothouse.store.state import canaries, canary_pairs, drills
from pilothouse.store.telemetry import dialect

DRAWN = 5  # runs whose looks are given too
# A bad request: one that failed, or whose first output missed its schema.
_SEEN = f"""SELECT count(*), min(epoch_us(ts)) FILTER (outcome = 'failed' OR (structured AND NOT valid_first))
FROM requests WHERE source = 'edge' AND route = ? AND env = ? AND release = ? AND canary AND ts >= {dialect.at()}
  AND ts < {dialect.at()} AND {arms.OWN}"""  # noqa: S608  # our own fragments


def every(control: Control, route: str, env: str | None) -> dict[str, Any]:
    """The canary runs of a route, newest first."""
    with control.state.read() as conn:
        runs = canaries.list_canaries(conn, route, env)
        taken = drills.list_rollbacks(conn, route, env)
        drawn = {run.id: (canaries.steps(conn, run.id), canaries.looks(conn, run.id)) for run in runs[:DRAWN]}
        asked = {run.id: msgspec.to_builtins(canary_pairs.tally(conn, run.id)) for run in runs}
    shown = [
        _shown(control, run, taken) | _drawn(*drawn.get(run.id, ((), ()))) | {"asked_again": asked[run.id]}
        for run in runs
    ]
    return {"route": route, "canaries": shown}


def _drawn(steps: Iterable[tuple[int, float]], looks: Iterable[CanaryLook]) -> dict[str, Any]:
    """The shares and the evidence over time; empty for all but the newest runs."""
    return {
        "steps": [{"ts_us": ts_us, "share": share} for ts_us, share in steps],
        "looks": [msgspec.to_builtins(look) for look in looks],
    }


def _shown(control: Control, run: CanaryRun, taken: list[Rollback]) -> dict[str, Any]:
    until = control.clock.now_us()
    requests, first_bad = control.telemetry.rows(_SEEN, [run.route, run.env, run.release, run.started_us, until])[0]
    rollback = next((one for one in reversed(taken) if _ended(run, one)), None)
    flip = run.t_flip_us
    return {
        "id": run.id,
        "env": run.env,
        "release": run.release,
        "baseline": run.baseline,
        "state": run.state,
        "started_us": run.started_us,
        "ended_us": run.ended_us,
        "decision": run.evidence.get("sentence") or run.decision,
        "evidence": run.evidence,
        "requests": requests,
        "first_bad_us": first_bad,
        "seconds_to_rollback": None if flip is None or first_bad is None else round((flip - first_bad) / 1e6, 3),
        "t_detect_us": run.t_detect_us,
        "t_decide_us": run.t_decide_us,
        "t_flip_us": flip,
        "t_last_bad_us": run.t_last_bad_us,
        "propagated_ms": rollback.propagated_ms if rollback else None,
        "workers": rollback.workers if rollback else None,
    }


def _ended(run: CanaryRun, rollback: Rollback) -> bool:
    """Whether this rollback is the one that ended the run: the first from its release since it began."""
    return rollback.from_release == run.release and rollback.ts_us >= run.started_us
