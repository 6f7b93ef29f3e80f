"""What flags cost at the edge: CPU time of one evaluation, and of an answer over OFREP, in a worker's own code."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import msgspec

from pilothouse.domain.clock import SystemClock
from pilothouse.domain.flag import AllOf, Compare, FlagEntry, FlagRule, Share
from pilothouse.domain.flag_evaluation import evaluate
from pilothouse.domain.principal import Principal
from pilothouse.domain.table import Table
from pilothouse.gateway.flag_counts import FlagCounts
from pilothouse.gateway.ofrep import Ofrep

ROUNDS, BATCH = 60, 500
CONTEXT = {"targetingKey": "user-4711", "plan": "free", "email": "ana@example.org", "version": "2.3.1", "country": "NO"}
BODY = msgspec.json.encode({"context": CONTEXT})


def flag(key: str, **more: Any) -> FlagEntry:
    """A boolean flag."""
    given = {"type": "boolean", "variants": {"on": True, "off": False}, "default": "off", "salt": key}
    return FlagEntry(**{"key": key} | given | more)


def rules(n: int) -> tuple[FlagRule, ...]:
    """Rules of three comparisons, none of which is met."""
    when = AllOf(
        (
            Compare("email", "ends_with", "@example.org"),
            Compare("version", "semver", ">=2.0.0"),
            Compare("plan", "==", "pro"),
        )
    )
    return tuple(FlagRule(when=when, serve=(Share("on"),)) for _ in range(n))


FLAGS = {
    "no rule": flag("plain"),
    "a share of 25 %": flag("share", rollout=(Share("on", 0.25),)),
    "5 rules of 3 comparisons, then a share": flag("ruled", rules=rules(5), rollout=(Share("on", 0.25),)),
    "a regular expression (RE2)": flag(
        "re2",
        rules=(FlagRule(when=Compare("email", "matches", r"^[a-z.]+@(example|invalid)\.com$"), serve=(Share("on"),)),),
    ),
}


def cost_us(work: Callable[[], object]) -> tuple[float, float]:
    """CPU time of this thread per call: the median over batches, and the 95th percentile."""
    work()
    costs = []
    for _ in range(ROUNDS):
        start = time.thread_time_ns()
        for _ in range(BATCH):
            work()
        costs.append((time.thread_time_ns() - start) / 1e3 / BATCH)
    return statistics.median(costs), sorted(costs)[int(ROUNDS * 0.95)]


def table() -> str:
    """CPU per evaluation and per answer, as Markdown."""
    many = {f"flag-{i}": flag(f"flag-{i}", rules=rules(1), rollout=(Share("on", 0.25),)) for i in range(100)}
    held = Table(1, 1, {}, {}, {}, flags={"prod": {one.key: one for one in FLAGS.values()}, "dev": many})

    def door(env: Any) -> Ofrep:
        return Ofrep(lambda: held, lambda _a, _t: Principal("k", env), FlagCounts(), SystemClock(), str)

    prod, dev = door("prod"), door("dev")
    etag = dict(dev.all(BODY, None, None).headers)["etag"]
    work: dict[str, Callable[[], object]] = {
        f"evaluate: {name}": lambda one=one: evaluate(one, CONTEXT) for name, one in FLAGS.items()
    }  # type: ignore[misc]
    work["answer: one flag, from body to bytes"] = lambda: prod.one("ruled", BODY, None)
    work["answer: all of 100 flags"] = lambda: dev.all(BODY, None, None)
    work["answer: all of 100 flags, 304"] = lambda: dev.all(BODY, None, etag)
    lines = ["| Flags | p50 CPU µs | p95 CPU µs |", "|---|---:|---:|"]
    for name, one in work.items():
        half, most = cost_us(one)
        lines.append(f"| {name} | {half:.1f} | {most:.1f} |")
    return "\n".join(lines)
