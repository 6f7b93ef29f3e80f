"""Recorded inputs that were asked again for a canary: each once, with what it cost and which answer was preferred."""

from typing import Literal

import msgspec
from sqlalchemy import Connection, func, insert, select

from pilothouse.store.state.tables import canary_pairs

Winner = Literal["", "canary", "stable", "tie"]


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """`request_id`: of the recorded input; `answer_id`: of the candidate's request, empty where it could not be asked;
    `winner`: empty where nothing was compared; `cost_usd`: of everything asked for it, None where unknown."""

    request_id: str
    answer_id: str = ""
    winner: Winner = ""
    detail: str = ""
    cost_usd: float | None = None


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """All pairs of a run. `spent`: of those whose cost is known; `unknown`: how many have none; `dearest`: one pair."""

    pairs: int = 0
    won: int = 0
    lost: int = 0
    spent: float = 0.0
    dearest: float = 0.0
    unknown: int = 0


def add(conn: Connection, run_id: int, pair: Pair) -> None:
    """Keep it."""
    conn.execute(insert(canary_pairs).values(run_id=run_id, **msgspec.structs.asdict(pair)))


def of_run(conn: Connection, run_id: int) -> list[Pair]:
    """The pairs of a run."""
    columns = [canary_pairs.c[name] for name in Pair.__struct_fields__]
    query = select(*columns).where(canary_pairs.c.run_id == run_id).order_by(canary_pairs.c.request_id)
    return [Pair(**{str(name): value for name, value in row.items()}) for row in conn.execute(query).mappings()]


def tally(conn: Connection, run_id: int) -> Tally:
    """What they come to."""
    of = canary_pairs.c
    query = select(
        func.count().label("pairs"),
        func.count().filter(of.winner == "canary").label("won"),
        func.count().filter(of.winner == "stable").label("lost"),
        func.coalesce(func.sum(of.cost_usd), 0.0).label("spent"),
        func.coalesce(func.max(of.cost_usd), 0.0).label("dearest"),
        func.count().filter(of.cost_usd.is_(None)).label("unknown"),
    ).where(of.run_id == run_id)
    row = conn.execute(query).mappings().one()
    return Tally(**{str(name): value for name, value in row.items()})
