"""How flags were used: evaluations by flag, environment and variant, as the workers counted them."""

from pilothouse.domain.flag_facts import FlagUse
from pilothouse.store.telemetry import TelemetryStore, dialect

NAME = "pilothouse.flag.evaluations"  # as the gateway names the metric


def uses(store: TelemetryStore, since_us: int, env: str = "", flag: str = "") -> list[FlagUse]:
    """Evaluations since then, by flag, environment and variant; an empty `env` or `flag`: all of them."""
    found = store.query(
        f"""SELECT attributes['flag'] AS flag, env, attributes['variant'] AS variant,
  sum(value)::BIGINT AS n, {dialect.micros("max(ts)")} AS last_us
FROM app_metrics
WHERE name = ? AND app = 'pilothouse' AND ts >= {dialect.at()} AND (? = '' OR env = ?)
  AND (? = '' OR attributes['flag'] = ?)
GROUP BY ALL ORDER BY flag, env, variant""",  # noqa: S608  # our own names
        [NAME, since_us, env, env, flag, flag],
    )
    return [FlagUse(**row) for row in found]


def over_time(
    store: TelemetryStore, flag: str, env: str, since_us: int, bucket_s: int
) -> dict[str, list[tuple[int, int]]]:
    """Variant → (start of a bucket in µs since 1970, evaluations in it), in time; buckets without any are left out."""
    bucket = dialect.time_bucket("ts", bucket_s)
    found = store.query(
        f"""SELECT attributes['variant'] AS variant, {dialect.micros(bucket)} AS at_us, sum(value)::BIGINT AS n
FROM app_metrics
WHERE name = ? AND app = 'pilothouse' AND ts >= {dialect.at()} AND env = ? AND attributes['flag'] = ?
GROUP BY ALL ORDER BY at_us""",  # noqa: S608  # our own names
        [NAME, since_us, env, flag],
    )
    series: dict[str, list[tuple[int, int]]] = {}
    for row in found:
        series.setdefault(row["variant"], []).append((row["at_us"], row["n"]))
    return series
