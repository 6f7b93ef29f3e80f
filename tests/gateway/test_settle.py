"""What requests cost: the order of the sources, the price lists, quotes, and the arithmetic of buckets."""

import datetime
from typing import Any

import genai_prices
import msgspec
import pytest
from genai_prices import data_snapshot
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.domain.model_ref import ModelRef
from pilothouse.domain.record import Attempt, Record, TokenParts, Tokens
from pilothouse.domain.table import Price, ProviderEntry, Table
from pilothouse.gateway.settle import PriceBook, Rates, listed_rates, settle
from pilothouse.providers.usage import InputDetails, OutputDetails, Usage

NOW_US = 1_793_000_000_000_000  # 2026-10
COUNTS = st.integers(0, 2_000_000)
PRICES = st.floats(0, 200, allow_nan=False)


def one(provider: ProviderEntry | None, model: str, tokens: Tokens, stated: float | None = None, **more: Any) -> Record:
    """A settled record of one attempt."""
    attempt = Attempt(n=1, kind="primary", provider="p", model=model, offset_ms=0.0, tokens=tokens, cost_usd=stated)
    attempt.served_model = more.pop("served", "")
    record = Record(id="r", ts_us=NOW_US, trace_id="t", span_id="s", attempts=[attempt])
    settle(record, PriceBook(), Table(1, 1, {}, {}, {"p": provider} if provider else {}, **more), 0.0)
    return record


def kind(name: str, url: str = "http://h") -> ProviderEntry:
    return ProviderEntry("p", name, url)


LISTED = [
    ("anthropic", "claude-haiku-4-5-20251001", Tokens(1000, 2000, 3000, 400, 0), 0.001 + 0.0002 + 0.00375 + 0.002),
    ("bedrock", "us.anthropic.claude-3-5-haiku-20241022-v1:0", Tokens(1000, 2000, 3000, 400),
     0.0008 + 0.00016 + 0.003 + 0.0016),
    ("gemini", "gemini-2.5-flash", Tokens(1000, 2000, 0, 300, 100), 0.0003 + 0.00006 + 0.001),
    ("azure-openai", "gpt-4o-2024-08-06", Tokens(1000, 2000, 0, 100), 0.0025 + 0.0025 + 0.001),
    ("groq", "llama-3.3-70b-versatile", Tokens(1000, 0, 0, 1000), 0.00059 + 0.00079),
    ("xai", "grok-4-0709", Tokens(1000, 1000, 0, 100, 100), 0.003 + 0.00075 + 0.003),
]  # fmt: skip


@pytest.mark.parametrize(("name", "model", "tokens", "cost"), LISTED)
def test_each_kind_finds_its_price_list(name: str, model: str, tokens: Tokens, cost: float) -> None:
    for record in (one(kind(name), model, tokens), one(kind(name), "alias", tokens, served=model)):
        assert record.cost_usd == pytest.approx(cost) and record.cost_source == "genai-prices"


def test_openai_goes_by_address_and_then_by_name() -> None:
    tokens = Tokens(1_000_000)
    assert one(kind("openai", "https://api.openai.com/v1"), "gpt-4o", tokens).cost_usd == pytest.approx(2.5)
    assert one(kind("openai", "https://api.groq.com/openai/v1"), "llama-3.3-70b-versatile", tokens).cost_usd == 0.59
    assert one(kind("openai"), "gpt-4o", tokens).cost_usd is None
    named = ProviderEntry("mistral", "openai", "http://proxy")
    assert one(named, "mistral-large-latest", tokens).cost_usd is not None


@pytest.mark.parametrize("name", ["vllm", "ollama", "llama.cpp", "local", "scripted"])
def test_ones_own_server_has_no_price_unless_the_app_says(name: str) -> None:
    record = one(kind(name), "gpt-4o", Tokens(10, output_text=5))
    assert record.cost_usd is None and record.cost_source == "" and record.tokens == Tokens(10, output_text=5)
    priced = one(kind(name), "gpt-4o", Tokens(10, output_text=5), prices={"p/gpt-4o": Price(input=1.0, output=2.0)})
    assert priced.cost_usd == pytest.approx(20e-6) and priced.cost_source == "config"


def test_config_then_the_providers_word_then_the_list() -> None:
    tokens, provider = Tokens(1_000_000), kind("openrouter")
    listed = one(provider, "openai/gpt-4o", tokens)
    assert listed.cost_source == "genai-prices"
    assert one(provider, "openai/gpt-4o", tokens, stated=0.5).cost_usd == 0.5
    assert one(provider, "nobody/knows", tokens, stated=0.0).cost_source == "provider"
    own = one(provider, "openai/gpt-4o", tokens, stated=0.5, prices={"p/openai/gpt-4o": Price(input=1.0, output=1.0)})
    assert (own.cost_usd, own.cost_source) == (1.0, "config")
    assert one(None, "m", tokens).cost_usd is None


