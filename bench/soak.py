"""A soak: many mixed requests through one worker, and what is left of them: memory, records, connections.

`python -m bench.soak [--requests 200000] [--write]`. The mix, per hundred: 55 plain, 30 streams, 5 streams that the
client leaves in the middle, 9 that meet a fault of the provider (429, 500, cut, malformed, stalled), 1 with a body of
1 MB. Every request carries its number as a label; afterwards each must have left exactly one record.
"""

import argparse
import asyncio
import contextlib
import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import psutil
import uvloop

from bench.load import mock
from bench.product import Product, running
from pilothouse.domain.errors import PilothouseError
from pilothouse.providers.script import load
from pilothouse.providers.scripted import ScriptedProvider
from pilothouse.providers.upstream import Call, Upstream

CLIENTS = 32
SAMPLES = 40
SCRIPT = """
rules:
  - {match: {contains: fault-rate}, status: 429, retry_after: 0.01}
  - {match: {contains: fault-server}, status: 500}
  - {match: {contains: fault-cut}, fault: cut}
  - {match: {contains: fault-malformed}, fault: malformed}
  - {match: {contains: fault-reset}, fault: reset}
  - {match: {contains: fault-drop}, fault: drop}
  - {match: {contains: go slowly}, reply: "word word word word word word word word", chunk_size: 4, chunk_delay: 0.02}
  - {match: {contains: Please}, reply: "The paragraph says that it should be summarised."}
"""
FAULTS = ("rate", "server", "cut", "malformed", "reset", "drop")
WAYS = (("plain", 55), ("stream", 30), ("abort", 5), ("fault", 9), ("large", 1))
PROMPT = "Please summarise the following paragraph in two sentences for a busy reader. " * 4


@dataclass
class Tally:
    """What was sent, what came back, and the worker's memory on the way."""

    sent: Counter[str] = field(default_factory=Counter)
    status: Counter[str] = field(default_factory=Counter)
    numbers: list[int] = field(default_factory=list)
    memory: list[tuple[int, float]] = field(default_factory=list)


@dataclass
class After:
    """What is left when all is done."""

    gauges: dict[str, float]
    open_clients: int
    seconds: float
    count: int = 0
    distinct: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)


