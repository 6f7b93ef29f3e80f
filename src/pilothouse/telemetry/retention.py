"""Retention: records leave by whole days (UTC), when they are old enough or when the disk cap asks for it.

    payloads    prompts and answers, hot or in files        general or by route
    spans       apps' spans and their events                general or by route; never under the floor
    requests    requests, attempts, scores                  general or by route; never under the floor
    metrics     what apps sent as metrics
    rollups     counts by the minute

Each day that goes is a row of `removals`, written in the transaction that deletes it; one that the disk cap takes is a
row of `losses` too. The audit trail is another store's, and nothing here touches it.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import msgspec

from pilothouse.config.retention import Keep, RetentionConfig
from pilothouse.domain.clock import Clock
from pilothouse.domain.errors import StoreError
from pilothouse.store.telemetry import TelemetryStore
from pilothouse.store.telemetry.files import quoted
from pilothouse.telemetry import entries, payloads, rollups
from pilothouse.telemetry.journal import disk_free
from pilothouse.telemetry.payloads import DAY_US
from pilothouse.telemetry.roller import Roller

AGE, CAP = "age", "disk cap"
GENERAL = "*"  # the route of what holds for all that have no rule of their own
FREE_MIN = 256 << 20  # free bytes within the file that are worth writing it anew …
ROOM, ROOM_FILE = 8 << 20, ".room"  # bytes, beside the payload files
FREE_SHARE = 0.5  # … and their share of it

# class → tables, each with its time and what tells that a row is of the routes `{routes}`
_BY_OWNER = """owner IN (SELECT id FROM requests WHERE {routes}
  UNION ALL SELECT trace_id || '/' || span_id FROM spans WHERE {routes})"""
_BY_TRACE = "trace_id IN (SELECT trace_id FROM spans WHERE {routes})"
_TABLES: dict[str, tuple[tuple[str, str, str], ...]] = {
    "spans": (("span_events", "ts", _BY_TRACE), ("spans", "ts", "{routes}")),
    "requests": (("attempts", "ts", "{routes}"), ("scores", "ts", "{routes}"), ("requests", "ts", "{routes}")),
    "payloads": (("payloads", "ts", _BY_OWNER),),  # of a store that keeps them in its table
    "metrics": (("app_metrics", "ts", ""),),
    "rollups": tuple((table, "minute", "") for rollup in rollups.ROLLUPS for table in (rollup.minute, rollup.hour)),
}
_MAIN = {
    "payloads": "payloads",
    "spans": "spans",
    "requests": "requests",
    "metrics": "app_metrics",
    "rollups": "rollup_minute",
}
_LINES = {"spans": "is_trace", "requests": "NOT is_trace"}  # which entries go with them
_CAP_ORDER = ("metrics", "spans", "requests")  # after payloads


class Removal(msgspec.Struct, frozen=True, kw_only=True):
    """A day that went: `what` is the class, `route` one with a rule of its own, or `*`. `bytes`: of payload files."""

    what: str
    day: str
    route: str
    count: int
    bytes: int
    reason: str
    ts_us: int = 0


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes on the disk. `free`: within the store's file, to be used again; not part of `total`."""

    store: int
    free: int
    payloads: int
    journal: int
    cap: int | None

    @property
    def total(self) -> int:
        """What the cap is held against."""
        return self.store + self.payloads + self.journal


class _Group(msgspec.Struct, frozen=True):
    """Rows of one rule: of `route`, or where that is `*` of all routes but `but`."""

    what: str
    route: str = GENERAL
    but: tuple[str, ...] = ()

    def condition(self, shape: str) -> str:
        """SQL that holds for the group's rows; `shape` has `{routes}` in it, or is empty where routes play no part."""
        if not shape or (self.route == GENERAL and not self.but):
            return "true"
        named = ", ".join(quoted(name) for name in (self.but or (self.route,)))
        inner = shape.replace("{routes}", f"route IN ({named})")
        return inner if self.route != GENERAL else f"NOT coalesce({inner}, false)"


