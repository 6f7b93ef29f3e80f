"""What a request cost: tokens in disjoint buckets and USD, per attempt and in all. Unknown is None, never 0.

Prices, in this order: the app's config; what the provider itself says that the call cost (OpenRouter, xAI);
genai-prices, by the provider's kind, address or name. Servers of one's own (`vllm`, `ollama`, `llama.cpp`, `local`,
`scripted`) have no price unless the config gives one. Searches and other tools that run at the provider are not in
the list's part: their counts stand in no usage that is read here.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
from genai_prices import data_snapshot
from genai_prices.types import ModelPrice, TieredPrices

from pilothouse.domain.model_ref import ModelRef
from pilothouse.domain.record import Attempt, Record, TokenParts, Tokens
from pilothouse.domain.table import Price, ProviderEntry, Table

_LIST_S = 300.0  # a listed price is looked up again after this long: some change with the time of day
_HOUR_FACTOR = 1.6  # Anthropic: a cache write kept for an hour costs 2 times the input, one for 5 minutes 1.25 times
_BUCKETS = ("input_uncached", "cache_read", "cache_write", "output_text", "reasoning")
_PARTS = TokenParts.__struct_fields__
_NAMES = {  # kind → its name in genai-prices
    "azure-openai": "azure",
    "anthropic": "anthropic",
    "gemini": "google",
    "bedrock": "aws",
    "mistral": "mistral",
    "deepseek": "deepseek",
    "xai": "x-ai",
    "groq": "groq",
    "together": "together",
    "fireworks": "fireworks",
    "openrouter": "openrouter",
}


class Rates(msgspec.Struct, frozen=True):
    """USD per token and bucket, and per request. Audio is None where its price is not known.

    `tiers`: (input tokens above which, rates) in descending order; the first that fits prices all of a call, as
    providers do.
    """

    source: str
    input: float = 0.0
    cache_read: float = 0.0
    cache_write: float = 0.0
    output: float = 0.0
    reasoning: float = 0.0
    cache_write_1h: float = 0.0
    input_audio: float | None = None
    output_audio: float | None = None
    request: float = 0.0
    tiers: tuple[tuple[int, "Rates"], ...] = ()
    until: float = float("inf")  # Clock.monotonic

    def cost(self, tokens: Tokens) -> float | None:
        """USD; None where a part of the tokens has no known price."""
        if self.tiers:
            total = tokens.input
            for above, rates in self.tiers:
                if total > above:
                    return rates.cost(tokens)
        plain = (
            self.request
            + tokens.input_uncached * self.input
            + tokens.cache_read * self.cache_read
            + tokens.cache_write * self.cache_write
            + tokens.output_text * self.output
            + tokens.reasoning * self.reasoning
        )
        return plain if tokens.of_which is None else self._apart(plain, tokens.of_which)

    def _apart(self, plain: float, parts: TokenParts) -> float | None:
        """`plain` with those parts that are priced apart at their own rates."""
        cost = plain + parts.cache_write_1h * (self.cache_write_1h - self.cache_write)
        for count, own, usual in (
            (parts.input_audio, self.input_audio, self.input),
            (parts.output_audio, self.output_audio, self.output),
        ):
            if count:
                if own is None:
                    return None
                cost += count * (own - usual)
        return cost


_UNKNOWN = Rates("")  # nobody says what it costs


class PriceBook:
    """Looks prices up once per provider and model. `prices`: the table's, by `provider/model`."""

    def __init__(self) -> None:
        self._prices: Mapping[str, Price] | None = None
        self._kept: dict[tuple[str, str, str], Rates] = {}

    def rates(
        self,
        key: tuple[str, str, str],
        provider: ProviderEntry | None,
        prices: Mapping[str, Price],
        now: float,
        now_us: int,
    ) -> Rates | None:
        """What a model costs; None where nobody says. `key`: provider, model, and what that says has answered."""
        if prices is not self._prices:
            self._prices, self._kept = prices, {}
        kept = self._kept.get(key)
        if kept is None or now >= kept.until:
            if len(self._kept) > 4096:
                self._kept.clear()
            ref = ModelRef(key[0], key[1])
            kept = _configured(ref, prices) or _listed(ref, key[2], provider, (now, now_us)) or _UNKNOWN
            self._kept[key] = kept
        return None if kept is _UNKNOWN else kept

    def quote(
        self,
        ref: ModelRef,
        table: Table,
        tokens: tuple[int, int],
        now: float,
        now_us: int,
    ) -> float | None:
        """USD that a call with so many tokens (in, out) is expected to cost, none of them cached; None where nobody
        says."""
        name = ref.provider
        rates = self.rates((name, ref.name, ""), table.providers.get(name), table.prices, now, now_us)
        if rates is None:
            return None
        tokens_in, tokens_out = tokens
        for above, dearer in rates.tiers:
            if tokens_in > above:
                rates = dearer
                break
        return rates.request + tokens_in * rates.input + tokens_out * rates.output