async def drive(product: Product, total: int, tally: Tally, only: list[str]) -> None:
    """Send all of it from `CLIENTS` connections; what comes back is counted, whatever it is."""
    client = Upstream()
    edge = psutil.Process(product.pids("edge")[0])
    counter = iter(range(total))
    chosen = random.Random(7)
    ways, weights = zip(*(way for way in WAYS if not only or way[0] in only), strict=True)

    async def one_client() -> None:
        for number in counter:
            way = chosen.choices(ways, weights)[0]
            tally.sent[way] += 1
            tally.numbers.append(number)
            try:
                tally.status[f"{way} {await _send(client, product, way, number)}"] += 1
            except PilothouseError as error:
                tally.status[f"{way} {error.kind}"] += 1
            if number % max(1, total // SAMPLES) == 0:
                tally.memory.append((number, edge.memory_info().rss / 1e6))

    await asyncio.gather(*(one_client() for _ in range(CLIENTS)))
    await client.close()


async def _send(client: Upstream, product: Product, way: str, number: int) -> str:
    text = PROMPT
    if way == "fault":
        text = f"fault-{FAULTS[number % len(FAULTS)]} " + PROMPT
    elif way == "large":
        text = PROMPT * 3300
    elif way == "abort":
        text = "go slowly " + PROMPT
    streamed = way in ("stream", "abort") or (way == "fault" and number % 2 == 0)
    body = {
        "model": "bench" if way in ("plain", "stream") else "faulty",
        "messages": [{"role": "user", "content": text}],
        "metadata": {"n": str(number)},
        "stream": streamed,
    }
    call = Call(
        url=f"{product.gateway}/v1/chat/completions",
        headers=[("authorization", f"Bearer {product.key}"), ("content-type", "application/json")],
        body=json.dumps(body).encode(),
        connect_s=10.0,
    )
    if not streamed:
        return str((await client.whole(call)).status)
    flow = await client.stream(call)
    try:
        seen = b""
        while (data := await flow.read()) is not None:
            seen += data
            if way == "abort":
                return f"{flow.status} left"
        end = "complete" if b"[DONE]" in seen else ("with an error event" if b'"error"' in seen else "cut")
        return f"{flow.status} {end}"
    finally:
        await flow.close()


@contextlib.asynccontextmanager
async def scripted() -> AsyncIterator[int]:
    """A scripted provider in this process."""
    provider = ScriptedProvider()
    provider.play(load(SCRIPT.encode(), "soak"))
    await provider.start()
    try:
        yield provider.port
    finally:
        await provider.close()


def records(data: Path) -> tuple[int, int, Counter[str]]:
    """Records of numbered requests, of these the distinct ones, and their outcomes; after the product has ended."""
    with duckdb.connect(str(data / "telemetry.duckdb"), read_only=True) as store:
        found = store.execute("SELECT labels['n'], outcome, status FROM requests WHERE labels['n'] IS NOT NULL")
        rows = found.fetchall()
    return len(rows), len({row[0] for row in rows}), Counter(f"{row[1]} {row[2]}" for row in rows)


def gauges(product: Product) -> dict[str, float]:
    """The worker's own gauges."""
    import urllib.request

    with urllib.request.urlopen(f"{product.gateway}/metrics", timeout=10) as reply:
        lines = reply.read().decode().splitlines()
    return {line.split()[0]: float(line.split()[1]) for line in lines if line and line[0] != "#" and "{" not in line}


def soak(total: int, only: list[str]) -> str:
    """Markdown of what was found."""
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="pilothouse-soak-") as folder, mock() as upstream:
        kept = Path(folder) / "telemetry.duckdb"

        async def go() -> After:
            async with scripted() as port:
                with running(upstream, faulty=f"http://127.0.0.1:{port}", keep=Path(folder)) as product:
                    began = time.monotonic()
                    await drive(product, total, tally, only)
                    took = time.monotonic() - began
                    await asyncio.sleep(2.0)  # the aborted ones end
                    found = gauges(product)
                    edge = psutil.Process(product.pids("edge")[0])
                    established = [c for c in edge.net_connections("tcp") if c.status == "ESTABLISHED"]
                    to_clients = [c for c in established if c.laddr.port == int(product.gateway.rsplit(":", 1)[1])]
                    return After(found, len(to_clients), took)

        after = uvloop.run(go())
        after.count, after.distinct, after.outcomes = records(kept.parent)
    return report(total, tally, after)


def report(total: int, tally: Tally, after: After) -> str:
    """The tables."""
    busy = after.gauges["pilothouse_upstream_open"] - after.gauges["pilothouse_upstream_idle"]
    memory = sorted(tally.memory)
    settled = [mb for n, mb in memory if n >= total // 4]
    drift = (settled[-1] / settled[0] - 1) * 100 if len(settled) > 1 else 0.0
    curve = ", ".join(f"{n // 1000}k {mb:.0f}" for n, mb in memory[:: max(1, len(memory) // 12)])
    rows = [
        "| what | figure |",
        "|---|---:|",
        f"| requests sent, in {after.seconds:.0f} s from {CLIENTS} clients | {total:,} |",
        f"| records | {after.count:,} |",
        f"| requests without a record | {total - after.distinct:,} |",
        f"| records doubled | {after.count - after.distinct:,} |",
        f"| client connections still open at the worker afterwards | {after.open_clients} |",
        f"| upstream connections open and not idle afterwards | {busy:.0f} |",
        f"| memory after a quarter and at the end | {settled[0]:.0f} MB, {settled[-1]:.0f} MB ({drift:+.1f} %) |",
        f"| highest | {max(mb for _, mb in memory):.0f} MB |",
        "",
        f"Memory in MB by requests: {curve}.",
        "",
        "| sent as, answered with | requests |",
        "|---|---:|",
        *(f"| {name} | {n:,} |" for name, n in sorted(tally.status.items())),
        "",
        "| recorded outcome and status | records |",
        "|---|---:|",
        *(f"| {name} | {n:,} |" for name, n in sorted(after.outcomes.items())),
    ]
    return "\n".join(rows)


def main() -> None:
    """Run it and print it; with --write into docs/benchmarks.md."""
    from bench.__main__ import machine, write

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--ways", nargs="*", default=[], help="only these of the mix")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    text = f"{machine()}\n\n{soak(options.requests, options.ways)}"
    print(text)
    if options.write:
        write("soak", text)


if __name__ == "__main__":
    main()
