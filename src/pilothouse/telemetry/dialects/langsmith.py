"""LangSmith's OpenTelemetry exporter (LangChain, LangGraph): GenAI keys, and its own word for what the run was.

It goes before the GenAI table, because it calls a retriever's operation `embeddings`.
"""

from pilothouse.telemetry.dialects.dialect import Dialect, Inside

_M = "langsmith.metadata."

DIALECT = Dialect(
    name="langsmith",
    marks=("langsmith",),
    scopes=("langsmith",),
    fields={
        "provider": (_M + "ls_provider",),
        "request_model": (_M + "ls_model_name",),
        "session": (_M + "session_id", _M + "thread_id", _M + "conversation_id", "langsmith.trace.session_id"),
        "user": (_M + "user_id",),
        "release": (_M + "revision_id",),
    },
    inside=(
        Inside(
            "gen_ai.completion",
            {"response_id": ("generations.0.0.message.kwargs.response_metadata.id",)},
            when="generations",
        ),
        Inside(
            _M + "usage_metadata",
            {
                "tokens.input": ("input_tokens",),
                "tokens.output": ("output_tokens",),
                "tokens.cache_read": ("input_token_details.cache_read",),
                "tokens.cache_write": ("input_token_details.cache_creation",),
                "tokens.reasoning": ("output_token_details.reasoning",),
                "tokens.input_audio": ("input_token_details.audio",),
                "tokens.output_audio": ("output_token_details.audio",),
                "cost": ("total_cost",),
            },
        ),
        Inside(
            "gen_ai.usage.input_token_details",
            {"tokens.cache_read": ("cache_read",), "tokens.cache_write": ("cache_creation",)},
        ),
        Inside("gen_ai.usage.output_token_details", {"tokens.reasoning": ("reasoning",)}),
    ),
    operations={
        "langsmith.span.kind": {
            "llm": "chat",
            "chain": "invoke_workflow",
            "tool": "execute_tool",
            "retriever": "retrieval",
            "embedding": "embeddings",
            "prompt": "render_prompt",
            "parser": "parse",
        }
    },
    chunks=("new_token",),
    documents_in_output=True,
)
