"""What the releases page shows of canaries and drills, from the state store."""

from typing import Any

import msgspec
from sqlalchemy import Connection

from pilothouse.domain.release import CanaryRun
from pilothouse.domain.release_facts import Drill
from pilothouse.domain.table import env_option
from pilothouse.releases.guardrail import Guardrail
from pilothouse.server.pages.release_shown import CanaryShown, DrillShown
from pilothouse.server.verbs.drills import KINDS
from pilothouse.store.state import canaries, drills


def shown(conn: Connection, route: str) -> tuple[CanaryShown, ...]:
    """The canaries of a route that run now; where none does, the newest that has ended."""
    running = canaries.running(conn, route)
    return tuple(_one(conn, run) for run in running or canaries.list_canaries(conn, route, limit=1))


def _one(conn: Connection, run: CanaryRun) -> CanaryShown:
    evidence: dict[str, Any] = run.evidence
    return CanaryShown(
        id=run.id,
        env=run.env,
        release=run.release,
        baseline=run.baseline,
        state=run.state,
        started_us=run.started_us,
        ended_us=run.ended_us,
        decision=run.decision,
        sentence=str(evidence.get("sentence", "")),
        steps=tuple(canaries.steps(conn, run.id)),
        looks=tuple(canaries.looks(conn, run.id)),
        rails=tuple(msgspec.convert(one, Guardrail) for one in evidence.get("guardrails", ())),
        t_detect_us=run.t_detect_us,
        t_decide_us=run.t_decide_us,
        t_flip_us=run.t_flip_us,
        t_last_bad_us=run.t_last_bad_us,
    )


def practised(conn: Connection, route: str) -> tuple[DrillShown, ...]:
    """Every kind of drill with its newest evidence in any environment, those never practised too."""
    newest: dict[str, Drill] = {}
    for drill in drills.list_drills(conn, route):
        newest.setdefault(drill.kind, drill)
    return tuple(_drill(kind, newest.get(of.recorded), route) for kind, of in KINDS.items())


def _drill(kind: str, newest: Drill | None, route: str) -> DrillShown:
    command = f"pilothouse drill {kind} {route}"
    if newest is None:
        return DrillShown(kind=kind, command=command)
    command += env_option(newest.env)
    return DrillShown(
        kind=kind, command=command, env=newest.env, ts_us=newest.ts_us, ok=newest.ok, detail=newest.detail
    )
