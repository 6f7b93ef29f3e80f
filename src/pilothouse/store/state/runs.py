"""Eval runs, their cases, and the verdicts of gates."""

import msgspec
from sqlalchemy import Connection, RowMapping, func, insert, select, update

from pilothouse.domain.clock import Clock
from pilothouse.domain.errors import NotFound
from pilothouse.domain.evaluation import CaseResult, Verdict
from pilothouse.store.state.rows import as_struct, upsert
from pilothouse.store.state.tables import eval_cases, eval_runs, verdicts


class EvalRun(msgspec.Struct, frozen=True, kw_only=True):
    """A dataset run over a release. `key` is equal for runs that would do the same work, so that one is resumed."""

    id: int
    route: str
    release: int
    env: str = ""
    dataset: str = ""
    dataset_hash: str = ""
    key: str = ""
    started_us: int = 0
    finished_us: int | None = None
    status: str = "running"  # running, done, failed
    n: int = 0  # cases that it is to have


class StoredVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """A gate's word on a release, and what it was compared with."""

    route: str
    release: int
    baseline: int | None
    run_id: int | None
    verdict: Verdict
    created_us: int


def start(conn: Connection, run: EvalRun, clock: Clock) -> EvalRun:
    """Insert `run` (its `id` is ignored); the stored one has its id and start."""
    started = msgspec.structs.replace(run, started_us=clock.now_us(), status="running", finished_us=None)
    values = {name: value for name, value in msgspec.structs.asdict(started).items() if name != "id"}
    inserted = conn.execute(insert(eval_runs).values(values)).inserted_primary_key
    return msgspec.structs.replace(started, id=int(inserted[0]) if inserted else 0)


def get(conn: Connection, run_id: int) -> EvalRun:
    """The run; NotFound where there is none."""
    row = conn.execute(select(eval_runs).where(eval_runs.c.id == run_id)).mappings().first()
    if row is None:
        raise NotFound(f"there is no eval run {run_id}")
    return _run(row)


def by_key(conn: Connection, key: str) -> EvalRun | None:
    """The newest run with that key, to resume or to reuse; None where there is none."""
    query = select(eval_runs).where(eval_runs.c.key == key).order_by(eval_runs.c.id.desc()).limit(1)
    row = conn.execute(query).mappings().first()
    return _run(row) if row is not None else None


def list_runs(
    conn: Connection, *, route: str | None = None, release: int | None = None, limit: int = 100
) -> list[EvalRun]:
    """Runs, newest first."""
    query = select(eval_runs).order_by(eval_runs.c.id.desc()).limit(limit)
    if route is not None:
        query = query.where(eval_runs.c.route == route)
    if release is not None:
        query = query.where(eval_runs.c.release == release)
    return [_run(row) for row in conn.execute(query).mappings()]


def finish(conn: Connection, run_id: int, clock: Clock, *, failed: bool = False) -> None:
    """Close the run with the number of cases that it has."""
    n = conn.execute(select(func.count()).where(eval_cases.c.run_id == run_id)).scalar_one()
    values = {"finished_us": clock.now_us(), "status": "failed" if failed else "done", "n": n}
    conn.execute(update(eval_runs).where(eval_runs.c.id == run_id).values(values))


def put_case(conn: Connection, run_id: int, result: CaseResult, repeat: int = 0) -> None:
    """Store a case's result; a repetition of the same one replaces it."""
    text = msgspec.json.encode(result).decode()
    values = {"run_id": run_id, "case_id": result.case_id, "repeat": repeat, "result": text}
    upsert(conn, eval_cases, values, (eval_cases.c.run_id, eval_cases.c.case_id, eval_cases.c.repeat))


def cases(conn: Connection, run_id: int, repeat: int | None = 0) -> list[CaseResult]:
    """Results of a run by case id; `repeat` None gives those of all repetitions."""
    query = select(eval_cases.c.result).where(eval_cases.c.run_id == run_id)
    if repeat is not None:
        query = query.where(eval_cases.c.repeat == repeat)
    found = conn.execute(query.order_by(eval_cases.c.case_id, eval_cases.c.repeat)).scalars()
    return [msgspec.json.decode(text, type=CaseResult) for text in found]


def put_verdict(
    conn: Connection, route: str, release: int, baseline: int | None, verdict: Verdict, clock: Clock
) -> StoredVerdict:
    """Store a gate's word on a release; older words are kept."""
    stored = StoredVerdict(
        route=route,
        release=release,
        baseline=baseline,
        run_id=verdict.run_id,
        verdict=verdict,
        created_us=clock.now_us(),
    )
    values = msgspec.structs.asdict(stored) | {"verdict": msgspec.json.encode(verdict).decode()}
    conn.execute(insert(verdicts).values(values))
    return stored


def verdict(conn: Connection, route: str, release: int) -> StoredVerdict | None:
    """The newest word on a release, None where no gate has judged it."""
    query = select(verdicts).where(verdicts.c.route == route, verdicts.c.release == release)
    row = conn.execute(query.order_by(verdicts.c.id.desc()).limit(1)).mappings().first()
    return _verdict(row) if row is not None else None


def list_verdicts(conn: Connection, route: str) -> list[StoredVerdict]:
    """All words on the releases of a route, newest first."""
    query = select(verdicts).where(verdicts.c.route == route).order_by(verdicts.c.id.desc())
    return [_verdict(row) for row in conn.execute(query).mappings()]


def _run(row: RowMapping) -> EvalRun:
    return as_struct(row, EvalRun)


def _verdict(row: RowMapping) -> StoredVerdict:
    return StoredVerdict(
        route=row["route"],
        release=row["release"],
        baseline=row["baseline"],
        run_id=row["run_id"],
        verdict=msgspec.json.decode(row["verdict"], type=Verdict),
        created_us=row["created_us"],
    )
