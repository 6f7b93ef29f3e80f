"""OTLP metrics as data points: gauges, sums and histograms with explicit buckets."""

import itertools
import math
from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from pilothouse.telemetry.otlp_groups import METRICS, attributes, groups
from pilothouse.telemetry.spans import Decoded

MAX_BUCKETS = 1024
_UNREAD = {
    "exponential_histogram": "exponential histograms are not read: export explicit buckets",
    "summary": "summaries are not read: export a histogram",
}
_TEMPORALITIES: tuple[Literal["", "delta", "cumulative"], ...] = ("", "delta", "cumulative")
_NO_VALUE = 1  # the flag of a point that only says that its series has ended


class OtlpPoint(msgspec.Struct, kw_only=True):
    """One data point. Times in ns since 1970, 0 where not told; `value` of a histogram is its sum."""

    name: str
    unit: str
    type: Literal["gauge", "sum", "histogram"]
    temporality: Literal["", "delta", "cumulative"] = ""
    time_ns: int
    start_ns: int = 0
    value: float | None = None
    count: int | None = None
    bounds: list[float] = []
    counts: list[int] = []
    attributes: dict[str, Any] = {}
    resource: dict[str, Any] = {}


class DecodedPoints(Decoded):
    """The usable data points of a request."""

    points: list[OtlpPoint] = msgspec.field(default_factory=list)


def decode(data: bytes, kind: str) -> DecodedPoints:
    """The data points of an export request, not compressed, in protobuf or JSON. Raises `BadRequest`."""
    decoded = DecodedPoints()
    for resource, _, metrics, unreadable in groups(METRICS, data, kind):
        for reason, count in unreadable.items():
            decoded.reject(reason, count)
        for metric in metrics:
            for found in _points(metric, resource):
                if isinstance(found, str):
                    decoded.reject(found)
                else:
                    decoded.points.append(found)
    return decoded


def _points(metric: Any, resource: dict[str, Any]) -> Iterator[OtlpPoint | str]:
    """The metric's points, or for each that cannot be used the reason."""
    which = metric.WhichOneof("data")
    if which is None:
        return
    data = getattr(metric, which)
    for raw in data.data_points:
        if which in _UNREAD:
            yield _UNREAD[which]
        elif reason := _fault(metric, which, raw):
            yield reason
        else:
            yield _point(metric, which, raw, resource)


def _fault(metric: Any, which: str, raw: Any) -> str:
    """Why a point cannot be used; empty where it can."""
    if not metric.name:
        return "the metric has no name"
    if raw.flags & _NO_VALUE:
        return "the point has no recorded value"
    if raw.time_unix_nano >= 1 << 63 or raw.start_time_unix_nano >= 1 << 63:
        return "the time is out of range"
    if which == "histogram":
        return _histogram_fault(raw)
    if raw.WhichOneof("value") is None or not math.isfinite(raw.as_double):
        return "the value is not a finite number"
    return ""


def _histogram_fault(raw: Any) -> str:
    bounds, counts = raw.explicit_bounds, raw.bucket_counts
    if len(counts) > MAX_BUCKETS:
        return f"the histogram has over {MAX_BUCKETS} buckets"
    if counts and len(counts) != len(bounds) + 1:
        return "the histogram's buckets do not fit its bounds"
    if not all(map(math.isfinite, bounds)) or any(a >= b for a, b in itertools.pairwise(bounds)):
        return "the histogram's bounds do not ascend"
    if (counts and sum(counts) != raw.count) or raw.count >= 1 << 63:
        return "the histogram's buckets do not sum to its count"
    return "" if math.isfinite(raw.sum) else "the value is not a finite number"


def _point(metric: Any, which: Any, raw: Any, resource: dict[str, Any]) -> OtlpPoint:
    data = getattr(metric, which)
    temporality = data.aggregation_temporality if which != "gauge" else 0
    point = OtlpPoint(
        name=metric.name,
        unit=metric.unit,
        type=which,
        temporality=_TEMPORALITIES[temporality] if 0 <= temporality < len(_TEMPORALITIES) else "",
        time_ns=raw.time_unix_nano,
        start_ns=raw.start_time_unix_nano,
        attributes=attributes(raw.attributes),
        resource=resource,
    )
    if which == "histogram":
        point.value = raw.sum if raw.HasField("sum") else None
        point.count = raw.count
        point.bounds, point.counts = list(raw.explicit_bounds), list(raw.bucket_counts)
    else:
        point.value = float(raw.as_int if raw.WhichOneof("value") == "as_int" else raw.as_double)
    return point
