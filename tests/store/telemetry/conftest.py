"""Both engines behind one fixture: DuckDB, and ClickHouse's engine (chDB) behind its HTTP interface."""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from tests.store.telemetry.engine import engine
from tests.store.telemetry.rows import loaded

from pilothouse.store.telemetry import TelemetryStore
from pilothouse.store.telemetry.clickhouse import ClickHouseStore

Opens = Callable[[], TelemetryStore]
_numbers = count(1)


@pytest.fixture(scope="session")
def clickhouse_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with engine(tmp_path_factory.mktemp("chdb")) as (port, _):
        yield port


@pytest.fixture
def clickhouse(clickhouse_port: int, tmp_path: Path) -> Opens:
    """Opens the same new database each time that it is called."""
    url = f"clickhouse://localhost:{clickhouse_port}/test{next(_numbers)}"
    return lambda: ClickHouseStore(url, tmp_path / "spool")


@pytest.fixture(params=["duckdb", "clickhouse"])
def opens(request: pytest.FixtureRequest, tmp_path: Path) -> Opens:
    """Opens the store of this test; again, after it was closed."""
    if request.param == "clickhouse":
        opener: Opens = request.getfixturevalue("clickhouse")
        return opener
    return lambda: TelemetryStore(tmp_path / "telemetry.duckdb")


@pytest.fixture
def store(opens: Opens) -> Iterator[TelemetryStore]:
    opened = opens()
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def both(
    clickhouse_port: int, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[TelemetryStore, TelemetryStore]]:
    """DuckDB and ClickHouse with the same rows, for tests that leave them as they are."""
    folder = tmp_path_factory.mktemp("both")
    duck = TelemetryStore(folder / "telemetry.duckdb")
    house = ClickHouseStore(f"clickhouse://localhost:{clickhouse_port}/both", folder / "spool")
    for store, root in ((duck, folder / "a"), (house, folder / "b")):
        loaded(store, root)
    yield duck, house
    house.close()
    duck.close()
