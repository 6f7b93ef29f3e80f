"""Control's numbers in Prometheus' text form: loops, workers, the loader's backlog, and the metric catalogue."""

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from pilothouse.server.composition import Control
from pilothouse.server.datadir import supervisor_state
from pilothouse.server.endpoints import who
from pilothouse.telemetry.exposition import exposition

TEXT = "text/plain; version=0.0.4; charset=utf-8"


async def metrics(control: Control, request: Request) -> Response:
    """`GET /metrics`, with the admin token as a bearer token."""
    who(request)
    loops = list(control.loops.states.values())
    supervisor = supervisor_state(control.data)
    children = supervisor.children if supervisor else []
    workers = control.link.workers() if control.link else []
    lines: list[str] = []
    lines += family("loop_runs_total", "counter", "Runs of a background loop", {s.name: s.runs for s in loops}, "loop")
    lines += family(
        "loop_failures_total",
        "counter",
        "Failed runs of a background loop",
        {s.name: s.failures for s in loops},
        "loop",
    )
    lines += family(
        "loop_last_seconds", "gauge", "Duration of the newest run", {s.name: s.last_ms / 1_000 for s in loops}, "loop"
    )
    lines += family(
        "restarts_total",
        "counter",
        "New starts of a process that died",
        {c.name: c.restarts for c in children},
        "process",
    )
    lines += family(
        "worker_table_revision", "gauge", "Table that a worker holds", {w.worker: w.revision for w in workers}, "worker"
    )
    backlog = control.loader.backlog_bytes()
    lines += family("journal_backlog_bytes", "gauge", "Journal bytes that are not loaded yet", {"": backlog}, "")
    revision = control.table.revision if control.table else 0
    lines += family("table_revision", "gauge", "Revision of the newest table", {"": revision}, "")
    lines += await asyncio.to_thread(exposition, control.telemetry, control.metrics, control.clock, control.started_us)
    return Response("\n".join(lines) + "\n", media_type=TEXT)


def family(name: str, kind: str, what: str, values: dict[str, float], label: str) -> list[str]:
    """One metric with its help, a line for each value of `label`."""
    full = f"pilothouse_control_{name}"
    return [
        f"# HELP {full} {what}",
        f"# TYPE {full} {kind}",
        *(f'{full}{{{label}="{key}"}} {value}' if label else f"{full} {value}" for key, value in values.items()),
    ]
