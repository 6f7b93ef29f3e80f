"""Every row of the fault matrix, played over real sockets; and its page, which is what the rows showed."""

import asyncio

import pytest
from tests.gateway.fault_clients import CLIENTS
from tests.gateway.fault_matrix import ROWS
from tests.gateway.fault_page import PAGE, page
from tests.gateway.fault_stage import Row, Seen, play


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Seen]:
    """All rows, many at a time: alone they would take minutes."""
    pytest.importorskip("valkey")
    return asyncio.run(play(tmp_path_factory.mktemp("faults"), list(ROWS), CLIENTS))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_a_fault_has_its_outcome(row: Row, played: dict[str, Seen]) -> None:
    assert played[row.id] == row.seen


def test_the_page_says_what_was_seen(played: dict[str, Seen]) -> None:
    assert PAGE.read_text(encoding="utf-8") == page(ROWS, played), "run: python -m tests.gateway.fault_page"


def test_rows_are_many_and_their_own() -> None:
    assert len(ROWS) >= 60
    assert len({row.id for row in ROWS}) == len(ROWS)
