"""Whether a worker counts as busy."""

import time
from pathlib import Path

import pytest

from pilothouse.domain import pace as paces
from pilothouse.domain.pace import Pace, occupied_s


def test_a_worker_is_busy_while_it_used_most_of_the_time_since_the_last_look() -> None:
    used = 5.0
    pace = Pace(lambda: used)
    assert not pace.busy
    pace.look(100.0)
    assert not pace.busy
    seen = []
    for more in (0.9, 0.59, 0.61, 0.0):
        used += more
        pace.look(pace._at + 1.0)
        seen.append(pace.busy)
    assert seen == [True, False, True, False]


@pytest.mark.parametrize("told", [None, b"", b"x y z\n", b"2500000000 500000000 7\n"])
def test_waiting_for_a_processor_counts_where_the_system_tells_of_it(
    told: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "schedstat"
    monkeypatch.setattr(paces, "_SCHEDULED", file)
    if told is not None:
        file.write_bytes(told)
    least = 3.0 if told and told[:1] == b"2" else time.thread_time()
    assert least <= occupied_s() <= least + 1.0
