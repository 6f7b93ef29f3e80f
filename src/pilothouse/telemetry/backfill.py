"""A store of an earlier version gets its entries, marks and rollups: the newest hours first, while it is in use.

Counts come first and at once, before anything new is loaded, so that nothing is counted twice. Entries are made an hour
at a time between loads; what is loaded in between makes its own. `meta` says how far they are, so a kill costs an hour.
"""

import duckdb
import structlog

from pilothouse.domain.errors import StoreError
from pilothouse.store.telemetry import TelemetryStore
from pilothouse.telemetry import entries, marks, rollups
from pilothouse.telemetry.lookup import LEFT

log = structlog.get_logger("pilothouse.backfill")

HOUR_US = 3_600_000_000
AT_ONCE = 60_000  # spans; an hour of more is halved …
SHORTEST_US = 1_000_000  # … down to this
COUNTED = "rollups_counted"
MARKED = "marks_version"


class Backfill:
    """What is left to make for rows of an earlier version; called between loads, from one thread at a time."""

    def __init__(self, store: TelemetryStore) -> None:
        self._store = store
        self._before_us = self._left()

    @property
    def done(self) -> bool:
        """Nothing is left."""
        return self._before_us is None

    def step(self) -> int:
        """Make the entries of one more hour; how many. Raises StoreError, and then the hour is made another time."""
        if self._before_us is None:
            return 0
        try:
            with self._store.transaction() as write:
                made = self._hour(write, self._before_us)
        except duckdb.Error as error:
            reason = str(error).partition("\n")[0]
            raise StoreError(f"an hour's entries cannot be made: {reason}", where=str(self._store.path)) from error
        self._before_us = self._left()
        while marks.seal(self._store):
            pass
        log.info("traces of an earlier version made ready", entries=made, before_us=self._before_us)
        return made

    def _left(self) -> int | None:
        rows = self._store.rows("SELECT value FROM meta WHERE key = ?", [LEFT])
        return int(rows[0][0]) if rows else None

    def _hour(self, write: duckdb.DuckDBPyConnection, before_us: int) -> int:
        """The newest hour with rows before that time; where there is none, all is done."""
        newest = write.execute(
            "SELECT greatest((SELECT epoch_us(max(ts)) FROM spans WHERE ts < make_timestamp($1::BIGINT)), "
            "(SELECT epoch_us(max(ts)) FROM requests WHERE ts < make_timestamp($1::BIGINT)))",
            [before_us],
        ).fetchone()
        if newest is None or newest[0] is None:
            write.execute("DELETE FROM meta WHERE key = ?", [LEFT])
            return 0
        since_us = newest[0] // HOUR_US * HOUR_US
        while newest[0] - since_us > SHORTEST_US and _rows(write, since_us, before_us) > AT_ONCE:
            since_us = (since_us + newest[0] + 1) // 2
        batches = {}
        for kind, table in (("span", "spans"), ("request", "requests")):
            batches[kind] = f"hour_{table}"
            write.execute(
                f"CREATE OR REPLACE TEMP TABLE hour_{table} AS SELECT * FROM {table} "  # noqa: S608  # own names
                "WHERE ts >= make_timestamp(?::BIGINT) AND ts < make_timestamp(?::BIGINT)",
                [since_us, before_us],
            )
        made = entries.add(self._store, write, batches)
        for name in batches.values():
            write.execute(f"DROP TABLE {name}")
        write.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", [LEFT, str(since_us)])
        return made


def _rows(write: duckdb.DuckDBPyConnection, since_us: int, before_us: int) -> int:
    row = write.execute(
        "SELECT count(*) FROM spans WHERE ts >= make_timestamp(?::BIGINT) AND ts < make_timestamp(?::BIGINT)",
        [since_us, before_us],
    ).fetchone()
    return int(row[0]) if row else 0


def begin(store: TelemetryStore, now_us: int) -> None:
    """Where rows stand without entries, or with fewer marks, note that these are to be made; raises StoreError.

    What was not counted is counted at once.
    """
    if store.replaces:  # its tables have had entries from the first
        return
    try:
        with store.transaction() as write:
            known = dict(store.rows("SELECT key, value FROM meta"))
            counted, marked = COUNTED in known, known.get(MARKED) == str(marks.VERSION)
            if counted and marked:
                return
            if store.rows("SELECT 1 FROM spans LIMIT 1") or store.rows("SELECT 1 FROM requests LIMIT 1"):
                log.info("a store of an earlier version: its traces are made ready while it is used", counted=counted)
                if not counted:
                    rollups.count_anew(write)
                write.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", [LEFT, str(now_us + 365 * 24 * HOUR_US)])
            write.execute("INSERT OR REPLACE INTO meta VALUES (?, '1'), (?, ?)", [COUNTED, MARKED, str(marks.VERSION)])
    except duckdb.Error as error:
        reason = str(error).partition("\n")[0]
        raise StoreError(f"the store cannot be counted anew: {reason}", where=str(store.path)) from error
