"""What an app's own calls cost, by the same prices as the gateway's."""

import pytest

from pilothouse.domain.record import Tokens
from pilothouse.domain.table import Price, Table
from pilothouse.server.span_prices import span_prices

JUNE_2025_US = 1_750_000_000_000_000
USED = Tokens(input_uncached=1_000_000, output_text=1_000_000)


def table(prices: dict[str, Price]) -> Table:
    return Table(revision=1, issued_us=0, entries={}, keys={}, providers={}, prices=prices)


def test_the_lists_prices_hold_for_providers_that_it_knows() -> None:
    price = span_prices(lambda: None)
    assert price("openai", "gpt-4o-mini", USED, JUNE_2025_US) == pytest.approx(0.15 + 0.60)
    assert price("azure.ai.openai", "gpt-4o-mini", USED, JUNE_2025_US) is not None


def test_the_configs_prices_go_before_the_lists() -> None:
    price = span_prices(lambda: table({"openai/gpt-4o-mini": Price(input=1.0, output=2.0)}))
    assert price("openai", "gpt-4o-mini", USED, JUNE_2025_US) == pytest.approx(3.0)


@pytest.mark.parametrize(("provider", "model"), [("vllm", "llama"), ("", "llama-of-ours"), ("openai", "no-such-model")])
def test_what_nobody_prices_costs_nothing_known(provider: str, model: str) -> None:
    assert span_prices(lambda: None)(provider, model, USED, JUNE_2025_US) is None


@pytest.mark.parametrize("model", ["gpt-4o-mini-2024-07-18", "claude-sonnet-4-5", "text-embedding-3-small"])
def test_where_no_provider_is_named_the_models_maker_is_taken(model: str) -> None:
    maker = "anthropic" if model.startswith("claude") else "openai"
    price = span_prices(lambda: None)
    assert price("", model, USED, JUNE_2025_US) == price(maker, model, USED, JUNE_2025_US) is not None
