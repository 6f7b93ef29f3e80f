"""The telemetry store: wide immutable rows in DuckDB, one writer."""

from pilothouse.store.telemetry.duck import TelemetryStore
from pilothouse.store.telemetry.schema import HISTOGRAM_MS

__all__ = ["HISTOGRAM_MS", "TelemetryStore"]
