"""Must show: random concurrent traffic never exceeds a limit or budget by more than what was in flight.

Real processes on the shared file (1, 2 and 4 of them, one killed with SIGKILL and replaced) and on a real Valkey.
"""

import asyncio
import itertools
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.store.counters.traffic import pairs_of

from pilothouse.domain.clock import SystemClock
from pilothouse.domain.limit import Limit, Rate, Spend
from pilothouse.store.counters.bounds import Counters
from pilothouse.store.counters.cells import _read
from pilothouse.store.counters.shared import SharedCounters
from pilothouse.store.counters.valkey import PREFIX, ValkeyCounters

HERE = Path(__file__).parent
LIVE = 6
# One where the rates are what refuses, and one where it is concurrency and money, with far more requests at once.
SLOW = Limit(
    name="slow",
    requests=Rate(60, 1.0),
    tokens=Rate(8_000, 1.0),
    concurrency=LIVE,
    spend=(Spend(0.35, "day"), Spend(100.0, "month")),
)
QUICK = Limit(
    name="quick",
    requests=Rate(1e6, 1.0),
    tokens=Rate(1e9, 1.0),
    concurrency=LIVE,
    spend=(Spend(4.0, "day"), Spend(100.0, "month")),
)
EXCESS = 200.0  # tokens that a request may use beyond what it reserved: half of 400
MARGIN_S = 1e-4


