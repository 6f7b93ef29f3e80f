"""Where a load's payloads go: into a file at once where there is much of one day and route, else into the table.

A file is smaller than the table by a factor, and what has never been in the store's file leaves no hole in it.
"""

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import duckdb

from pilothouse.domain.clock import Clock
from pilothouse.domain.errors import StoreError
from pilothouse.store.telemetry import TelemetryStore, lines
from pilothouse.store.telemetry.files import quoted
from pilothouse.telemetry import payload_files
from pilothouse.telemetry.payloads import DAY_US, folder
from pilothouse.telemetry.roller import ROLL_TEXT, Roller

AT_ONCE = 1 << 20  # bytes of text of one day and route that are worth a file …
AT_REST = 256 << 10  # … and of one day where nothing more comes


class Landing:
    """For one loader, which calls `take` inside its transaction, then `settle`, or `undo` where it did not commit."""

    def __init__(self, store: TelemetryStore, clock: Clock) -> None:
        self._store = store
        self._folder = folder(store)
        self._roller = Roller(store, clock)
        self._table = 0  # bytes of text that went into the table since the last roll
        self._taken = 0  # … and those of the transaction under way

    def take(self, write: Any, kinds: Iterable[str]) -> None:
        """Put the staged batches' payloads where they go; raises duckdb.Error, OSError."""
        self._taken = 0
        for kind in kinds:
            if kind in lines.OWNERS:
                self._take(write, kind)

    def _take(self, write: Any, kind: str) -> None:
        others = "true"
        if self._folder is not None:
            groups = write.execute(_GROUPS.format(batch=lines.batch(kind), day=DAY_US)).fetchall()
            much = [(day * DAY_US, route) for day, route, text in groups if text >= AT_ONCE]
            self._taken += sum(text for _, _, text in groups if text < AT_ONCE)
            for day_us, route in much:
                own = _OF.format(since=day_us, until=day_us + DAY_US, route=quoted(route))
                payload_files.put(write, self._folder, day_us, route, lines.payloads(kind, own))
                others += f" AND NOT ({own})"
        write.execute(f"INSERT INTO payloads {lines.payloads(kind, others)}")

    def settle(self) -> None:
        """After the commit: keep the table small."""
        self._table += self._taken
        if self._table >= ROLL_TEXT:
            self._roll(ROLL_TEXT)

    def rest(self) -> None:
        """When nothing more comes."""
        if self._table >= AT_REST:
            self._roll(AT_REST)

    def _roll(self, text: int) -> None:
        self._table = 0
        with suppress(StoreError):  # they stay; retention tries again, and tells of it
            self._roller.roll(text)

    def undo(self) -> None:
        """Let the files go of a load that did not commit: where the disk is full, that is what made it so."""
        with suppress(StoreError, duckdb.Error, OSError):  # it is done again at the next start, and by retention
            payload_files.sweep(self._store)


_GROUPS = """SELECT epoch_us(ts) // {day}, coalesce(route, ''),
  sum(strlen(concat(payload.request, payload.response, payload.upstream)))::BIGINT
FROM {batch} WHERE payload IS NOT NULL GROUP BY ALL"""

_OF = """ts >= make_timestamp({since}) AND ts < make_timestamp({until}) AND coalesce(route, '') = {route}"""