def test_defaults_of_an_apps_price() -> None:
    tokens = Tokens(0, 10, 20, 0, 30, of_which=TokenParts(cache_write_1h=5))
    plain = one(kind("openai"), "m", tokens, prices={"p/m": Price(input=2.0, output=8.0)})
    assert plain.cost_usd == pytest.approx((10 * 2 + 20 * 2 + 30 * 8) / 1e6)
    full = Price(input=2.0, output=8.0, cache_read=0.5, cache_write=2.5, reasoning=4.0)
    assert one(kind("openai"), "m", tokens, prices={"p/m": full}).cost_usd == pytest.approx(
        (10 * 0.5 + 15 * 2.5 + 5 * 4 + 30 * 4) / 1e6
    )
    stated = msgspec.structs.replace(full, cache_write_1h=7.0)
    assert one(kind("openai"), "m", tokens, prices={"p/m": stated}).cost_usd == pytest.approx(
        (10 * 0.5 + 15 * 2.5 + 5 * 7 + 30 * 4) / 1e6
    )


def test_audio_whose_price_is_not_known_makes_the_cost_unknown() -> None:
    heard = Tokens(100, output_text=10, of_which=TokenParts(input_audio=40))
    assert one(kind("openai", "https://api.openai.com/v1"), "gpt-4o-audio-preview", heard).cost_usd is None
    flash = one(kind("gemini"), "gemini-2.5-flash", heard)
    assert flash.cost_usd == pytest.approx((60 * 0.3 + 40 * 1.0 + 10 * 2.5) / 1e6)
    pro = one(kind("gemini"), "gemini-2.5-pro", heard)  # Google's list names audio where it differs
    assert pro.cost_usd == pytest.approx((100 * 1.25 + 10 * 10) / 1e6)


def test_all_attempts_count_and_one_unknown_makes_the_sum_unknown() -> None:
    def attempt(n: int, model: str, tokens: Tokens | None) -> Attempt:
        return Attempt(n=n, kind="primary", provider="p", model=model, offset_ms=0.0, tokens=tokens)

    hour = TokenParts(cache_write_1h=4)
    attempts = [
        attempt(1, "m", Tokens(10, of_which=hour)),
        attempt(2, "m", None),
        attempt(3, "m", Tokens(5, estimated=True)),
    ]
    record = Record(id="r", ts_us=NOW_US, trace_id="t", span_id="s", attempts=attempts)
    table = Table(1, 1, {}, {}, {"p": kind("openai")}, prices={"p/m": Price(input=1.0, output=1.0)})
    settle(record, PriceBook(), table, 0.0)
    assert record.tokens == Tokens(15, estimated=True, of_which=hour) and record.cost_usd == pytest.approx(15e-6)
    record.attempts.append(attempt(4, "other", Tokens(1)))
    settle(record, PriceBook(), table, 0.0)
    assert record.cost_usd is None and record.cost_source == ""
    assert [a.cost_usd is None for a in record.attempts] == [False, True, False, True]


# Quotes


def test_a_quote_is_what_the_call_would_cost() -> None:
    book, prices = PriceBook(), {"p/m": Price(input=1.0, output=4.0)}

    def quote(provider: ProviderEntry | None, model: str, tokens_in: int, tokens_out: int) -> float | None:
        providers = {"p": provider} if provider is not None else {}
        table = Table(1, 1, {}, {}, providers, prices=prices)
        return book.quote(ModelRef("p", model), table, (tokens_in, tokens_out), 0.0, NOW_US)

    assert quote(kind("openai"), "m", 100, 50) == pytest.approx(300e-6)
    assert quote(kind("openai"), "unknown", 100, 50) is None and quote(None, "unknown", 1, 1) is None
    sonnet = kind("anthropic")
    assert quote(sonnet, "claude-sonnet-4-5", 1000, 100) == pytest.approx(0.0045)
    assert quote(sonnet, "claude-sonnet-4-5", 300_000, 0) == pytest.approx(1.8)  # the dearer tier, for all of it


def test_a_listed_price_is_looked_up_again_and_a_table_is_taken_up_at_once() -> None:
    book, provider = PriceBook(), kind("deepseek")
    ref, table = ModelRef("p", "deepseek-chat"), Table(1, 1, {}, {}, {"p": provider})
    noon = int(datetime.datetime(2025, 3, 3, 12, tzinfo=datetime.UTC).timestamp() * 1e6)
    night = noon + 8 * 3_600_000_000
    full = book.quote(ref, table, (1_000_000, 0), 0.0, noon)
    assert book.quote(ref, table, (1_000_000, 0), 299.0, night) == full
    assert book.quote(ref, table, (1_000_000, 0), 301.0, night) != full  # off-peak
    own = Table(2, 1, {}, {}, {"p": provider}, prices={"p/deepseek-chat": Price(input=9.0, output=1.0)})
    assert book.quote(ref, own, (1_000_000, 0), 302.0, night) == pytest.approx(9.0)


# The arithmetic

