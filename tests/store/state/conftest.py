from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.postgres import Postgres

from pilothouse.domain.change import Actor
from pilothouse.domain.clock import FrozenClock
from pilothouse.store.state import postgres, sqlite
from pilothouse.store.state.engine import StateStore
from pilothouse.store.state.postgres import Server


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
def ana() -> Actor:
    return Actor(type="person", id="ana")


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | Server:
    """Where a store has never been: everything is tested on both engines."""
    if request.param == "sqlite":
        return tmp_path / "state.db"
    server: Postgres = request.getfixturevalue("postgres")
    return server.fresh()


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StateStore]:
    if request.param == "sqlite":
        opened = StateStore(tmp_path / "state.db")
    else:
        server: Postgres = request.getfixturevalue("postgres")
        opened = StateStore(server.fresh(migrated=True))
    yield opened
    opened.close()


@pytest.fixture
def outside(store: StateStore) -> Callable[..., None]:
    """SQL from somebody who comes around the product."""

    def run(*statements: str) -> None:
        engine = postgres.engine(store.place) if isinstance(store.place, Server) else sqlite.engine(store.place)
        try:
            with engine.begin() as conn:
                for statement in statements:
                    conn.exec_driver_sql(statement)
        finally:
            engine.dispose()

    return run


@pytest.fixture
def unguarded(store: StateStore, outside: Callable[..., None]) -> Callable[[str, str], None]:
    """Take a table's guard away: `unguarded("changes", "update")`."""

    def drop(table: str, verb: str) -> None:
        on = f" ON {table}" if isinstance(store.place, Server) else ""
        outside(f"DROP TRIGGER {table}_no_{verb}{on}")

    return drop
