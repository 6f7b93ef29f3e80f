"""What becomes of an OTLP batch, whichever door it came in by: who sends it, is there room, what of it is kept."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import structlog

from pilothouse.domain.clock import Clock
from pilothouse.domain.errors import BadRequest, PilothouseError, RequestError, TooLarge, UnsupportedMedia
from pilothouse.domain.principal import Principal
from pilothouse.domain.record import LossRecord
from pilothouse.domain.table import Table
from pilothouse.domain.wires import Authenticate, JournalLine
from pilothouse.security.keys import ANONYMOUS
from pilothouse.telemetry import otlp, otlp_logs, otlp_metrics
from pilothouse.telemetry.backlog import waiting_bytes
from pilothouse.telemetry.events import BLOCKED, EventNormaliser, Origin
from pilothouse.telemetry.journal import Journal, disk_free
from pilothouse.telemetry.modes import Modes
from pilothouse.telemetry.normalise import Normaliser
from pilothouse.telemetry.otlp_groups import LOGS, TRACES, Signal
from pilothouse.telemetry.otlp_logs import OtlpEvent
from pilothouse.telemetry.spans import Decoded, OtlpSpan

log = structlog.get_logger("pilothouse.ingest")

UNREADABLE = (BadRequest, TooLarge, UnsupportedMedia)  # an exporter drops a batch that is refused so
BACKLOG_BYTES = 1 << 30  # of lines that are not loaded
BACKLOG_S = 1.0  # how often they are counted
AT_ONCE = 4  # batches decoded at a time: bounds the memory
PIECE = 64  # records between two looks at other connections
WRITE = 1_024  # records that go to the journal in one call
AHEAD_S, BEHIND_S = 60, 86_400  # a span that starts so far in the future, or ended so long ago, is flagged
SKEW = "pilothouse.clock_skew_s"  # the flag: how far the span's time is ahead of ours (below 0: behind)
FULL = "the journal's disk is full"
_WHAT: dict[str, Literal["span", "event", "metric"]] = {"traces": "span", "logs": "event", "metrics": "metric"}


def unavailable(what: str, hint: str) -> RequestError:
    """Not now, but later: the exporter keeps the batch and sends it again."""
    return RequestError(what, hint=hint, code="unavailable")


class Room:
    """Whether there is room for another batch: lines that wait to be loaded, and free disk, looked at once a second."""

    def __init__(self, root: Path, worker: str, limit: int, reserve_bytes: int, clock: Clock) -> None:
        self._root, self._worker = root, worker
        self._limit = limit
        self._reserve = reserve_bytes
        self._clock = clock
        self._next = -1.0
        self._waiting = 0
        self._free = 0

    def refuse_without(self) -> None:
        """Raises RequestError `backlog`, or `unavailable` where the disk is nearly full."""
        now = self._clock.monotonic()
        if now >= self._next:
            self._next = now + BACKLOG_S
            self._waiting = waiting_bytes(self._root, self._worker)
            self._free = disk_free(self._root)
        if self._waiting > self._limit:
            raise RequestError(
                f"{self._waiting >> 20} MiB of spans wait to be loaded, over the limit of {self._limit >> 20} MiB",
                hint="is control running? send the batch again later",
                code="backlog",
            )
        if self._free < self._reserve:
            raise unavailable(f"the journal's disk has {self._free >> 20} MiB left", "free some, or send it later")


class Receiver:
    """Takes batches into the journal. `stopping`: no more."""

    def __init__(
        self,
        *,
        table: Callable[[], Table | None],
        authenticate: Authenticate,
        normaliser: Normaliser,
        events: EventNormaliser,
        journal: Journal,
        room: Room,
        clock: Clock,
    ) -> None:
        self._modes = Modes(table)
        self.stopping = False
        self.slots = asyncio.Semaphore(AT_ONCE)  # held while a batch is in memory
        self._table = table
        self._authenticate = authenticate
        self._normaliser = normaliser
        self._events = events
        self._journal = journal
        self._room = room
        self._clock = clock

    @property
    def ready(self) -> str:
        """`ready`, or why not."""
        return "stopping" if self.stopping else ("ready" if self._table() is not None else "no table yet")

    def admit(self, authorization: str | None, key: str | None) -> Principal:
        """Who sends, by a Bearer header or a key of its own. Raises Unauthorized, RequestError `unavailable` while
        there is no table or it stops, `backlog`.
        """
        if self.stopping:
            raise unavailable("the receiver is stopping", "send the batch again")
        table = self._table()
        if table is None:
            raise unavailable("the receiver has no table yet", "start control, then send the batch again")
        if table.anonymous and not table.keys:
            principal = ANONYMOUS
        else:
            principal = self._authenticate(f"Bearer {key}" if key else authorization, table)
        self._room.refuse_without()
        return principal

    async def keep(self, signal: Signal, data: bytes, kind: str, principal: Principal) -> bytes:
        """Take a batch, not compressed, into the journal; the answer's body. Raises BadRequest."""
        env, default = ("", principal.env) if principal is ANONYMOUS else (principal.env, "")
        origin = Origin(now_us=self._clock.now_us(), env=env, default_env=default)
        decoded, lines = self._read(signal, data, kind, origin)
        lost = await self._write(lines)
        self._tell(signal, decoded)
        if lost:
            decoded.reject(FULL, lost)
        if decoded.rejected:
            log.warning("a batch was taken in part", signal=signal.name, reasons=decoded.reasons)
        return otlp.success(kind, decoded, signal)

    def _read(self, signal: Signal, data: bytes, kind: str, origin: Origin) -> tuple[Decoded, Iterator[JournalLine]]:
        if signal is TRACES:
            spans = otlp.spans(data, kind)
            self._modes.learn(spans.spans, origin.env)
            return spans, self._spans(spans.spans, origin)
        if signal is LOGS:
            logs = otlp_logs.decode(data, kind)
            self._modes.learn(logs.events, origin.env)
            return logs, self._logs(logs.events, origin)
        points = otlp_metrics.decode(data, kind)
        return points, self._points(points, origin)

    def _spans(self, spans: list[OtlpSpan], origin: Origin) -> Iterator[JournalLine]:
        ahead, behind = (origin.now_us + AHEAD_S * 1_000_000) * 1_000, (origin.now_us - BEHIND_S * 1_000_000) * 1_000
        withheld: Counter[str] = Counter()
        for span in spans:
            mode, route = self._modes.of(span, origin.env)
            if mode == "off":
                withheld[route] += 1
                continue
            record = self._normaliser.span(span, env=origin.env, default_env=origin.default_env, mode=mode)
            if span.start_ns > ahead or span.end_ns < behind:
                skew = (record.ts_us - origin.now_us) / 1e6
                record.attributes = {**record.attributes, SKEW: f"{skew:.0f}"}
            yield record
        yield from self._withheld(withheld, "spans", origin)

    def _logs(self, events: list[OtlpEvent], origin: Origin) -> Iterator[JournalLine]:
        withheld: Counter[str] = Counter()
        for event in events:
            mode, route = self._modes.of(event, origin.env)
            if mode == "off":
                withheld[route] += 1
            else:
                yield self._events.event(event, origin, mode)
        yield from self._withheld(withheld, "events", origin)

    def _withheld(self, counts: Counter[str], what: str, origin: Origin) -> Iterator[LossRecord]:
        """What log mode `off` leaves out is told to nobody as lost, since it was taken as the policy says; it is
        counted here, so that a gap in a trace has its reason.
        """
        for route, count in counts.items():
            reason = f"{what} of {route or 'no route'}: log mode off"
            worker = self._journal.worker
            yield LossRecord(ts_us=origin.now_us, worker=worker, what="withheld", count=count, reason=reason)

    def _points(self, decoded: otlp_metrics.DecodedPoints, origin: Origin) -> Iterator[JournalLine]:
        for point in decoded.points:
            record = self._events.point(point, origin)
            if record is None:
                decoded.reject(BLOCKED)
            else:
                yield record

    async def _write(self, lines: Iterator[JournalLine]) -> int:
        """Write the lines as they are made, with looks at other connections between; the number that were lost."""
        batch: list[JournalLine] = []
        lost = 0
        for n, line in enumerate(lines, 1):
            batch.append(line)
            if len(batch) == WRITE:
                lost += self._journal.write_all(batch)
                batch.clear()
            if n % PIECE == 0:
                await asyncio.sleep(0)
        return lost + (self._journal.write_all(batch) if batch else 0)

    def refuse(self, signal: Signal, error: PilothouseError) -> None:
        """Tell the loss of a batch that cannot be read at all. It counts as one: nobody knows how much it held."""
        log.warning("a batch was refused", signal=signal.name, why=str(error))
        self._lose(signal, 1, f"a whole batch was refused with {error.status}")

    def _tell(self, signal: Signal, decoded: Decoded) -> None:
        """Losses into the journal. A log record that is no GenAI event is none: it was never ours to keep."""
        for reason, count in decoded.reasons.items():
            if reason != otlp_logs.NOT_GENAI:
                self._lose(signal, count, f"rejected: {reason}")

    def _lose(self, signal: Signal, count: int, reason: str) -> None:
        what = _WHAT[signal.name]
        worker = self._journal.worker
        self._journal.write(
            LossRecord(ts_us=self._clock.now_us(), worker=worker, what=what, count=count, reason=reason)
        )
