"""Whether a worker counts as busy."""

from pilothouse.domain.pace import Pace


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
