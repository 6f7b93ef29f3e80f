"""OpenLIT: what it says besides the GenAI conventions."""

from pilothouse.telemetry.dialects.dialect import Dialect

DIALECT = Dialect(
    name="openlit",
    marks=("gen_ai.application_name", "gen_ai.environment", "gen_ai.usage.cost"),
    scopes=("openlit",),
    fields={
        "app": ("gen_ai.application_name",),
        "env": ("gen_ai.environment",),
    },
    tokens={
        "cache_read": ("gen_ai.usage.prompt_tokens_details.cached_tokens",),
        "cache_write": ("gen_ai.usage.prompt_tokens_details.cache_creation_tokens",),
        "reasoning": ("gen_ai.usage.completion_tokens_details.reasoning_tokens",),
        "output_audio": ("gen_ai.usage.completion_tokens_details.audio_tokens",),
    },
    cost=("gen_ai.usage.cost",),
    ttft_s=("gen_ai.server.time_to_first_token",),
    input=("gen_ai.workflow.input",),
    output=("gen_ai.workflow.output", "gen_ai.content.revised_prompt"),
    said_twice=("gen_ai.content.reasoning",),
)
