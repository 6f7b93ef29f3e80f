"""Langfuse's SDKs. Values are JSON text where they are no plain text.

Usage has the shape that the provider's SDK gave it: OpenAI's totals are inclusive; Anthropic's, and Langfuse's own
`input` and `output`, leave out what is listed beside them.
"""

from pilothouse.telemetry.dialects.dialect import Dialect, Inside

_O = "langfuse.observation."
_USAGE = _O + "usage_details"
_READ = ("cache_read_input_tokens", "input_cached_tokens", "input_cache_read", "cache_read", "input_cached")
_WRITE = ("cache_creation_input_tokens", "input_cache_creation", "cache_write", "input_cache_write")
_REASONING = ("output_reasoning_tokens", "output_reasoning", "reasoning_tokens", "reasoning")

DIALECT = Dialect(
    name="langfuse",
    marks=("langfuse",),
    scopes=("langfuse",),
    fields={
        "request_model": (_O + "model.name",),
        "finish_reason": (_O + "metadata.finish_reason",),
        "prompt_name": (_O + "prompt.name",),
        "prompt_version": (_O + "prompt.version",),
    },
    inside=(
        Inside(
            _USAGE,
            {
                "tokens.input": ("prompt_tokens",),
                "tokens.output": ("completion_tokens",),
                "tokens.cache_read": ("prompt_tokens_details.cached_tokens",),
                "tokens.reasoning": ("completion_tokens_details.reasoning_tokens",),
                "tokens.input_audio": ("prompt_tokens_details.audio_tokens",),
                "tokens.output_audio": ("completion_tokens_details.audio_tokens",),
            },
            when="prompt_tokens",
        ),
        Inside(
            _USAGE,
            {
                "tokens.input": ("input_tokens",),
                "tokens.output": ("output_tokens",),
                "tokens.cache_read": ("input_tokens_details.cached_tokens",),
                "tokens.reasoning": ("output_tokens_details.reasoning_tokens",),
            },
            when="input_tokens_details",
        ),
        Inside(
            _USAGE,
            {
                "tokens.input_uncached": ("input", "input_tokens", "prompt"),
                "tokens.output_text": ("output", "output_tokens", "completion"),
                "tokens.cache_read": _READ,
                "tokens.cache_write": _WRITE,
                "tokens.reasoning": _REASONING,
            },
        ),
        Inside(_O + "cost_details", {"cost": ("total",)}),
    ),
    operations={
        _O + "type": {
            "generation": "chat",
            "embedding": "embeddings",
            "tool": "execute_tool",
            "agent": "invoke_agent",
            "chain": "invoke_workflow",
            "retriever": "retrieval",
            "evaluator": "evaluate",
            "guardrail": "guardrail",
        }
    },
    first_at=(_O + "completion_start_time",),
    input=(_O + "input", "langfuse.trace.input"),
    output=(_O + "output", "langfuse.trace.output"),
    documents_in_output=True,
)
