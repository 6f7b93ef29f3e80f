"""The telemetry store: wide immutable rows in DuckDB, one writer."""
