"""Numbers as people read them."""

from collections.abc import Sequence
from datetime import UTC, datetime

from pilothouse.domain.finding import Limit

DAY_MS = 86_400_000.0


def share(value: float) -> str:
    """0.0123 → `1.2 %`; as many digits as tell 99.95 % from 100 %."""
    percent = value * 100
    if value in (0.0, 1.0):
        return f"{percent:.0f} %"
    if percent > 99 or percent < 1:
        # Never rounded to 0 or 100, which would say that there was no exception.
        return f"{min(max(percent, 0.01), 99.99):.2f} %"
    return f"{percent:.1f} %"


def change(value: float) -> str:
    """0.31 → `+31 %`; signs always."""
    return f"{value * 100:+.0f} %".replace("-", "−")


def points(value: float) -> str:
    """A difference of shares: −0.077 → `−7.7 pp`."""
    return f"{value * 100:+.1f} pp".replace("-", "−")


def usd(value: float) -> str:
    """Money, with as many digits as small amounts need: `12.40 USD`, `0.0061 USD`, `6.12 µUSD`."""
    if 0 < value < 999.5e-6:
        return f"{value * 1e6:.3g} µUSD"
    return f"{value:.2f} USD" if value >= 1 else f"{value:.2g} USD"


def duration(ms: float) -> str:
    """Milliseconds → `140 ms`, `2.5 s`, `3 min`, `4 h`, `12 d`."""
    for limit, unit, name in ((1_000, 1, "ms"), (120_000, 1_000, "s"), (7_200_000, 60_000, "min")):
        if ms < limit:
            amount = ms / unit
            return f"{amount:.1f} {name}" if amount < 10 and unit == 1_000 else f"{amount:.0f} {name}"
    return f"{ms / 3_600_000:.0f} h" if ms < 2 * DAY_MS else f"{ms / DAY_MS:.0f} d"


def count(n: int) -> str:
    """1234 → `1,234`; from 10,000 on `48k`."""
    if n < 10_000:
        return f"{n:,}"
    return f"{n / 1_000:.0f}k" if n < 10_000_000 else f"{n / 1_000_000:.0f}M"


def plural(n: int, one: str, many: str = "") -> str:
    """`1 rule`, `2 rules`."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def joined(*notes: str) -> str:
    """The notes that say something, in one line."""
    return "; ".join(note for note in notes if note)


def listed(what: str, names: Sequence[str], most: int = 3) -> str:
    """`what: a, b, c and 2 more`; empty where there are no names."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{what}: {', '.join(names[:most])}{more}" if names else ""


def iso(us: int) -> str:
    """Microseconds since 1970 → ISO 8601 in UTC, to the second."""
    return datetime.fromtimestamp(us / 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def date(us: int) -> str:
    """Microseconds since 1970 → the day in UTC."""
    return iso(us)[:10]


def limit(value: float, unit: Limit) -> str:
    """A threshold's number in the limit's unit."""
    if unit.unit == "share":
        text = f"{value * 100:g} %"
    elif unit.unit == "change":
        text = change(value)
    elif unit.unit == "ms":
        text = duration(value)
    else:
        text = f"{value:g}"
    return f"{'<' if unit.worse == 'below' else '>'} {text}"
