"""What a provider counted, and our disjoint buckets of it.

The canonical shape is OpenAI's, whose totals are inclusive: prompt_tokens holds the cached and the cache-written
tokens, completion_tokens the reasoning tokens. Servers that follow it differ, and `tokens` knows how:

- DeepSeek says `prompt_cache_hit_tokens` beside `prompt_tokens`, Moonshot `cached_tokens`;
- xAI and Gemini's compatible API leave reasoning out of `completion_tokens` while `total_tokens` has it;
- OpenRouter adds `cache_write_tokens` and its own price (`cost`, in USD), xAI `cost_in_usd_ticks` (1e-10 USD).

Forms whose totals are not inclusive (Anthropic, Gemini, Bedrock) are brought into this shape where they are read.
"""

from typing import Any

import msgspec

from pilothouse.domain.record import TokenParts, Tokens

_TICKS = 1e10  # xAI: ticks in one USD


class InputDetails(msgspec.Struct, omit_defaults=True, gc=False):
    """Parts of the prompt's tokens. `cache_write_1h_tokens`: part of the cache-written ones, of Anthropic's hour."""

    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    audio_tokens: int | None = None
    cache_creation_tokens: int | None = None  # LiteLLM's name for the cache-written ones


class OutputDetails(msgspec.Struct, omit_defaults=True, gc=False):
    """Parts of the completion's tokens."""

    reasoning_tokens: int | None = None
    audio_tokens: int | None = None


class CostDetails(msgspec.Struct, omit_defaults=True, gc=False):
    """OpenRouter's, of a call with the user's own key at the provider behind it."""

    upstream_inference_cost: float | None = None


class Usage(msgspec.Struct, omit_defaults=True, gc=False):
    """What the provider counted."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: InputDetails | None = None
    completion_tokens_details: OutputDetails | None = None
    total_tokens: int | None = None
    prompt_cache_hit_tokens: int | None = None
    cached_tokens: int | None = None
    cost: Any = None
    cost_details: CostDetails | None = None
    is_byok: bool | None = None
    cost_in_usd_ticks: Any = None

    def tokens(self) -> Tokens | None:
        """Disjoint buckets that sum to the provider's totals; None where it did not count."""
        prompt, said = self.prompt_tokens, self.completion_tokens
        if prompt is None or (said is None and self.total_tokens is None):
            return None
        inner, outer = self.prompt_tokens_details, self.completion_tokens_details
        prompt = prompt if prompt > 0 else 0  # noqa: FURB136
        said = said if said is not None and said > 0 else 0
        cached = written = 0
        if found := self._cached(inner):
            cached = _within(found, prompt)
        if inner is not None and (found := inner.cache_write_tokens or inner.cache_creation_tokens):
            written = _within(found, prompt - cached)
        uncached = prompt - cached - written
        output, reasoning = said, 0
        if (outer is not None and outer.reasoning_tokens) or (self.total_tokens or 0) > prompt + said:
            output, reasoning = self._output(prompt, said, outer)
        text = output - reasoning
        of_which = None
        if written or (inner is not None and inner.audio_tokens) or (outer is not None and outer.audio_tokens):
            of_which = _parts(inner, outer, written, uncached, text)
        return Tokens(uncached, cached, written, text, reasoning, of_which=of_which)

    def cost_usd(self) -> float | None:
        """What the provider itself says that the call cost; None where it does not, or where that is not all."""
        if isinstance(self.cost_in_usd_ticks, int):
            return max(self.cost_in_usd_ticks, 0) / _TICKS
        if self.cost is None:
            return None
        if not isinstance(self.cost, int | float) or isinstance(self.cost, bool) or not 0 <= self.cost < float("inf"):
            return None
        cost = float(self.cost)
        behind = self.cost_details.upstream_inference_cost if self.cost_details else None
        own_key = self.is_byok or (self.is_byok is None and behind is not None and behind > cost)
        if own_key:  # then `cost` is OpenRouter's fee alone
            return None if behind is None else cost + behind
        return cost

    def _cached(self, inner: InputDetails | None) -> int | None:
        if inner is not None and inner.cached_tokens is not None:
            return inner.cached_tokens
        return self.prompt_cache_hit_tokens if self.prompt_cache_hit_tokens is not None else self.cached_tokens

    def _output(self, prompt: int, said: int, outer: OutputDetails | None) -> tuple[int, int]:
        """All output, and of it the reasoning. What the total has beyond prompt and completion is reasoning too."""
        reasoning = _count(outer.reasoning_tokens) if outer is not None and outer.reasoning_tokens else 0
        beyond = (self.total_tokens or 0) - prompt - said
        if not reasoning and beyond <= 0:
            return said, 0
        if beyond > 0 and (reasoning == 0 or beyond >= reasoning):
            return said + beyond, beyond
        if self.total_tokens is None and reasoning > said:
            return said + reasoning, reasoning
        return said, _within(reasoning, said)


# By hand: `max` and `min` take three times as long, and every answer has a dozen counts.
def _count(said: int | None) -> int:
    return said if said is not None and said > 0 else 0


def _within(said: int | None, limit: int) -> int:
    if said is None or said <= 0:
        return 0
    return said if said < limit else limit  # noqa: FURB136


def _parts(
    inner: InputDetails | None, outer: OutputDetails | None, written: int, uncached: int, text: int
) -> TokenParts | None:
    """Parts that are priced apart; None where there are none."""
    hour = _within(inner.cache_write_1h_tokens, written) if inner is not None and written else 0
    heard = _within(inner.audio_tokens, uncached) if inner is not None and inner.audio_tokens else 0
    spoken = _within(outer.audio_tokens, text) if outer is not None and outer.audio_tokens else 0
    if not (hour or heard or spoken):
        return None
    return TokenParts(cache_write_1h=hour, input_audio=heard, output_audio=spoken)
