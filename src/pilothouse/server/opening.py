"""The telemetry store that the app's files ask for, opened."""

from pathlib import Path

from pilothouse.config.store import StoreConfig
from pilothouse.domain.errors import StoreError
from pilothouse.security.secrets import read_secret
from pilothouse.server.datadir import DataDir
from pilothouse.store.telemetry import TelemetryStore
from pilothouse.store.telemetry.clickhouse import ClickHouseStore


def open_telemetry(config: StoreConfig, data: DataDir, app_dir: Path) -> TelemetryStore:
    """DuckDB in the data directory, or ClickHouse. Raises StoreError, or ConfigError for its password."""
    if not config.telemetry:
        return TelemetryStore(data.telemetry)
    return ClickHouseStore(config.telemetry, data.spool, password(config, app_dir))


def password(config: StoreConfig, app_dir: Path) -> str:
    """What the config's reference names; nothing where there is none."""
    return read_secret(config.telemetry_password, app_dir) if config.telemetry_password else ""


def require_telemetry(config: StoreConfig, app_dir: Path) -> None:
    """Raises StoreError where a ClickHouse that the app's files name does not answer."""
    if config.telemetry:
        try:
            ClickHouseStore.look(config.telemetry, password(config, app_dir))
        except StoreError as error:
            error.hint = error.hint or "start it, or mend `store:` in pilothouse.yaml"
            raise
