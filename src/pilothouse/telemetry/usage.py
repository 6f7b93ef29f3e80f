"""Of a span's numbers: tokens in disjoint buckets, what the call cost by its own word, the time to its first token."""

from datetime import UTC, datetime
from typing import Any

from pilothouse.domain.record import TokenParts, Tokens
from pilothouse.telemetry.dialects.index import CHUNKS
from pilothouse.telemetry.said import Said
from pilothouse.telemetry.spans import OtlpSpan


def tokens(said: Said) -> tuple[Tokens | None, bool]:
    """Disjoint buckets, and whether what was said adds up; None where nothing is told.

    From inclusive totals (`input`, `output`) what is cached or reasoning is taken off; where a dialect also says what
    is left (`input_uncached`, `output_text`), that is taken.
    """
    found = {name[7:]: n for name, n in said.values.items() if name[:7] == "tokens."}
    if not found:
        return None, True
    read, write, reasoning = found.get("cache_read", 0), found.get("cache_write", 0), found.get("reasoning", 0)
    uncached, input_fits = _rest(found.get("input"), found.get("input_uncached"), read + write)
    visible, output_fits = _rest(found.get("output"), found.get("output_text"), reasoning)
    parts = TokenParts(
        cache_write_1h=min(found.get("cache_write_1h", 0), write),
        input_audio=min(found.get("input_audio", 0), uncached),
        output_audio=min(found.get("output_audio", 0), visible),
    )
    counted = Tokens(
        input_uncached=uncached,
        cache_read=read,
        cache_write=write,
        output_text=visible,
        reasoning=reasoning,
        of_which=parts if parts != TokenParts() else None,
    )
    return counted, input_fits and output_fits


def _rest(total: int | None, rest: int | None, listed: int) -> tuple[int, bool]:
    """What is left of a total beside what is listed, and whether both agree."""
    if rest is not None:
        return rest, total is None or total == rest + listed
    left = 0 if total is None else total - listed
    return max(0, left), left >= 0


def reported_cost(said: Said) -> float | None:
    """USD as the instrumentation says; the sum of its parts where it gives no total."""
    total: float | None = said.values.get("cost")
    if total is not None:
        return total
    parts = [value for name, value in said.values.items() if name.startswith("cost_part.")]
    return sum(parts) if parts else None


def ttft_ms(said: Said, span: OtlpSpan) -> float | None:
    """Milliseconds to the first token: as a duration, as an instant, or by the first event of a stream."""
    values = said.values
    if "ttft_s" in values:
        return float(values["ttft_s"] * 1e3)
    if "ttft_ms" in values:
        return float(values["ttft_ms"])
    at_ns = _instant_ns(values.get("first_at"))
    if at_ns is None and span.events:
        at_ns = min((e.time_ns for e in span.events if e.time_ns > 0 and e.name in CHUNKS), default=None)
    return None if at_ns is None or not span.start_ns <= at_ns <= span.end_ns else (at_ns - span.start_ns) / 1e6


def _instant_ns(value: Any) -> int | None:
    if not isinstance(value, str):
        return None
    try:
        time = datetime.fromisoformat(value)
        return int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1e6) * 1_000
    except (ValueError, OverflowError):
        return None
