"""What the store's own file and its log take, kept small when there is time for it."""

from pathlib import Path

from pilothouse.store.telemetry import TelemetryStore
from pilothouse.telemetry.journal import disk_free

LOG_BYTES = 1 << 20  # of the write-ahead log: worth folding in
FREE_MIN, FREE_SHARE = 4 << 20, 0.2  # free bytes in the file that are worth writing it anew, and their share of it …
SMALL = 256 << 20  # … while it is no larger than this; retention sees to larger ones


def settle(store: TelemetryStore, *, quiet: bool) -> None:
    """Fold the log in; where it is `quiet`, also give back what that has left free. Raises StoreError, duckdb.Error."""
    if store.folder is None:
        return
    log = Path(f"{store.path}.wal")
    if log.exists() and log.stat().st_size >= LOG_BYTES:
        store.checkpoint()
    if not quiet:
        return
    used, free = store.space()
    worth = free >= FREE_MIN and free >= FREE_SHARE * (used + free)
    if worth and used <= SMALL and disk_free(store.folder) > 2 * used:
        store.rewrite()
