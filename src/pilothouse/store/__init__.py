"""The stores: state (SQLAlchemy), telemetry (DuckDB)."""