class Keeper:
    """Keeps the store within its config; called from one thread at a time. `over`: the cap cannot be met."""

    def __init__(
        self,
        store: TelemetryStore,
        journal: Path,
        clock: Clock,
        config: Callable[[], RetentionConfig],
        roller: Roller | None = None,
    ) -> None:
        self.over = False
        self._store = store
        self._journal = journal
        self._clock = clock
        self._config = config
        self._roller = roller or Roller(store, clock)
        folder = payloads.folder(store)
        self._in_files = folder is not None  # where payloads are; else they are rows like others
        self._folder = folder or Path()
        self._room = None if folder is None else folder / ROOM_FILE

    def tidy(self, exported_us: int | None = None) -> list[Removal]:
        """Move payloads into files, remove what is over its time or over the cap; raises StoreError.

        `exported_us`: what is not older than this still waits for its export, and stays unless the cap takes it.
        On a full disk, where nothing can be written down and so nothing removed, room that was kept is used for it.
        """
        try:
            gone = self._tidy(exported_us)
        except StoreError:
            if not self._give_up_room():
                raise
            gone = self._tidy(exported_us)
        self._keep_room()
        return gone

    def _tidy(self, exported_us: int | None) -> list[Removal]:
        config = self._config()
        now_us = self._clock.now_us()
        today, last = now_us // DAY_US, (now_us if exported_us is None else exported_us) // DAY_US
        self._roller.roll()
        gone = [
            removal for group, kept in _rules(config) for removal in self._expire(group, min(last, today - kept), AGE)
        ]
        capped = self._under_cap(config, today)
        gone += capped
        over = not capped and self._excess(config) > 0  # where the cap has taken some, the next run goes on
        if gone or (over and not self.over):
            self._give_back(needed=over or any(removal.what != "payloads" for removal in capped))
        self.over = over and self._excess(config) > 0
        return gone

    def put_together(self) -> None:
        """Put small payload files of a day together; raises StoreError, and then they stay as they are."""
        self._roller.tidy()

    def usage(self) -> Usage:
        """What telemetry takes now."""
        used, free = self._store.space()
        files = self._store.rows("SELECT coalesce(sum(bytes), 0)::BIGINT FROM payload_files")[0][0]
        journal = sum(_size(path) for path in self._journal.rglob("*")) if self._journal.is_dir() else 0
        return Usage(store=used, free=free, payloads=files, journal=journal, cap=self._config().disk_cap)

    def removals(self, *, untold: bool = False, limit: int = 1000) -> list[Removal]:
        """What went, newest first; `untold`: only what has no entry in the audit trail yet, oldest first."""
        rows = self._store.query(
            "SELECT what, strftime(day, '%Y-%m-%d') AS day, route, count, bytes, reason, epoch_us(ts) AS ts_us "  # noqa: S608
            f"FROM removals {'WHERE NOT told' if untold else ''} "
            f"ORDER BY ts {'' if untold else 'DESC'}, what, day, route LIMIT ?",
            [limit],
        )
        return msgspec.convert(rows, list[Removal])

    def told(self, removal: Removal) -> None:
        """Note that it stands in the audit trail."""
        with self._store.transaction() as write:
            write.execute(
                "UPDATE removals SET told = true WHERE what = ? AND day = ?::DATE AND route = ? "
                "AND ts = make_timestamp(?::BIGINT)",
                [removal.what, removal.day, removal.route, removal.ts_us],
            )

    # ---- by age ----------------------------------------------------------------------------------------------

    def _expire(self, group: _Group, before: int, reason: str) -> Iterator[Removal]:
        """Remove the group's days before the day number `before`, oldest first."""
        if group.what == "payloads":
            self._roller.settle(before * DAY_US)  # into files, which know their routes
        for day in self._days(group, before):
            yield self._remove(group, day, reason)

    def _days(self, group: _Group, before: int) -> list[int]:
        """Numbers of the days before `before` (days since 1970) that have rows of the group."""
        if group.what == "payloads" and self._in_files:
            table, time, shape = "payload_files", "day::TIMESTAMP", "{routes}"
        else:
            table, time, shape = next(found for found in _TABLES[group.what] if found[0] == _MAIN[group.what])
        rows = self._store.rows(
            f"SELECT DISTINCT epoch_us({time}) // {DAY_US} AS day FROM {table} "  # noqa: S608  # our own names, quoted routes
            f"WHERE {time} < make_timestamp(?::BIGINT) AND ({group.condition(shape)}) ORDER BY day",
            [before * DAY_US],
        )
        return [day for (day,) in rows]

    def _remove(self, group: _Group, day: int, reason: str) -> Removal:
        """Remove one day of a group, and write that down, in one transaction."""
        files: list[tuple[str, int, int]] = []
        since_us, now_us = day * DAY_US, self._clock.now_us()
        try:
            with self._store.transaction() as write:
                if group.what == "payloads" and self._in_files:
                    files = _list_off(write, group, since_us)
                    count, size = sum(n for _, n, _ in files), sum(n for _, _, n in files)
                else:
                    count, size = _delete(self._store, write, group, since_us), 0
                write.execute(
                    "INSERT INTO removals VALUES (make_timestamp($now::BIGINT), $what, "
                    "make_timestamp($day::BIGINT)::DATE, $route, $count, $bytes, $reason, false)",
                    {"now": now_us, "what": group.what, "day": since_us, "route": group.route, "count": count,
                     "bytes": size, "reason": reason},
                )  # fmt: skip
                if reason == CAP:
                    write.execute(
                        "INSERT INTO losses VALUES (make_timestamp(?::BIGINT), 'control', ?, ?, ?)",
                        [now_us, group.what.removesuffix("s"), count, reason],
                    )
                named = write.execute("SELECT strftime(make_timestamp(?::BIGINT), '%Y-%m-%d')", [since_us]).fetchall()
        except duckdb.Error as error:
            raise StoreError(
                f"{group.what} cannot be removed: {str(error).partition(chr(10))[0]}", where=str(self._store.path)
            ) from error
        for name, _, _ in files:  # they are listed no more
            (self._folder / name).unlink(missing_ok=True)
        return Removal(
            what=group.what, day=named[0][0], route=group.route, count=count, bytes=size, reason=reason, ts_us=now_us
        )

    # ---- by disk ---------------------------------------------------------------------------------------------

    def _under_cap(self, config: RetentionConfig, today: int) -> list[Removal]:
        """Remove the oldest days until what is left is likely under the cap."""
        if self._excess(config) <= 0:
            return []
        self._roller.settle(today * DAY_US)
        gone = []
        excess = self._excess(config)
        for group, day, size in self._candidates(config, today):
            if excess <= 0:
                break
            gone.append(self._remove(group, day, CAP))
            excess -= gone[-1].bytes or size
        return gone

    def _excess(self, config: RetentionConfig) -> int:
        """Bytes over the cap; 0 where there is none."""
        return 0 if config.disk_cap is None else self.usage().total - config.disk_cap

    def _candidates(self, config: RetentionConfig, today: int) -> Iterator[tuple[_Group, int, int]]:
        """(rows, day, bytes) that may go, in the order in which they should."""
        everything = _Group("payloads")
        for day in self._days(everything, today + 1):
            yield everything, day, 0 if self._in_files else self._share("payloads", day)
        used = self._store.space()[0]
        total = sum(self._count(_MAIN[what]) for what in _CAP_ORDER) or 1
        for what in _CAP_ORDER:
            for group, floor in _floors(config, what):
                for day in self._days(group, min(today, today - floor)):
                    share = used * self._count(_MAIN[what], day) // total if self._in_files else self._share(what, day)
                    yield group, day, share

    def _share(self, what: str, day: int) -> int:
        """About how many bytes of the tables of a class are a day's, where the store knows what a table takes."""
        used = sum(self._store.space(table)[0] for table, _, _ in _TABLES[what])
        return used * self._count(_MAIN[what], day) // max(1, self._count(_MAIN[what]))

    def _count(self, table: str, day: int | None = None) -> int:
        window = (
            ""
            if day is None
            else f"WHERE ts >= make_timestamp({day * DAY_US}) AND ts < make_timestamp({(day + 1) * DAY_US})"
        )
        return int(self._store.rows(f"SELECT count(*) FROM {table} {window}")[0][0])  # noqa: S608  # our own names

    def _give_back(self, *, needed: bool) -> None:
        """Make the file smaller where that is worth it: deleted rows' space is used again otherwise."""
        try:
            self._store.checkpoint()
        except duckdb.Error as error:
            reason = str(error).partition("\n")[0]
            raise StoreError(f"the store's log cannot be folded in: {reason}", where=str(self._store.path)) from error
        used, free = self._store.space()
        worth = needed or (free >= FREE_MIN and free >= FREE_SHARE * (used + free))
        folder = self._store.folder
        if used and worth and (folder is None or disk_free(folder) > used + ROOM):
            self._store.rewrite()

    # ---- on a full disk --------------------------------------------------------------------------------------

    def _keep_room(self) -> None:
        """A file that is in the way, so that there is room to remove something when there is none for anything else."""
        if self._room is None or self._room.exists() or not self._room.parent.is_dir():
            return
        if disk_free(self._room.parent) > 4 * ROOM:
            try:
                self._room.write_bytes(bytes(ROOM))
            except OSError:  # as full as that: another time
                self._room.unlink(missing_ok=True)

    def _give_up_room(self) -> bool:
        """Whether there was such a file."""
        if self._room is None or not self._room.exists():
            return False
        self._room.unlink()
        return True


