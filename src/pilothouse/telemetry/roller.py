"""Moves payloads out of the table into files: of a day that is over, and of today when there is much of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import msgspec

from pilothouse.domain.clock import Clock
from pilothouse.domain.errors import StoreError
from pilothouse.store.telemetry import TelemetryStore, lines
from pilothouse.telemetry import payload_files
from pilothouse.telemetry.payloads import DAY_US, folder

ROLL_ROWS = 50_000  # so many of one day are moved while the day goes on …
ROLL_TEXT = 8 << 20  # … or so many bytes of text …
FILE_TEXT = 128 << 20  # … and no more than this into the files of one roll
GRACE_US = 600_000_000  # how long after midnight a day is waited for
LATE_S = 3600.0  # between rolls of what comes for days that are over: each makes a file


class Rolled(msgspec.Struct, frozen=True, kw_only=True):
    """What one call of `roll` moved: rows, and the files they are in now."""

    rows: int = 0
    files: int = 0
    bytes: int = 0


class Roller:
    """Moves payloads of `store` into files. `rows`: of one day, from which on it does not wait for its end."""

    def __init__(
        self, store: TelemetryStore, clock: Clock, *, rows: int = ROLL_ROWS, file_text: int = FILE_TEXT
    ) -> None:
        self._store = store
        self._clock = clock
        self._rows = rows
        self._file_text = file_text
        self._folder = folder(store)
        self._next_late = 0.0
        payload_files.sweep(store)

    def roll(self, text: int = ROLL_TEXT) -> Rolled:
        """Move what is due, a day of so many bytes of text too; raises StoreError, and the rest stays where it is."""
        if self._folder is None:
            return Rolled()
        total = Rolled()
        for day_us in self._due(text):
            while (moved := self._roll_day(day_us)).rows:
                total = Rolled(
                    rows=total.rows + moved.rows, files=total.files + moved.files, bytes=total.bytes + moved.bytes
                )
                if not self._full(self._waiting().get(day_us, (0, 0)), text) and not self._over(day_us):
                    break
        return total

    def tidy(self) -> None:
        """Delete what no list names, and put small files together; raises StoreError."""
        with self._whole("payload files cannot be put together", "they stay as they are"):
            payload_files.sweep(self._store)
            payload_files.merge(self._store, self._over)

    @contextmanager
    def _whole(self, failed: str, hint: str) -> Iterator[None]:
        """All of it or nothing: where it fails, files that no list names go, and a StoreError says so."""
        try:
            yield
        except (duckdb.Error, OSError) as error:
            payload_files.sweep(self._store)
            reason = str(error).partition("\n")[0]
            raise StoreError(f"{failed}: {reason}", where=str(self._folder), hint=hint) from error

    def settle(self, before_us: int) -> None:
        """Move every payload of the days before, also of those that came late; raises StoreError."""
        if self._folder is None:
            return
        for day_us in [day_us for day_us in self._waiting() if day_us < before_us]:
            while self._roll_day(day_us).rows:
                pass

    def _waiting(self) -> dict[int, tuple[int, int]]:
        """Start of a day (µs) → payloads of it that are in the table, and bytes of their text."""
        rows = self._store.rows(
            f"SELECT epoch_us(ts) // {DAY_US}, count(*), sum({_SIZE})::BIGINT FROM payloads "  # noqa: S608
            "GROUP BY 1 ORDER BY 1"
        )
        return {day * DAY_US: (count, text) for day, count, text in rows}

    def _full(self, found: tuple[int, int], text: int) -> bool:
        return found[0] >= self._rows or found[1] >= text

    def _over(self, day_us: int) -> bool:
        return day_us + DAY_US + GRACE_US <= self._clock.now_us()

    def _due(self, text: int) -> list[int]:
        waiting = self._waiting()
        full = {day_us for day_us, found in waiting.items() if self._full(found, text)}
        over = {day_us for day_us in waiting if self._over(day_us)}
        now = self._clock.monotonic()
        if over and now >= self._next_late:
            self._next_late = now + LATE_S
            full |= over
        return sorted(full)

    def _roll_day(self, day_us: int) -> Rolled:
        """Move at most `rows` rows and about `file_text` of text of the day into one file for each route."""
        root = self._folder or Path()
        failed = "payloads cannot be moved into files"
        with self._whole(failed, "they stay in the store"), self._store.transaction() as write:
            write.execute(_PICK, [day_us, day_us + DAY_US, self._rows, self._file_text])
            routes = write.execute("SELECT DISTINCT route FROM picked ORDER BY ALL").fetchall()
            size = sum(payload_files.put(write, root, day_us, route, _PICKED, {"route": route}) for (route,) in routes)
            row = write.execute("DELETE FROM payloads WHERE rowid IN (SELECT row FROM picked)").fetchone()
            write.execute("DROP TABLE picked")
        return Rolled(rows=int(row[0]) if row else 0, files=len(routes), bytes=size)


_SIZE = "strlen(concat(request, response, upstream))"

# Rows in the order in which they came, as far as rows and text allow; one at least, however long it is.
_PICK = f"""CREATE OR REPLACE TEMP TABLE picked AS
WITH first AS (
  SELECT rowid AS row, owner, ts, {_SIZE} AS size
  FROM payloads WHERE ts >= make_timestamp($1::BIGINT) AND ts < make_timestamp($2::BIGINT) ORDER BY rowid LIMIT $3),
fitting AS (
  SELECT row, owner, ts FROM first QUALIFY sum(size) OVER (ORDER BY row) <= $4 OR row_number() OVER (ORDER BY row) = 1),
bounds AS (SELECT min(ts) AS since, max(ts) AS until FROM fitting),
routes AS (
  SELECT id AS owner, route FROM requests, bounds WHERE ts BETWEEN since AND until
    AND id IN (SELECT owner FROM fitting)
  UNION ALL
  SELECT {lines.OWNERS["span"]}, route FROM spans, bounds WHERE ts BETWEEN since AND until
    AND {lines.OWNERS["span"]} IN (SELECT owner FROM fitting))
SELECT row, coalesce(any_value(r.route), '') AS route
FROM fitting f LEFT JOIN routes r USING (owner) GROUP BY row"""  # noqa: S608  # our own names

_PICKED = "SELECT p.* FROM payloads p JOIN picked k ON p.rowid = k.row WHERE k.route = $route"
