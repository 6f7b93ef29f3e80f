"""Pydantic AI and Logfire: the GenAI conventions, and what they say besides.

An agent's own span has `gen_ai.aggregated_usage.*`, which no table reads: it is the sum of its calls.
"""

from pilothouse.telemetry.dialects.dialect import Dialect

DIALECT = Dialect(
    name="pydantic_ai",
    marks=("pydantic_ai", "logfire"),
    scopes=("pydantic-ai", "logfire"),
    fields={"agent_name": ("agent_name",), "tool_name": ("tool_name",)},
    tokens={
        "cache_read": ("gen_ai.usage.details.cache_read_tokens", "gen_ai.usage.details.cached_tokens"),
        "cache_write": ("gen_ai.usage.details.cache_write_tokens",),
        "reasoning": ("gen_ai.usage.details.reasoning_tokens",),
        "input_audio": ("gen_ai.usage.details.input_audio_tokens",),
        "output_audio": ("gen_ai.usage.details.output_audio_tokens",),
    },
    cost=("operation.cost",),
    input=("pydantic_ai.all_messages", "all_messages_events", "events", "request_data", "tool_arguments", "inputs"),
    output=("final_result", "response_data", "tool_response"),
    also=("model_request_parameters",),
    said_twice=("embeddings", "logfire.json_schema"),
)
