"""How the pages write numbers, times and hashes: a figure and its unit, apart, so that units can be set smaller."""

import re
from datetime import UTC, datetime
from decimal import Decimal

UNKNOWN = "–"
_UNIT = re.compile(r"(?<=\d) (?=(?:%|pp|ms|s|min|h|d|USD)(?!\w))")
Quantity = tuple[str, str]  # figure, unit


def count(n: int | float | None) -> Quantity:
    """12418 → 12,418; from 100,000 on in thousands or millions, three digits."""
    if n is None:
        return (UNKNOWN, "")
    if n >= 9_995_000:
        return (f"{n / 1e6:.1f}", "M")
    if n >= 999_500:
        return (f"{n / 1e6:.2f}", "M")
    if n >= 100_000:
        return (f"{n / 1e3:.0f}", "k")
    return (f"{n:,.0f}", "")


def duration(ms: float | None) -> Quantity:
    """Milliseconds in the unit that leaves three digits."""
    if ms is None:
        return (UNKNOWN, "")
    if ms < 10:
        return (f"{ms:.1f}" if ms else "0", "ms")
    if ms < 999.5:
        return (f"{ms:.0f}", "ms")
    if ms < 60_000:
        return (f"{ms / 1e3:.2f}" if ms < 9_995 else f"{ms / 1e3:.1f}", "s")
    minutes, rest = divmod(round(ms / 1e3), 60)
    if minutes < 60:
        return (f"{minutes} m {rest:02d}", "s")
    return (f"{minutes // 60} h {minutes % 60:02d}", "m")


def share(x: float | None) -> Quantity:
    """0 … 1 as a percentage with as many decimals as tell it apart from 0 and 100."""
    if x is None:
        return (UNKNOWN, "")
    p = x * 100
    if p in {0.0, 100.0}:
        return (f"{p:.0f}", "%")
    if p < 1 or p > 99:
        return (f"{p:.2f}", "%")
    return (f"{p:.1f}", "%")


def money(usd: float | None) -> Quantity:
    """US dollars with three significant digits below one dollar."""
    if usd is None:
        return (UNKNOWN, "")
    if usd == 0:
        return ("0", "USD")
    if usd >= 1_000:
        return (f"{usd:,.0f}", "USD")
    if usd >= 1:
        return (f"{usd:.2f}", "USD")
    if usd >= 0.001:
        return (f"{usd:.4f}", "USD")
    return (f"{usd * 1e6:.3g}" if usd * 1e6 < 1_000 else f"{usd * 1e6:.0f}", "µUSD")


def size(n_bytes: int) -> Quantity:
    """Bytes in KB or MB (powers of 1,000)."""
    if n_bytes < 1_000:
        return (str(n_bytes), "B")
    if n_bytes < 1_000_000:
        return (f"{n_bytes / 1e3:.1f}", "KB")
    return (f"{n_bytes / 1e6:.1f}", "MB")


def text(quantity: Quantity) -> str:
    """Figure and unit with a no-break space between."""
    figure, unit = quantity
    return f"{figure}\u00a0{unit}" if unit else figure


def plain(value: float) -> str:
    """A number whose unit nobody knows, in four digits and never as a power of ten: 0.0412, 2,140, 30,000."""
    return format(Decimal(f"{value:.4g}"), ",f") if abs(value) < 9_999.5 else f"{value:,.0f}"


def tied(words: str) -> str:
    """Words with every number tied to its unit, so that no line ends between them."""
    return _UNIT.sub("\u00a0", words)


def ago(us: int, now_us: int) -> str:
    """How long before `now_us`, in the largest whole unit."""
    seconds = (now_us - us) // 1_000_000
    if seconds < 5:
        return "just now"
    for limit, unit, name in ((60, 1, "s"), (3_600, 60, "min"), (172_800, 3_600, "h")):
        if seconds < limit:
            return f"{seconds // unit}\u00a0{name} ago"
    return f"{seconds // 86_400}\u00a0d ago"


def span(us: int) -> str:
    """A length of time, in its two largest units."""
    seconds = max(0, us // 1_000_000)
    if seconds < 60:
        return f"{seconds}\u00a0s"
    if seconds < 3_600:
        return f"{seconds // 60}\u00a0min"
    if seconds < 172_800:
        return f"{seconds // 3_600}\u00a0h {seconds % 3_600 // 60:02d}"
    return f"{seconds // 86_400}\u00a0d"


def iso(us: int) -> str:
    """ISO 8601, UTC, milliseconds."""
    return datetime.fromtimestamp(us / 1e6, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def stamp(us: int, form: str = "full") -> str:
    """The time in UTC for readers without JavaScript. `form`: time, minute, day, date or full."""
    patterns = {
        "time": "%H:%M:%S",
        "minute": "%H:%M",
        "date": "%d %b %H:%M",
        "day": "%d %b",
        "full": "%Y-%m-%d %H:%M:%S UTC",
    }
    return datetime.fromtimestamp(us / 1e6, UTC).strftime(patterns[form])


def short(digest: str) -> str:
    """The first 8 characters of a hash."""
    return digest[:8]
