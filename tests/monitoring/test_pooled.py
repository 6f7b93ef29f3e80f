"""A rule's metric over hosts: rates and means are those of all requests, a percentile is the worst host's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.monitoring.pooled import pooled
from pilothouse.monitoring.watch import NOTE

hosts = st.dictionaries(st.sampled_from("abc"), st.tuples(st.integers(0, 40), st.integers(1, 40)), min_size=1)


@given(hosts)
def test_a_rate_is_that_of_all_requests_together(parts):
    given_ = {host: (min(bad, n), n) for host, (bad, n) in parts.items()}
    found = pooled("ratio", {host: (bad / n, n) for host, (bad, n) in given_.items()}, ())
    bad, n = (sum(pair[place] for pair in given_.values()) for place in (0, 1))
    assert (found.value, found.n) == (pytest.approx(bad / n), n)


def test_a_count_is_the_sum():
    assert pooled("count", {"a": (3.0, 3), "b": (4.0, 4)}, ()).value == 7


def test_a_percentile_is_the_highest_of_the_hosts_that_have_seen_enough():
    readings = {"a": (120.0, 400), "b": (900.0, 30), "c": (5_000.0, 1)}
    found = pooled("quantile", readings, (), min_n=20)
    assert (found.value, found.n, found.labels[NOTE]) == (900.0, 431, "the highest of 3 hosts, at b")
    few = pooled("quantile", {"a": (120.0, 15), "b": (900.0, 12), "c": (5_000.0, 1)}, (), min_n=20)
    assert few.value == 900.0  # nobody has seen enough alone: of those with a fair part


def test_a_host_without_requests_says_nothing_and_one_that_is_not_heard_is_named():
    found = pooled("mean", {"a": (2.0, 10), "b": (None, 0)}, ("c",))
    assert (found.value, found.n, found.labels[NOTE]) == (2.0, 10, "over 2 hosts; without c, not heard")
    silent = pooled("ratio", {"a": (None, 0)}, ("b",))
    assert (silent.value, silent.n, silent.labels[NOTE]) == (None, 0, "without b, not heard")
    assert pooled("ratio", {"a": (0.5, 2)}, ()).labels == {}
