"""What the calls that apps report cost, by the prices that the gateway goes by: the config's, then the list's."""

from collections.abc import Callable
from datetime import UTC, datetime

from genai_prices import data_snapshot

from pilothouse.domain.record import Tokens
from pilothouse.domain.table import Price, Table
from pilothouse.domain.wires import PriceSpan
from pilothouse.gateway.settle import PriceBook, Rates, listed_rates

_HOUR_US = 3_600_000_000  # some prices change with the time of day
_MOST = 4_096
_LISTED = {  # a provider in OpenTelemetry's words → in the list's
    "azure.ai.openai": "azure",
    "azure.ai.inference": "azure",
    "gcp.gemini": "google",
    "gcp.gen_ai": "google",
    "gcp.vertex_ai": "google",
    "aws.bedrock": "aws",
    "mistral_ai": "mistral",
    "x_ai": "x-ai",
    "moonshot_ai": "moonshotai",
}
_MAKERS = (
    "openai",
    "anthropic",
    "google",
    "mistral",
    "cohere",
    "x-ai",
    "deepseek",
)  # not those who serve others' models


def span_prices(table: Callable[[], Table | None]) -> PriceSpan:
    """The wire that ingest hands to the normaliser; `table` has the config's prices, by `provider/model`.

    A provider that neither the config nor the list knows has no price: its model may be anyone's. Where the app names
    none (Langfuse's and MLflow's SDKs do not), the first maker with a model of that name is taken.
    """
    book = PriceBook()
    kept: dict[tuple[str, str, int], Rates | None] = {}

    def price(provider: str, model: str, tokens: Tokens, ts_us: int) -> float | None:
        now = table()
        own: dict[str, Price] = {} if now is None else now.prices
        rates = book.rates((provider, model, ""), None, own, 0.0, ts_us) if f"{provider}/{model}" in own else None
        if rates is None:
            key = (provider, model, ts_us // _HOUR_US)
            if key not in kept:
                if len(kept) >= _MOST:
                    kept.clear()
                kept[key] = _listed(provider, model, ts_us)
            rates = kept[key]
        return None if rates is None else rates.cost(tokens)

    return price


def _listed(provider: str, model: str, ts_us: int) -> Rates | None:
    snapshot = data_snapshot.get_snapshot()
    known = {one.id for one in snapshot.providers}
    for name in (_LISTED.get(provider, provider),) if provider else _MAKERS:
        if name not in known:
            continue
        try:
            maker, info = snapshot.find_provider_model(model, None, name, None)
        except LookupError:
            continue
        now = datetime.fromtimestamp(ts_us / 1e6, UTC)
        return listed_rates(info.get_prices(now), audio_as_text=maker.id == "google")
    return None