TOKENS = st.builds(
    lambda u, r, w, t, g, h, i, o: Tokens(
        u, r, w, t, g, of_which=TokenParts(min(h, w), min(i, u), min(o, t)) if h or i or o else None
    ),
    *[COUNTS] * 8,
)
RATES = st.builds(
    lambda *p: Rates("x", *p), *[PRICES.map(lambda price: price / 1e6)] * 8
)  # input … output_audio, all known


@given(RATES, TOKENS, st.sampled_from(["input_uncached", "cache_read", "cache_write", "output_text", "reasoning"]))
def test_cost_is_never_negative_and_grows_with_every_bucket(rates: Rates, tokens: Tokens, bucket: str) -> None:
    cost = rates.cost(tokens)
    assert cost is not None and cost >= -1e-12
    more = rates.cost(msgspec.structs.replace(tokens, **{bucket: getattr(tokens, bucket) + 1000}))
    assert more is not None and more >= cost - 1e-12


MAKERS = ("openai", "anthropic", "google", "aws", "azure", "groq", "x-ai", "mistral", "deepseek", "together")


def snapshot_prices() -> list[tuple[str, Any]]:
    found = []
    moment = datetime.datetime.fromtimestamp(NOW_US / 1e6, datetime.UTC)
    for provider in data_snapshot.get_snapshot().providers:
        if provider.id in (
            "openai",
            "anthropic",
            "google",
            "aws",
            "azure",
            "groq",
            "x-ai",
            "mistral",
            "deepseek",
            "together",
        ):
            found += [(f"{provider.id}/{m.id}", m.get_prices(moment)) for m in provider.models]
    return found


SNAPSHOT = snapshot_prices()


@given(st.sampled_from(SNAPSHOT), st.builds(Tokens, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS), st.booleans())
def test_our_arithmetic_is_the_price_lists_own(listed: tuple[str, Any], tokens: Tokens, hour: bool) -> None:
    """genai-prices' calc_price is the oracle; where it has no rate for cache writes it takes the input's, as we do."""
    name, price = listed
    rates = listed_rates(price)
    if rates is None:
        return
    usage: dict[str, int] = {
        "input_tokens": tokens.input,
        "cache_read_tokens": tokens.cache_read,
        "cache_write_tokens": tokens.cache_write,
        "output_tokens": tokens.output,
    }
    if hour and price.cache_write_1h_mtok is not None:
        tokens = msgspec.structs.replace(tokens, of_which=TokenParts(cache_write_1h=tokens.cache_write))
        usage["cache_write_1h_tokens"] = tokens.cache_write
    if price.output_reasoning_mtok is not None:
        usage["output_reasoning_tokens"] = tokens.reasoning
    if price.requests_kcount is not None:
        usage["requests"] = 1
    expected = float(price.calc_price(genai_prices.Usage(**usage))["total_price"])
    assert rates.cost(tokens) == pytest.approx(expected, rel=1e-9, abs=1e-12), name


SMALL = st.none() | st.integers(-5, 5000)


@given(
    st.builds(
        Usage,
        prompt_tokens=SMALL,
        completion_tokens=SMALL,
        total_tokens=SMALL,
        prompt_cache_hit_tokens=SMALL,
        cached_tokens=SMALL,
        prompt_tokens_details=st.none() | st.builds(InputDetails, SMALL, SMALL, SMALL, SMALL, SMALL),
        completion_tokens_details=st.none() | st.builds(OutputDetails, SMALL, SMALL),
    )
)
def test_buckets_are_disjoint_sum_to_the_totals_and_are_never_negative(usage: Usage) -> None:
    tokens = usage.tokens()
    if tokens is None:
        assert usage.prompt_tokens is None or (usage.completion_tokens is None and usage.total_tokens is None)
        return
    counts = (tokens.input_uncached, tokens.cache_read, tokens.cache_write, tokens.output_text, tokens.reasoning)
    assert all(count >= 0 for count in counts)
    prompt, said = max(usage.prompt_tokens or 0, 0), max(usage.completion_tokens or 0, 0)
    assert tokens.input == prompt  # uncached + read + written, each token once
    assert tokens.output >= said
    if usage.total_tokens is not None and usage.total_tokens >= prompt + said:
        outer = usage.completion_tokens_details
        hidden = usage.total_tokens - prompt - said
        if not hidden or hidden >= ((outer.reasoning_tokens if outer else 0) or 0):
            assert tokens.input + tokens.output == usage.total_tokens
    if tokens.of_which is not None:
        parts = tokens.of_which
        assert 0 <= parts.cache_write_1h <= tokens.cache_write
        assert 0 <= parts.input_audio <= tokens.input_uncached
        assert 0 <= parts.output_audio <= tokens.output_text


@given(
    st.one_of(st.none(), st.floats(), st.integers(), st.text(), st.booleans()), st.none() | st.booleans(), st.integers()
)
def test_a_stated_cost_is_a_number_of_at_least_0_or_nothing(cost: Any, byok: bool | None, ticks: int) -> None:
    stated = Usage(cost=cost, is_byok=byok).cost_usd()
    assert stated is None or 0 <= stated < float("inf")
    assert (Usage(cost_in_usd_ticks=ticks).cost_usd() or 0.0) >= 0
