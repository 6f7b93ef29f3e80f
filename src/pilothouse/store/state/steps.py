"""What each step of a plan rested on, kept when its state changes."""

import msgspec
from sqlalchemy import Connection, insert, select

from pilothouse.domain.hashing import canonical
from pilothouse.domain.release import StepEvidence
from pilothouse.store.state.rows import as_struct
from pilothouse.store.state.tables import step_evidence


def keep(conn: Connection, seen: StepEvidence) -> bool:
    """Store what a step rests on; False, and nothing stored, where the newest word on that step is the same.

    A step that waits says something new every second: its first word is kept, and the one with which it ends.
    """
    where = (
        step_evidence.c.route == seen.route,
        step_evidence.c.env == seen.env,
        step_evidence.c.release == seen.release,
        step_evidence.c.step == seen.step,
    )
    newest = conn.execute(select(step_evidence).where(*where).order_by(step_evidence.c.id.desc()).limit(1)).first()
    if (
        newest is not None
        and newest.state == seen.state
        and (seen.state == "waiting" or newest.message == seen.message)
    ):
        return False
    values = msgspec.structs.asdict(seen) | {"evidence": canonical(seen.evidence).decode()}
    conn.execute(insert(step_evidence).values(values))
    return True


def of_release(conn: Connection, route: str, env: str, release: int) -> list[StepEvidence]:
    """Everything that is kept of a release's plan in `env`, oldest first."""
    query = select(step_evidence).where(
        step_evidence.c.route == route, step_evidence.c.env == env, step_evidence.c.release == release
    )
    rows = conn.execute(query.order_by(step_evidence.c.id)).mappings()
    return [as_struct(row, StepEvidence, json=("evidence",)) for row in rows]
