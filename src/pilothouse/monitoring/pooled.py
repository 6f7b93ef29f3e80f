"""A metric over several hosts, each of which has read its own telemetry.

A rate or a mean is that of all requests together: the hosts' values, weighted by what each is of. A count is the sum.
A percentile cannot be put together from percentiles: it is that of the host where it is highest, of those that have
seen enough for themselves, or else of those that have a fair part of all.
"""

from collections.abc import Mapping
from typing import Literal

from pilothouse.domain.wires import MetricPoint
from pilothouse.monitoring.watch import NOTE

Kind = Literal["ratio", "mean", "count", "quantile"]
Reading = tuple[float | None, int]  # value, observations


def pooled(kind: Kind, readings: Mapping[str, Reading], missing: tuple[str, ...], min_n: int = 1) -> MetricPoint:
    """`readings` by host's name. `missing`: hosts that have not said lately what they see; the answer names them."""
    known = {host: (value, n) for host, (value, n) in readings.items() if value is not None and n > 0}
    n = sum(count for _, count in readings.values())
    without = f"without {', '.join(missing)}, not heard" if missing else ""
    if not known:
        return _point(None, n, without)
    over = f"over {len(readings)} hosts" if len(readings) > 1 else ""
    if kind == "quantile":
        where = _highest(known, n, min_n)
        over = f"the highest of {len(readings)} hosts, at {where}" if len(readings) > 1 else ""
        return _point(known[where][0], n, over, without)
    if kind == "count":
        return _point(sum(value for value, _ in known.values()), n, over, without)
    of = sum(count for _, count in known.values())
    return _point(sum(value * count for value, count in known.values()) / of, n, over, without)


def _highest(known: Mapping[str, tuple[float, int]], n: int, min_n: int) -> str:
    """The host whose value is highest, of those that have seen enough."""
    enough = [host for host, one in known.items() if one[1] >= min_n]
    fair = enough or [host for host, one in known.items() if 2 * one[1] * len(known) >= n] or list(known)
    return max(fair, key=lambda host: known[host][0])


def _point(value: float | None, n: int, *said: str) -> MetricPoint:
    note = "; ".join(one for one in said if one)
    return MetricPoint(value=value, n=n, labels={NOTE: note} if note else {})
