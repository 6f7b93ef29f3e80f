"""Flags: changed, on every worker when a verb returns; evaluated as a worker would; a route's own kill switch."""

import asyncio
from typing import Any

import msgspec

from pilothouse.domain.errors import BadRequest, NotFound
from pilothouse.domain.flag_evaluation import KEY, Evaluation, evaluate
from pilothouse.releases import flags
from pilothouse.releases.flags import FlagChanged, FlagOrder
from pilothouse.server.composition import Control
from pilothouse.server.reach import reach


async def change(control: Control, order: FlagOrder) -> dict[str, Any]:
    """Change a flag and push; raises NotFound, BadRequest, Refused, Conflict."""
    began = control.clock.monotonic()
    order = msgspec.structs.replace(order, reason=control.typed(order.reason))
    done: FlagChanged = await asyncio.to_thread(flags.change, control.state, control.config, order, control.clock)
    report = await control.publish()
    made = {
        "flag": done.key,
        "env": done.env,
        "action": done.action,
        "said": done.said,
        "revision": done.revision,
        "propagated_ms": round((control.clock.monotonic() - began) * 1_000, 3),
        "workers": report.workers,
        "of": report.of,
        "late": report.late,
        "hosts": report.hosts,
        "of_hosts": report.of_hosts,
        "away": report.away,
    }
    return made | {"reach": reach(made)}


def evaluated(control: Control, key: str, env: str, context: dict[str, Any]) -> Evaluation:
    """What a worker would say now; it is not counted. NotFound, BadRequest. Blocking."""
    flags.require(control.config, key, env)
    if not isinstance(context.get(KEY, ""), str):
        raise BadRequest(f"{KEY} is not a string", where="context")
    entry = control.current_table().flags.get(env, {}).get(key)
    if entry is None:
        raise NotFound(f"the workers do not have {key} yet", where=env, hint="the files have just changed: ask again")
    return evaluate(entry, context)


def history(control: Control, key: str, env: str) -> list[dict[str, Any]]:
    """What happened to a flag, newest first; an empty `env`: in every environment. NotFound. Blocking."""
    flags.require(control.config, key, env or "prod")
    with control.state.read() as conn:
        rows = flags.history(conn, key, env)
    return [
        {
            "seq": row.seq,
            "ts_us": row.ts_us,
            "env": row.change.env,
            "action": row.change.action,
            "actor": str(row.change.actor),
            "reason": row.change.reason,
            "said": row.change.detail.get("said", ""),
            "before": row.change.detail.get("before"),
            "after": row.change.detail.get("after"),
            "hash": row.hash,
        }
        for row in rows
    ]


def then(control: Control, key: str, env: str, ts_us: int) -> dict[str, Any]:
    """What a flag was in `env` at a time. NotFound, BadRequest. Blocking."""
    flags.require(control.config, key, env)
    with control.state.read() as conn:
        entry = flags.then(conn, key, env, ts_us)
    said = "the files did not name it" if entry is None else flags.told(entry)
    return {"ts_us": ts_us, "env": env, "said": said, "flag": entry}