def _rules(config: RetentionConfig) -> Iterator[tuple[_Group, int]]:
    """Groups that expire, and after how many days."""
    general = config.general
    for what in ("payloads", "spans", "requests"):
        own = {name: keep for name, keep in config.routes.items() if _kept(keep, what) != _kept(general, what)}
        kept = _kept(general, what)
        if kept is not None:
            yield _Group(what, GENERAL, tuple(sorted(own))), kept
        for name, keep in own.items():
            if (days := _kept(keep, what)) is not None:
                yield _Group(what, name), days
    for what, days in (("metrics", config.metrics), ("rollups", config.rollups)):
        if days is not None:
            yield _Group(what), days


def _kept(keep: Keep, what: str) -> int | None:
    """Days; payloads go at the latest with the last rows that lead to them."""
    if what == "spans":
        return keep.spans
    if what == "requests":
        return keep.requests
    rows = None if keep.spans is None or keep.requests is None else max(keep.spans, keep.requests)
    return min((days for days in (keep.payloads, rows) if days is not None), default=None)


def _floors(config: RetentionConfig, what: str) -> Iterator[tuple[_Group, int]]:
    """Groups that the cap may take, and their floors in days."""
    if what == "metrics":
        yield _Group(what), 0
        return
    own = {name: keep.floor for name, keep in config.routes.items() if keep.floor != config.general.floor}
    yield _Group(what, GENERAL, tuple(sorted(own))), config.general.floor
    yield from ((_Group(what, name), floor) for name, floor in own.items())