def _configured(ref: ModelRef, prices: Mapping[str, Price]) -> Rates | None:
    price = prices.get(f"{ref.provider}/{ref.name}")
    if price is None:
        return None
    write = price.input if price.cache_write is None else price.cache_write
    hour = price.input if price.cache_write is None else price.cache_write * _HOUR_FACTOR
    return Rates(
        "config",
        input=price.input / 1e6,
        cache_read=(price.input if price.cache_read is None else price.cache_read) / 1e6,
        cache_write=write / 1e6,
        output=price.output / 1e6,
        reasoning=(price.output if price.reasoning is None else price.reasoning) / 1e6,
        cache_write_1h=(hour if price.cache_write_1h is None else price.cache_write_1h) / 1e6,
        input_audio=None if price.input_audio is None else price.input_audio / 1e6,
        output_audio=None if price.output_audio is None else price.output_audio / 1e6,
    )


def _listed(ref: ModelRef, served: str, provider: ProviderEntry | None, now: tuple[float, int]) -> Rates | None:
    if provider is None or (provider.kind != "openai" and provider.kind not in _NAMES):
        return None
    snapshot = data_snapshot.get_snapshot()
    known = {p.id for p in snapshot.providers}
    own = _NAMES.get(provider.kind)
    ways = [(own, None)] if own is not None else [(None, provider.base_url), (provider.name, None)]
    for model in dict.fromkeys((served, ref.name)):
        for name, url in ways:
            if not model or (name is not None and name not in known):
                continue
            try:
                maker, info = snapshot.find_provider_model(model, None, name, url)
            except LookupError:
                continue
            price = info.get_prices(datetime.fromtimestamp(now[1] / 1e6, UTC))
            return listed_rates(price, now[0] + _LIST_S, audio_as_text=maker.id == "google")
    return None


def listed_rates(price: ModelPrice, until: float = float("inf"), *, audio_as_text: bool = False) -> Rates | None:
    """A list entry as rates; None where it has no price for tokens. `audio_as_text`: the list names a price for audio
    only where it differs (Google's); elsewhere a missing one is not known."""
    values = {name: value for name, value in price.__dict__.items() if value is not None}
    if "input_mtok" not in values and "output_mtok" not in values:
        return None
    starts = sorted({tier.start for v in values.values() if isinstance(v, TieredPrices) for tier in v.tiers})
    tiers = tuple((start, _tier(values, start + 1, audio_as_text)) for start in reversed(starts))
    return msgspec.structs.replace(_tier(values, 0, audio_as_text), tiers=tiers, until=until)


def _tier(values: Mapping[str, Any], total: int, audio_as_text: bool) -> Rates:
    """The rates of a call with `total` input tokens."""

    def of(name: str) -> float | None:
        value = values.get(name)
        if isinstance(value, TieredPrices):
            value = next((tier.price for tier in reversed(value.tiers) if total > tier.start), value.base)
        return float(value) / 1e6 if isinstance(value, Decimal) else None

    def or_else(name: str, other: float) -> float:
        found = of(name)
        return other if found is None else found

    base, output = of("input_mtok") or 0.0, of("output_mtok") or 0.0
    write = of("cache_write_mtok")
    return Rates(
        "genai-prices",
        input=base,
        cache_read=or_else("cache_read_mtok", base),
        cache_write=base if write is None else write,
        output=output,
        reasoning=or_else("output_reasoning_mtok", output),
        cache_write_1h=or_else("cache_write_1h_mtok", base if write is None else write * _HOUR_FACTOR),
        input_audio=or_else("input_audio_mtok", base) if audio_as_text else of("input_audio_mtok"),
        output_audio=or_else("output_audio_mtok", output) if audio_as_text else of("output_audio_mtok"),
        request=(of("requests_kcount") or 0.0) * 1e3,  # per thousand requests
    )


def warm() -> None:
    """Read the price list now: the first request would wait for it otherwise."""
    data_snapshot.get_snapshot()


def settle(record: Record, book: PriceBook, table: Table, now: float) -> None:
    """Price each attempt that has tokens, and sum tokens and cost over them. `now` on the Clock's monotonic.

    An attempt that has a cost already has it from its provider's own words.
    """
    seen: list[Tokens] = []
    unpriced = False
    total = 0.0
    for attempt in record.attempts:
        tokens = attempt.tokens
        if tokens is None:
            continue
        seen.append(tokens)
        provider = attempt.provider
        key = (provider, attempt.model, attempt.served_model)
        rates = book.rates(key, table.providers.get(provider), table.prices, now, record.ts_us)
        source = _price(attempt, tokens, rates)
        if attempt.cost_usd is None:
            unpriced = True
            continue
        total += attempt.cost_usd
        record.cost_source = source
    record.tokens = seen[0] if len(seen) == 1 else _sum(seen)
    record.cost_usd = None if unpriced or not seen else total
    if unpriced:
        record.cost_source = ""


def _price(attempt: Attempt, tokens: Tokens, rates: Rates | None) -> str:
    """Set what the attempt cost, where that is known; who says so."""
    if attempt.cost_usd is not None and (rates is None or rates.source != "config"):
        return "provider"
    attempt.cost_usd = None if rates is None else rates.cost(tokens)
    return "" if rates is None else rates.source


def _sum(seen: list[Tokens]) -> Tokens | None:
    if not seen:
        return None
    inner = [t.of_which for t in seen if t.of_which is not None]
    return Tokens(
        **{name: sum(getattr(t, name) for t in seen) for name in _BUCKETS},
        estimated=any(t.estimated for t in seen),
        of_which=TokenParts(**{name: sum(getattr(p, name) for p in inner) for name in _PARTS}) if inner else None,
    )
