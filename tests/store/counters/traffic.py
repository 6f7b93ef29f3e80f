"""A worker of the property test: random requests against shared counters, and a diary that survives kill -9.

python traffic.py '{"folder": …, "url": …, "seed": 1, "requests": 300, "tasks": 8, "pause_s": 0.005, "diary": …, …}'

Says `ready` when its counters are open, and begins when it reads a line.
"""

import asyncio
import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from pilothouse.domain.clock import SystemClock
from pilothouse.domain.limit import Limit
from pilothouse.store.counters import shared, valkey
from pilothouse.store.counters.bounds import Counter, Counters, Pair, Use, bounds_of
from pilothouse.store.counters.shared import SharedCounters
from pilothouse.store.counters.valkey import ValkeyCounters

PATIENT_S = 30.0  # a busy machine is not a worker that was stopped, nor a server that is away


def pairs_of(limit: Limit) -> list[Pair]:
    """Two counters of the same bounds: a request is counted by both or by none."""
    return [(Counter("key=a"), bounds_of(limit)), (Counter("route=r"), bounds_of(limit))]


def opened(given: dict[str, Any]) -> Counters:
    if given.get("url"):
        return ValkeyCounters(given["url"], SystemClock())
    return SharedCounters(Path(given["folder"]), SystemClock())


class Worker:
    def __init__(self, given: dict[str, Any]) -> None:
        self.given = given
        self.random = random.Random(given["seed"])
        self.pairs = pairs_of(msgspec.convert(given["limit"], Limit))
        self.diary = os.open(given["diary"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.left = given["requests"]
        self.made = 0

    def note(self, **said: Any) -> None:
        os.write(self.diary, json.dumps(said).encode() + b"\n")

    async def run(self) -> None:
        self.counters = opened(self.given)
        if self.given.get("url"):  # connect before the others begin
            await self.counters.take([], 0.0, 0.0)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        await asyncio.gather(*(self.requests() for _ in range(self.given["tasks"])))
        await self.counters.close()

    async def requests(self) -> None:
        while self.left > 0:
            self.left -= 1
            await self.request()

    async def request(self) -> None:
        held = (float(self.random.randint(1, 400)), self.random.choice((0.0, 0.001, 0.02, 0.05)))
        before = time.monotonic()
        verdict = await self.counters.take(self.pairs, *held)
        after = time.monotonic()
        if not isinstance(verdict, int):
            assert verdict.refused is not None and not verdict.taken and not verdict.backup, verdict
            await asyncio.sleep(self.random.random() * self.given["pause_s"])
            return
        self.made += 1
        name = f"{self.given['seed']}-{self.made}"
        self.note(id=name, before=before, after=after, held=held)
        await asyncio.sleep(self.random.random() * self.given["pause_s"])
        failed = self.random.random() < 0.2
        used = (0.0, 0.0) if failed else (held[0] * self.random.choice((0.5, 1.0, 1.5)), held[1] * self.random.random())
        self.note(id=name, ends=time.monotonic(), used=used)
        self.counters.settle(verdict, self.pairs, Use(*held, *used))
        self.note(id=name, ended=time.monotonic())


if __name__ == "__main__":
    shared.LOCK_S = valkey.TIMEOUT_S = PATIENT_S
    asyncio.run(Worker(json.loads(sys.argv[1])).run())
