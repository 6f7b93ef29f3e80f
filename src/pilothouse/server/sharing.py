"""A canary over several hosts: each tells what its own telemetry shows of it, the leader reads what all have told.

A host tells in one row a run, as often as the watch looks, and only the time where nothing has changed. What is told
is bounded: sums over 512 buckets of sessions for each side, share and mean.
"""

import functools
import zlib
from collections.abc import Sequence

import msgspec

from pilothouse.domain.release import CanaryRun
from pilothouse.releases import canary, shown
from pilothouse.releases.arms import Counts
from pilothouse.releases.shown import HostShown, Questions, Shown, Word
from pilothouse.server import arms
from pilothouse.server.composition import Control
from pilothouse.server.hosts import Hosts
from pilothouse.store.state import canaries, canary_counts
from pilothouse.store.state import hosts as rows
from pilothouse.store.telemetry import TelemetryStore

AFTER_US = 30_000_000  # a run that has ended is told of for so long: requests that had begun still end
RECENT_US = 60_000_000  # what a host tells of as recent: the last minute

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(HostShown).decode


class Telling:
    """What this host tells. Keeps what it told last, and what the stable release did before each canary."""

    def __init__(self) -> None:
        self._before: dict[int, Counts] = {}
        self._told: dict[int, bytes] = {}

    def tell(self, control: Control, hosts: Hosts) -> list[CanaryRun]:
        """Tell of every canary that runs, or has just ended; those that run. Blocking."""
        with control.state.read() as conn:
            runs = canaries.recent(conn, control.clock.now_us() - AFTER_US)
            wanted = [canary.asked(conn, run, canary.policy_of(control.config, run.route)) for run in runs]
        minute_us = control.clock.now_us() - RECENT_US
        answers = {one.run.id: _pack(self._answer(control.telemetry, one, minute_us)) for one in wanted}
        self._before = {ident: counts for ident, counts in self._before.items() if ident in answers}
        if answers:
            self._keep(control, hosts, answers)
        return [run for run in runs if run.state == "running"]

    def _answer(self, store: TelemetryStore, asked: Questions, minute_us: int) -> HostShown:
        counts = functools.partial(arms.counts, store)
        found = shown.counted(asked, counts, self._before.get(asked.run.id))
        self._before[asked.run.id] = found.before
        recent = msgspec.structs.replace(asked.canary, since_us=minute_us, table=0)
        return HostShown(
            terms=shown.terms(asked),
            arms=found,
            parts=arms.parts(store, asked.sides),
            recent=counts(recent).requests,
            last_us=arms.last(store, asked.canary),
        )

    def _keep(self, control: Control, hosts: Hosts, answers: dict[int, bytes]) -> None:
        with control.state.beat() as conn:
            canary_counts.keep(conn, list(answers))
            for run_id, said in answers.items():
                mine = functools.partial(canary_counts.tell, conn, run_id, ident=hosts.ident, host=hosts.name)
                if self._told.get(run_id) != said or not mine(told=None):
                    mine(told=zlib.compress(said, 1))
        self._told = answers


def words(control: Control, run_id: int) -> Sequence[Word]:
    """What every host has said of a run, one that has said nothing among them; by name."""
    with control.state.read() as conn:
        listed = {one.ident: one.host for one in rows.every(conn)}
        told = canary_counts.of_run(conn, run_id)
    found = [
        Word(
            host=listed.get(one.ident, one.host),
            told=_read(one.told),
            age_s=one.age_s,
            listed=one.ident in listed,
        )
        for one in told
    ]
    silent = listed.keys() - {one.ident for one in told}
    return sorted([*found, *(Word(host=listed[ident]) for ident in silent)], key=lambda word: word.host)


def _read(told: bytes) -> HostShown | None:
    """What a host has told; None where another version wrote it in a way of its own."""
    try:
        return _unpack(zlib.decompress(told))
    except (zlib.error, msgspec.DecodeError):
        return None


def show(control: Control, asked: Questions) -> Shown:
    """What all hosts have shown of the run. Blocking."""
    return shown.together(asked, words(control, asked.run.id))


def recent_elsewhere(control: Control, run_id: int) -> int:
    """Requests on the canary in the last minute at the other hosts; 0 where there are none. Blocking."""
    if control.hosts is None:
        return 0
    others = [word.told for word in words(control, run_id) if word.host != control.hosts.name and word.listed]
    return sum(told.recent for told in others if told is not None)


def last_us(control: Control, run_id: int) -> int | None:
    """When the last request of a user on the canary's side began, on any host. Blocking."""
    found = [word.told.last_us for word in words(control, run_id) if word.told is not None]
    return max((ts_us for ts_us in found if ts_us is not None), default=None)
