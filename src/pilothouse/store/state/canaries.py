"""Canary runs: from the first share to promotion or abort."""

from typing import Any

from sqlalchemy import Connection, RowMapping, insert, select, update

from pilothouse.domain.clock import Clock
from pilothouse.domain.hashing import canonical
from pilothouse.domain.release import CanaryRun, Pointer
from pilothouse.store.state.rows import as_struct
from pilothouse.store.state.tables import canary_runs


def start(conn: Connection, pointer: Pointer, clock: Clock) -> int:
    """Open the run of the canary that `pointer` has just been given; its id."""
    now = clock.now_us()
    values = {
        "route": pointer.route,
        "env": pointer.env,
        "release": pointer.canary,
        "baseline": pointer.stable,
        "state": "running",
        "started_us": now,
        "stepped_us": now,
    }
    key = conn.execute(insert(canary_runs).values(values)).inserted_primary_key
    return int(key[0]) if key else 0


def running(conn: Connection, route: str | None = None, env: str | None = None) -> list[CanaryRun]:
    """The canaries that run now, oldest first."""
    query = select(canary_runs).where(canary_runs.c.state == "running").order_by(canary_runs.c.id)
    if route is not None:
        query = query.where(canary_runs.c.route == route)
    if env is not None:
        query = query.where(canary_runs.c.env == env)
    return [_run(row) for row in conn.execute(query).mappings()]


def list_canaries(conn: Connection, route: str, env: str | None = None, limit: int = 50) -> list[CanaryRun]:
    """Canary runs of a route, newest first."""
    query = select(canary_runs).where(canary_runs.c.route == route).order_by(canary_runs.c.id.desc()).limit(limit)
    if env is not None:
        query = query.where(canary_runs.c.env == env)
    return [_run(row) for row in conn.execute(query).mappings()]


def decided(conn: Connection, run_id: int, decision: str, evidence: dict[str, Any]) -> None:
    """Note the last word on a running canary and the numbers it rests on."""
    values = {"decision": decision, "evidence": canonical(evidence).decode()}
    conn.execute(update(canary_runs).where(canary_runs.c.id == run_id).values(values))


def stepped(conn: Connection, route: str, env: str, clock: Clock) -> None:
    """The share of the running canary has changed: what comes now is judged for that share."""
    where = (canary_runs.c.route == route, canary_runs.c.env == env, canary_runs.c.state == "running")
    conn.execute(update(canary_runs).where(*where).values(stepped_us=clock.now_us(), decision=""))


def end(conn: Connection, route: str, env: str, state: str, clock: Clock) -> None:
    """Close the running canary as `promoted`, `aborted` or `superseded`."""
    where = (canary_runs.c.route == route, canary_runs.c.env == env, canary_runs.c.state == "running")
    conn.execute(update(canary_runs).where(*where).values(state=state, ended_us=clock.now_us()))


def timed(conn: Connection, run_id: int, *, detect_us: int, decide_us: int, flip_us: int) -> None:
    """Note when the deciding evidence was read, when the decision fell, and when the pointer had moved."""
    values = {"t_detect_us": detect_us, "t_decide_us": decide_us, "t_flip_us": flip_us}
    conn.execute(update(canary_runs).where(canary_runs.c.id == run_id).values(values))


def last_bad(conn: Connection, run_id: int, ts_us: int) -> None:
    """Note when the last request on the aborted release began; known once the workers have acknowledged."""
    conn.execute(update(canary_runs).where(canary_runs.c.id == run_id).values(t_last_bad_us=ts_us))


def _run(row: RowMapping) -> CanaryRun:
    return as_struct(row, CanaryRun, json=("evidence",))