class Fleet:
    """Workers, and what their diaries say."""

    def __init__(self, folder: Path, limit: Limit, url: str = "") -> None:
        self.folder, self.limit, self.url = folder, limit, url
        self.numbers = itertools.count(1)
        self.diaries: list[Path] = []

    def start(self, endless: bool = False) -> "subprocess.Popen[str]":
        number = next(self.numbers)
        self.diaries.append(self.folder / f"{number}.diary")
        given = {
            "folder": str(self.folder / "data"),
            "url": self.url,
            "seed": number,
            "requests": 10**9 if endless else (250 if self.limit is SLOW else 1500),
            "tasks": 5,
            "pause_s": 0.005 if self.limit is SLOW else 0.0002,
            "diary": str(self.diaries[-1]),
            "limit": msgspec.to_builtins(self.limit),
        }
        return subprocess.Popen(
            [sys.executable, str(HERE / "traffic.py"), json.dumps(given)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ready(self, *workers: "subprocess.Popen[str]") -> None:
        for worker in workers:
            assert worker.stdout is not None and worker.stdout.readline() == "ready\n"

    def go(self, *workers: "subprocess.Popen[str]") -> None:
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write("go\n")
            worker.stdin.flush()

    def end(self, *workers: "subprocess.Popen[str]") -> None:
        for worker in workers:
            assert worker.wait(timeout=60) in (0, -signal.SIGKILL)
            for stream in (worker.stdin, worker.stdout):
                assert stream is not None
                stream.close()

    def story(self) -> list[dict[str, Any]]:
        """Each admitted request: before, after, held; ends, used and ended as far as it came."""
        found: dict[str, dict[str, Any]] = {}
        for diary in self.diaries:
            for line in diary.read_text().splitlines() if diary.exists() else ():
                said = json.loads(line)
                found.setdefault(said["id"], {}).update(said)
        return list(found.values())


def check_concurrency(story: list[dict[str, Any]], killed_at: float | None) -> None:
    moves = []
    for one in story:
        end = one.get("ends", killed_at)
        assert end is not None
        if end > one["after"]:
            moves += [(one["after"], 1), (end, -1)]
    live = 0
    for _, step in sorted(moves):
        live += step
        assert live <= LIVE, "more at a time than the limit"


def check_rates(story: list[dict[str, Any]], limit: Limit) -> None:
    """In every window, requests and tokens stay under burst + rate × length, and what was in flight."""
    if limit is not SLOW:
        return
    assert limit.requests is not None and limit.tokens is not None
    story = sorted(story, key=lambda one: float(one["before"]))
    for first in range(len(story)):
        tokens, end = 0.0, 0.0
        for requests, one in enumerate(story[first:], start=1):
            tokens += one.get("used", (0.0, 0.0))[0]
            end = max(end, one["after"])
            window = end - story[first]["before"] + MARGIN_S
            assert requests <= limit.requests.amount * (1.0 + window / limit.requests.per_s) + 1e-3
            # What the window's first requests found reserved for others was given back in it, in part.
            flight = LIVE * (400.0 + EXCESS)
            assert tokens <= limit.tokens.amount * (1.0 + window / limit.tokens.per_s) + flight


def check_budget(story: list[dict[str, Any]], limit: Limit, spent: float, unsaid: int = 0) -> None:
    """What was charged is what was used; and it is within the budget, since no use was over its estimate."""
    charged = sum(one["used"][1] for one in story if "ended" in one)
    perhaps = sum(one["used"][1] for one in story if "used" in one and "ended" not in one)
    assert charged - 1e-6 <= spent <= charged + perhaps + 1e-6
    assert perhaps == 0.0 or unsaid
    assert spent <= limit.spend[0].usd + 1e-6


async def totals(counters: Counters, limit: Limit) -> float:
    pair = pairs_of(limit)[0]
    if isinstance(counters, SharedCounters):
        for counter, _ in pairs_of(limit):
            row = _read(counters._cells.memory, counters._cells.find(counter, counters._clock.now_us() * 1e-6))
            assert row[3:5] == (0.0, 0.0), "something is still held"
        return counters.spent(pair)
    assert isinstance(counters, ValkeyCounters)
    found = await counters._client.hgetall(PREFIX + pair[0].key.hex())
    assert not [field for field in found if field.startswith(b"w:")], "something is still held"
    return float(found[b"u1"])


async def check(fleet: Fleet, killed_at: float | None = None) -> list[dict[str, Any]]:
    story = fleet.story()
    assert len(story) > 40, "little was admitted: the test shows nothing"
    check_concurrency(story, killed_at)
    check_rates(story, fleet.limit)
    counters: Counters = SharedCounters(fleet.folder / "data", SystemClock())
    if fleet.url:
        counters = ValkeyCounters(fleet.url, SystemClock())
    check_budget(story, fleet.limit, await totals(counters, fleet.limit), unsaid=killed_at is not None)
    await counters.close()
    return story


@pytest.mark.process
@pytest.mark.parametrize("limit", [SLOW, QUICK], ids=lambda limit: limit.name)
@pytest.mark.parametrize("workers", [1, 2, 4])
async def test_limits_hold_over_workers_of_one_host(tmp_path: Path, workers: int, limit: Limit) -> None:
    fleet = Fleet(tmp_path, limit)
    some = [fleet.start() for _ in range(workers)]
    fleet.ready(*some)
    fleet.go(*some)
    await asyncio.to_thread(fleet.end, *some)
    await check(fleet)


@pytest.mark.process
@pytest.mark.parametrize("workers", [1, 2, 4])
async def test_a_killed_worker_gives_back_what_it_held(tmp_path: Path, workers: int) -> None:
    fleet = Fleet(tmp_path, msgspec.structs.replace(QUICK, spend=(Spend(1000.0, "day"),)))
    some = [fleet.start(endless=number == 0) for number in range(workers)]
    fleet.ready(*some)
    fleet.go(*some)
    while not fleet.diaries[0].exists() or len(fleet.diaries[0].read_bytes()) < 20_000:  # noqa: ASYNC110 - no event
        await asyncio.sleep(0.001)
    some[0].kill()
    some[0].wait()
    killed_at = time.monotonic()
    heir = fleet.start()
    fleet.ready(heir)
    fleet.go(heir)
    await asyncio.to_thread(fleet.end, *some, heir)
    story = await check(fleet, killed_at)
    assert any(one["id"].startswith(f"{workers + 1}-") for one in story), "the heir was let in nowhere"


@pytest.mark.process
@pytest.mark.parametrize("limit", [SLOW, QUICK], ids=lambda limit: limit.name)
async def test_limits_hold_over_hosts_on_valkey(tmp_path: Path, valkey: Any, limit: Limit) -> None:
    fleet = Fleet(tmp_path, limit, valkey.url)
    some = [fleet.start() for _ in range(2)]
    fleet.ready(*some)
    fleet.go(*some)
    await asyncio.to_thread(fleet.end, *some)
    await check(fleet)
