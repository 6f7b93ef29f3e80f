"""The counters that the app's files ask for, opened."""

from pathlib import Path

import structlog

from pilothouse.domain.clock import Clock
from pilothouse.domain.errors import PilothouseError
from pilothouse.domain.table import CounterSettings
from pilothouse.domain.wires import SecretReader
from pilothouse.store.counters.bounds import Counters
from pilothouse.store.counters.local import LocalCounters
from pilothouse.store.counters.shared import SharedCounters
from pilothouse.store.counters.valkey import ValkeyCounters

log = structlog.get_logger("pilothouse.counters")


def open_counters(
    settings: CounterSettings, folder: Path, clock: Clock, secret: SecretReader, *, sole: bool = False
) -> Counters:
    """The counters of one worker; `folder` is the data directory. `sole`: it is the host's only worker.

    Where they cannot be had the worker counts alone, which the log says: limits do not take the gateway down. Only
    with `on_error: closed` does it raise then.
    """
    try:
        if settings.kind == "valkey":
            return ValkeyCounters(secret(settings.url), clock, settings.on_error)
        if settings.kind == "shared":
            return SharedCounters(folder, clock, sole=sole)
    except PilothouseError as error:
        if settings.on_error == "closed":
            raise
        log.error("limits and budgets are counted by this worker alone", why=str(error))
    return LocalCounters(clock)
