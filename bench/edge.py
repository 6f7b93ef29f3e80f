"""CPU per request at the edge with everything on, beside direct calls and LiteLLM."""

import contextlib

from bench import litellm
from bench.load import Figure, Target, mock, run
from bench.product import running

SHAPES = (("plain", False), ("20-chunk stream, at once", True))


def table(seconds: float, *, litellm: bool) -> str:
    """Markdown of every figure, direct first."""
    figures: list[Figure] = []
    with mock() as upstream, mock(gap_ms=5) as paced:
        figures += _direct(upstream, paced, seconds)
        figures += _pilothouse(upstream, paced, seconds)
        if litellm:
            figures += _litellm(upstream, seconds)
    return as_markdown(figures)


def _direct(upstream: str, paced: str, seconds: float) -> list[Figure]:
    target = Target("direct", upstream, "none", "gpt-4o-mini")
    result = [run(target, stream=stream, connections=8, seconds=seconds, shape=shape) for shape, stream in SHAPES]
    slow = Target("direct", paced, "none", "gpt-4o-mini")
    return [*result, run(slow, stream=True, connections=8, seconds=seconds, shape="20-chunk stream, 5 ms apart")]


def _pilothouse(upstream: str, paced: str, seconds: float) -> list[Figure]:
    result: list[Figure] = []
    with running(upstream) as product:
        target = Target("Pilothouse", product.gateway, product.key, "bench", product.pids("edge"))
        result += [run(target, stream=stream, connections=8, seconds=seconds, shape=shape) for shape, stream in SHAPES]
        result.append(run(target, stream=False, connections=32, seconds=seconds, shape="plain"))
    with running(paced) as product:
        target = Target("Pilothouse", product.gateway, product.key, "bench", product.pids("edge"))
        shape = "20-chunk stream, 5 ms apart"
        result.append(run(target, stream=True, connections=8, seconds=seconds, shape=shape))
    return result


def _litellm(upstream: str, seconds: float) -> list[Figure]:
    with contextlib.ExitStack() as stack:
        target = stack.enter_context(litellm.proxy(upstream))
        return [run(target, stream=stream, connections=8, seconds=seconds, shape=shape) for shape, stream in SHAPES]


def as_markdown(figures: list[Figure]) -> str:
    """One row a figure."""
    rows = [
        "| gateway | shape | clients | requests | requests/s | p50 ms | p99 ms | CPU ms/request | RSS MB | errors |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for f in figures:
        cpu = f"**{f.cpu_ms:.3f}**" if f.cpu_ms is not None else ""
        rss = f"{f.rss_mb:.0f}" if f.rss_mb is not None else ""
        rows.append(
            f"| {f.name} | {f.shape} | {f.connections} | {f.requests:,} | {f.rate:,.0f} | {f.p50:.2f} | {f.p99:.2f} "
            f"| {cpu} | {rss} | {f.errors} |"
        )
    return "\n".join(rows)
