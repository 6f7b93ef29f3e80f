"""CPU per request and added latency at the edge with everything on, beside direct calls, TensorZero and LiteLLM."""

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager

from bench import litellm, tensorzero
from bench.load import Figure, Target, mock, run
from bench.product import Product, running

PLAIN, STREAM, PACED = "plain", "20-chunk stream, at once", "20-chunk stream, 5 ms apart"
WAITING = "plain, provider answers after 5 ms"
SHAPES = ((PLAIN, False), (STREAM, True))
CLIENTS = 8
Peer = Callable[[str], AbstractContextManager[Target]]


def table(seconds: float, *, peers: bool) -> str:
    """Markdown: every figure, direct first, and what they come to."""
    figures: list[Figure] = []
    with mock() as upstream, mock(gap_ms=5) as paced, mock(delay_ms=5) as waiting:
        direct = {url: Target("direct", url, "none", "gpt-4o-mini") for url in (upstream, paced, waiting)}
        for shape, stream in SHAPES:
            figures.append(_run(direct[upstream], seconds, shape, stream=stream))
        figures.append(_run(direct[paced], seconds, PACED, stream=True))
        figures += _pilothouse(upstream, seconds)
        figures += _beside(direct[waiting], waiting, seconds)
        with running(paced) as product:
            figures.append(_run(_edge(product), seconds, PACED, stream=True))
        if peers:
            figures += _peer(tensorzero.gateway, upstream, seconds)
            figures += _peer(litellm.proxy, upstream, seconds)
            figures += _peer(functools.partial(litellm.proxy, same_work=True), upstream, seconds)
            figures += _peer_waiting(tensorzero.gateway, waiting, seconds)
    return as_markdown(figures) + "\n\n" + "\n".join(comparison(figures))


def _run(target: Target, seconds: float, shape: str, *, stream: bool, connections: int = CLIENTS) -> Figure:
    return run(target, stream=stream, connections=connections, seconds=seconds, shape=shape)


def _edge(product: Product) -> Target:
    return Target("Pilothouse", product.gateway, product.key, "bench", product.pids("edge"))


def _pilothouse(upstream: str, seconds: float) -> list[Figure]:
    with running(upstream) as product:
        target = _edge(product)
        result = [_run(target, seconds, shape, stream=stream) for shape, stream in SHAPES]
        result.append(_run(target, seconds, PLAIN, stream=False, connections=32))
    with running(upstream, workers=2) as product:
        target = _edge(product)
        two = Target("Pilothouse, 2 workers", target.base_url, target.key, target.model, target.pids)
        return [*result, _run(two, seconds, PLAIN, stream=False)]


def _beside(direct: Target, waiting: str, seconds: float) -> list[Figure]:
    """Direct calls and the gateway in turn, at a load that leaves the machine idle for the most part."""
    with running(waiting) as product:
        target = _edge(product)
        return [_run(direct, seconds, WAITING, stream=False), _run(target, seconds, WAITING, stream=False)]


def _peer(peer: Peer, upstream: str, seconds: float) -> list[Figure]:
    with peer(upstream) as target:
        result = [_run(target, seconds, shape, stream=stream) for shape, stream in SHAPES]
        return [*result, _run(target, seconds, PLAIN, stream=False, connections=32)]


def _peer_waiting(peer: Peer, waiting: str, seconds: float) -> list[Figure]:
    with peer(waiting) as target:
        return [_run(target, seconds, WAITING, stream=False)]


def _found(figures: list[Figure], name: str, shape: str) -> Figure | None:
    return next((f for f in figures if f.name.startswith(name) and f.shape == shape), None)


def comparison(figures: list[Figure]) -> list[str]:
    """What the figures come to, one line each."""
    lines = []
    own = [f for f in figures if f.name == "Pilothouse"]
    for theirs in [f for f in figures if f.name.startswith(("TensorZero", "LiteLLM"))]:
        ours = next((f for f in own if (f.shape, f.connections) == (theirs.shape, theirs.connections)), None)
        if ours and ours.cpu_ms and theirs.cpu_ms:
            ratio = ours.cpu_ms / theirs.cpu_ms
            said = f"{ratio:.2f} of" if ratio > 0.1 else f"1/{1 / ratio:.0f} of"
            lines.append(f"- {ours.shape}, {ours.connections} clients: {said} {theirs.name}'s CPU per request.")
    for shape in (PLAIN, WAITING, PACED):
        direct = _found(figures, "direct", shape)
        added = [
            f"{figure.name} {figure.p50 - direct.p50:+.2f} ms at p50, {figure.p99 - direct.p99:+.2f} ms at p99"
            for figure in (_found(figures, name, shape) for name in ("Pilothouse", "TensorZero", "LiteLLM"))
            if direct and figure
        ]
        if added:
            lines.append(f"- {shape}, {CLIENTS} clients, over direct calls: {'; '.join(added)}.")
    return lines


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
