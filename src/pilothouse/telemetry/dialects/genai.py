"""OpenTelemetry's GenAI conventions, three generations: up to 1.36, 1.37 to 1.41, and the repository of their own."""

from pilothouse.telemetry.dialects.dialect import Dialect, Flattened

DIALECT = Dialect(
    name="genai",
    fields={
        "operation": ("gen_ai.operation.name",),
        "provider": ("gen_ai.provider.name", "gen_ai.system"),
        "request_model": ("gen_ai.request.model",),
        "response_model": ("gen_ai.response.model",),
        "response_id": ("gen_ai.response.id",),
        "session": ("gen_ai.conversation.id",),
        "index_name": ("gen_ai.data_source.id",),
    },
    tokens={
        "input": ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"),
        "output": ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"),
        "cache_read": (
            "gen_ai.usage.cache_read.input_tokens",
            "gen_ai.usage.cache_read_input_tokens",
            "gen_ai.usage.input_tokens.cached",
        ),
        "cache_write": (
            "gen_ai.usage.cache_write.input_tokens",
            "gen_ai.usage.cache_creation.input_tokens",
            "gen_ai.usage.cache_creation_input_tokens",
        ),
        "reasoning": (
            "gen_ai.usage.reasoning.output_tokens",
            "gen_ai.usage.reasoning_tokens",
            "gen_ai.usage.output_tokens.reasoning",
        ),
    },
    input=(
        "gen_ai.input.messages",
        "gen_ai.tool.call.arguments",
        "gen_ai.retrieval.query.text",
        "gen_ai.content.prompt",
        "gen_ai.prompt",
    ),
    output=("gen_ai.output.messages", "gen_ai.tool.call.result", "gen_ai.content.completion", "gen_ai.completion"),
    flat_input=(Flattened("gen_ai.prompt."),),
    flat_output=(Flattened("gen_ai.completion."),),
    documents=("gen_ai.retrieval.documents",),
)
