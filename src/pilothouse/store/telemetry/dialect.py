"""The few fragments of SQL in which stores differ, by hand; the rest is SQL that they share."""

from pilothouse.store.telemetry.schema import HISTOGRAM_MS

BUCKETS = len(HISTOGRAM_MS) + 1  # one more for what is above the last bound


def at(parameter: str = "?") -> str:
    """A time given as µs since 1970."""
    return f"make_timestamp({parameter}::BIGINT)"


def micros(column: str) -> str:
    """µs since 1970 of a time."""
    return f"epoch_us({column})"


def bucket_of(ms: str) -> str:
    """The index of the HISTOGRAM_MS bucket that a duration falls in; its bounds are 10^(i/10) ms. NULL stays NULL."""
    # `least` and `greatest` skip NULLs, so unknown has to be said outright.
    index = f"least({BUCKETS - 1}, greatest(0, ceil(10 * log10(greatest({ms}, 1e-9)))))::UTINYINT"
    return f"CASE WHEN {ms} IS NOT NULL THEN {index} END"


def histogram(bucket: str) -> str:
    """Counts per bucket, as a list, of a column made with `bucket_of`."""
    # One aggregate: as many as there are buckets take longer to plan than a batch's rows to count.
    return f"list_transform(range({BUCKETS}), lambda i: coalesce(histogram({bucket})[i::UTINYINT], 0))"


def merged(histogram_column: str) -> str:
    """Histograms of a group, added bucket by bucket."""
    return "[" + ", ".join(f"sum({histogram_column}[{i + 1}])::BIGINT" for i in range(BUCKETS)) + "]"


def time_bucket(column: str, seconds: int) -> str:
    """The start of the bucket of so many seconds, counted from 1970, that a time falls in."""
    return f"make_timestamp(epoch_us({column}) // {seconds * 1_000_000} * {seconds * 1_000_000})"


def quantile(expression: str, q: float, where: str = "") -> str:
    """The exact quantile, interpolated between neighbours; NULL over nothing."""
    return f"quantile_cont({expression}, {q})" + (f" FILTER ({where})" if where else "")
