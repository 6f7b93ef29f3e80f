from collections.abc import Iterator
from pathlib import Path

import pytest

from pilothouse.domain.change import Actor
from pilothouse.domain.clock import FrozenClock
from pilothouse.store.state.engine import StateStore


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
def ana() -> Actor:
    return Actor(type="person", id="ana")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StateStore]:
    opened = StateStore(tmp_path / "state.db")
    yield opened
    opened.close()