def _list_off(write: duckdb.DuckDBPyConnection, group: _Group, since_us: int) -> list[tuple[str, int, int]]:
    """Take the day's files off the list: (file, rows, bytes)."""
    return write.execute(
        f"DELETE FROM payload_files WHERE day = make_timestamp(?::BIGINT)::DATE AND ({group.condition('{routes}')}) "  # noqa: S608
        "RETURNING file, count, bytes",
        [since_us],
    ).fetchall()


def _delete(store: TelemetryStore, write: duckdb.DuckDBPyConnection, group: _Group, since_us: int) -> int:
    """Delete the day's rows of a group; how many of its main table."""
    deleted = 0
    for table, time, shape in _TABLES[group.what]:
        row = write.execute(
            f"DELETE FROM {table} WHERE {time} >= make_timestamp(?::BIGINT) AND {time} < make_timestamp(?::BIGINT) "  # noqa: S608
            f"AND ({group.condition(shape)})",
            [since_us, since_us + DAY_US],
        ).fetchone()
        if table == _MAIN[group.what] and row:
            deleted = int(row[0])
    if group.what in _LINES:
        lines = f"{_LINES[group.what]} AND ({group.condition('{routes}')})"
        entries.remove(store, write, since_us, since_us + DAY_US, lines)
    return deleted


def _size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except FileNotFoundError:  # loaded and deleted meanwhile
        return 0
