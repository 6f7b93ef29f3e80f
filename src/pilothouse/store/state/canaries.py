"""Canary runs: from the first share to promotion or abort."""

from typing import Any

import msgspec
from sqlalchemy import Connection, RowMapping, delete, func, insert, select, update

from pilothouse.domain.clock import Clock
from pilothouse.domain.hashing import canonical
from pilothouse.domain.release import CanaryLook, CanaryRun, Pointer
from pilothouse.store.state.rows import as_struct
from pilothouse.store.state.tables import canary_looks, canary_runs, canary_steps, pointers

LOOKS = 240  # of a run at most: with more, every second of the older ones goes


def start(conn: Connection, pointer: Pointer, clock: Clock, revision: int = 0) -> int:
    """Open the run of the canary that `pointer` has just been given; its id. `revision`: of the table that has it."""
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
    run_id = int(key[0]) if key else 0
    _step(conn, run_id, now, pointer.share, revision)
    return run_id


def _step(conn: Connection, run_id: int, now_us: int, share: float, revision: int) -> None:
    mine = (canary_steps.c.run_id == run_id, canary_steps.c.ts_us == now_us)
    conn.execute(delete(canary_steps).where(*mine))  # two moves within a microsecond: the later one stands
    conn.execute(insert(canary_steps).values(run_id=run_id, ts_us=now_us, share=share, revision=revision))


def steps(conn: Connection, run_id: int) -> list[tuple[int, float]]:
    """(when it began, share) of each share of a run, oldest first."""
    query = select(canary_steps.c.ts_us, canary_steps.c.share).where(canary_steps.c.run_id == run_id)
    return [(row.ts_us, row.share) for row in conn.execute(query.order_by(canary_steps.c.ts_us))]


def tables(conn: Connection, run_id: int) -> list[tuple[int, int]]:
    """(when it began, revision of the first table that had it) of each share, oldest first; 0: not known."""
    query = select(canary_steps.c.ts_us, canary_steps.c.revision).where(canary_steps.c.run_id == run_id)
    return [(row.ts_us, row.revision) for row in conn.execute(query.order_by(canary_steps.c.ts_us))]


def looked(conn: Connection, run_id: int, look: CanaryLook) -> None:
    """Keep what a look saw. Where there are too many, every second one goes, the newest stays."""
    mine = canary_looks.c.run_id == run_id
    conn.execute(delete(canary_looks).where(mine, canary_looks.c.ts_us == look.ts_us))
    text = canonical({name: value for name, value in msgspec.structs.asdict(look).items() if name != "ts_us"}).decode()
    conn.execute(insert(canary_looks).values(run_id=run_id, ts_us=look.ts_us, look=text))
    times = [row.ts_us for row in conn.execute(select(canary_looks.c.ts_us).where(mine).order_by(canary_looks.c.ts_us))]
    if len(times) > LOOKS:
        conn.execute(delete(canary_looks).where(mine, canary_looks.c.ts_us.in_(times[1:-1:2])))


def looks(conn: Connection, run_id: int) -> list[CanaryLook]:
    """What the looks at a run saw, oldest first; the older, the further apart."""
    query = select(canary_looks).where(canary_looks.c.run_id == run_id).order_by(canary_looks.c.ts_us)
    found = [(row["ts_us"], msgspec.json.decode(row["look"])) for row in conn.execute(query).mappings()]
    return [msgspec.convert({"ts_us": ts_us, **look}, CanaryLook) for ts_us, look in found]


def last_look_us(conn: Connection, run_id: int) -> int:
    """When the newest kept look was; 0: never."""
    query = select(func.max(canary_looks.c.ts_us)).where(canary_looks.c.run_id == run_id)
    return int(conn.execute(query).scalar() or 0)


def running(conn: Connection, route: str | None = None, env: str | None = None) -> list[CanaryRun]:
    """The canaries that run now, oldest first."""
    query = select(canary_runs).where(canary_runs.c.state == "running").order_by(canary_runs.c.id)
    if route is not None:
        query = query.where(canary_runs.c.route == route)
    if env is not None:
        query = query.where(canary_runs.c.env == env)
    return [_run(row) for row in conn.execute(query).mappings()]


def recent(conn: Connection, since_us: int) -> list[CanaryRun]:
    """The canaries that run now, and those that have ended since, oldest first."""
    wanted = (canary_runs.c.state == "running") | (canary_runs.c.ended_us >= since_us)
    query = select(canary_runs).where(wanted).order_by(canary_runs.c.id)
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


def stepped(conn: Connection, route: str, env: str, clock: Clock, revision: int = 0) -> None:
    """The share of the running canary has changed: what comes now is judged for that share. `revision`: of the table
    that has it."""
    where = (canary_runs.c.route == route, canary_runs.c.env == env, canary_runs.c.state == "running")
    now = clock.now_us()
    conn.execute(update(canary_runs).where(*where).values(stepped_us=now, decision=""))
    moved = select(pointers.c.share).where(pointers.c.route == route, pointers.c.env == env)
    share = conn.execute(moved).scalar()
    for run in running(conn, route, env):
        _step(conn, run.id, now, float(share or 0.0), revision)


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
