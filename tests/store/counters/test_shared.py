"""The file of counters: restarts, damage, a full disk, locks, and who is alone."""

import fcntl
import os
from pathlib import Path

import pytest
from tests.store.counters.test_arithmetic import one, refused, taken

from pilothouse.domain.clock import FrozenClock
from pilothouse.domain.errors import StoreError
from pilothouse.domain.limit import Limit, Rate, Spend
from pilothouse.domain.table import CounterSettings
from pilothouse.store.counters.bounds import Pair, Use, Verdict
from pilothouse.store.counters.local import LocalCounters
from pilothouse.store.counters.opened import open_counters
from pilothouse.store.counters.shared import NAME, SharedCounters

LIMIT = Limit(name="l", requests=Rate(3, 60.0), tokens=Rate(100, 60.0), concurrency=2, spend=(Spend(1.0, "day"),))


def crash(counters: SharedCounters) -> None:
    """End as kill -9 does: the kernel lets the locks go, and nothing else happens."""
    counters._memory.close()  # it has a descriptor of its own
    os.close(counters._file)


@pytest.mark.parametrize("sole", [True, False])
async def test_money_and_rates_outlive_a_crash_and_what_was_held_does_not(
    tmp_path: Path, clock: FrozenClock, sole: bool
) -> None:
    pairs = one(LIMIT)
    first = SharedCounters(tmp_path, clock, sole=sole)
    first.settle(await taken(first, pairs, 60.0, 0.5), pairs, Use(60.0, 0.5, 20.0, 0.3))
    await taken(first, pairs, 80.0, 0.6)
    assert (await refused(first, pairs, 1.0)).what == "tokens"
    crash(first)
    second = SharedCounters(tmp_path, clock, sole=sole)
    pairs = one(LIMIT)
    assert second.spent(pairs[0]) == pytest.approx(0.3)
    await taken(second, pairs, 80.0, 0.6)  # the tokens and the dollars that were held are there again
    assert (await refused(second, pairs)).what == "requests"  # and the requests that were made are not
    await second.close()


async def test_a_worker_that_is_gone_is_noticed_before_anybody_is_refused_for_it(
    tmp_path: Path, clock: FrozenClock
) -> None:
    pairs: list[Pair] = one(Limit(name="l", concurrency=1))
    gone, here = SharedCounters(tmp_path, clock), SharedCounters(tmp_path, clock)
    await taken(gone, pairs)
    assert (await refused(here, pairs)).what == "concurrency"
    clock.advance(2.0)
    assert (await refused(here, pairs)).what == "concurrency"  # it lives
    crash(gone)
    clock.advance(2.0)
    await taken(here, pairs)
    await here.close()


async def test_a_worker_that_closes_gives_back_what_it_holds(tmp_path: Path, clock: FrozenClock) -> None:
    pairs = one(Limit(name="l", concurrency=1))
    first, second = SharedCounters(tmp_path, clock), SharedCounters(tmp_path, clock)
    await taken(first, pairs)
    await first.close()
    await taken(second, pairs)
    await second.close()


@pytest.mark.parametrize("content", [b"nonsense", b"", b"x" * 40_000, None], ids=["short", "empty", "long", "version"])
async def test_a_file_that_is_not_ours_is_set_aside(tmp_path: Path, clock: FrozenClock, content: bytes | None) -> None:
    if content is None:
        await SharedCounters(tmp_path, clock).close()
        with (tmp_path / NAME).open("r+b") as file:
            file.seek(8)
            file.write(b"\x63")
    else:
        (tmp_path / NAME).write_bytes(content)
    counters = SharedCounters(tmp_path, clock)
    await taken(counters, one(LIMIT))
    await counters.close()
    aside = [name for name in os.listdir(tmp_path) if name != NAME]  # noqa: PTH208
    assert len(aside) == (0 if content == b"" else 1) and all(name.startswith(f"{NAME}.damaged-") for name in aside)


async def test_a_slot_that_makes_no_sense_is_begun_anew(tmp_path: Path, clock: FrozenClock) -> None:
    counters = SharedCounters(tmp_path, clock)
    pairs = one(LIMIT)
    counters.settle(await taken(counters, pairs), pairs, Use(0.0, 0.0, 0.0, 0.0))
    await counters.close()
    with (tmp_path / NAME).open("r+b") as file:
        file.seek(pairs[0][0].base + 16)
        file.write(b"\xff" * 64)  # NaNs
    counters = SharedCounters(tmp_path, clock)
    await taken(counters, one(LIMIT))
    assert counters.gauges()["pilothouse_counters_damaged"][1] == 1.0
    await counters.close()


async def test_a_disk_without_room_lets_requests_in_and_counts_them(
    tmp_path: Path, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    counters = SharedCounters(tmp_path, clock)

    def full(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    verdict = await counters.take(one(LIMIT), 1.0, 0.1)
    assert isinstance(verdict, Verdict) and verdict.refused is None and not verdict.taken
    assert counters.gauges()["pilothouse_counters_full"][1] == 1.0
    await counters.close()


async def test_a_worker_stopped_in_the_middle_holds_up_nobody(tmp_path: Path, clock: FrozenClock) -> None:
    counters = SharedCounters(tmp_path, clock)
    pairs = one(Limit(name="l", concurrency=1))
    ticket = await taken(counters, pairs)
    stopped = os.open(tmp_path / NAME, os.O_RDWR)
    fcntl.flock(stopped, fcntl.LOCK_EX)
    verdict = await counters.take(pairs, 0.0, 0.0)
    assert isinstance(verdict, Verdict) and verdict.refused is None
    assert counters.gauges()["pilothouse_counters_uncounted"][1] == 1.0
    assert counters.settle(ticket, pairs, Use(0.0, 0.0, 0.0, 0.0)) == []  # owed
    os.close(stopped)
    other = one(LIMIT, "other")
    counters.settle(await taken(counters, other), other, Use(0.0, 0.0, 0.0, 0.0))
    await taken(counters, pairs)
    await counters.close()


async def test_only_one_can_be_alone(tmp_path: Path, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pilothouse.store.counters.shared.OPEN_S", 0.05)
    alone = SharedCounters(tmp_path, clock, sole=True)
    with pytest.raises(StoreError, match="keeps the counters for itself"):
        SharedCounters(tmp_path, clock)
    other = open_counters(CounterSettings(), tmp_path, clock, str)
    assert isinstance(other, LocalCounters)
    await alone.close()
    together = SharedCounters(tmp_path, clock)
    not_alone = SharedCounters(tmp_path, clock, sole=True)
    await taken(together, one(LIMIT))
    await not_alone.close()
    await together.close()


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path, clock: FrozenClock) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be used"):
        SharedCounters(tmp_path / "file", clock)
    assert isinstance(open_counters(CounterSettings(), tmp_path / "file", clock, str), LocalCounters)
