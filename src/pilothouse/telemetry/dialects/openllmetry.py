"""OpenLLMetry (Traceloop): what its instrumentations say besides the GenAI conventions, the older ones included."""

from pilothouse.telemetry.dialects.dialect import Dialect

_ABOUT = "traceloop.association.properties."

DIALECT = Dialect(
    name="openllmetry",
    marks=("traceloop", "llm.request.type", "llm.usage.total_tokens", "gen_ai.is_streaming", "gen_ai.task.name"),
    scopes=(
        "opentelemetry.instrumentation.openai.v",
        "opentelemetry.instrumentation.langchain",
        "opentelemetry.instrumentation.llamaindex",
        "opentelemetry.instrumentation.anthropic",
        "opentelemetry.instrumentation.bedrock",
        "opentelemetry.instrumentation.cohere",
        "opentelemetry.instrumentation.mistralai",
        "traceloop",
        "@traceloop/",
    ),
    fields={
        "session": (_ABOUT + "session_id", _ABOUT + "thread_id", _ABOUT + "conversation_id"),
        "user": (_ABOUT + "user_id",),
        "request_model": ("llm.request.model",),
        "response_model": ("llm.response.model",),
        "finish_reason": ("llm.response.finish_reason", "llm.response.stop_reason"),
        "index_name": ("db.collection.name", "db.namespace"),
        "prompt_name": ("traceloop.prompt.key",),
        "prompt_version": ("traceloop.prompt.version",),
    },
    tokens={
        "input": ("llm.usage.prompt_tokens",),
        "output": ("llm.usage.completion_tokens",),
        "cache_read": ("llm.usage.cache_read_input_tokens", "cache_read_input_tokens"),
        "cache_write": ("llm.usage.cache_creation_input_tokens",),
    },
    operations={
        "llm.request.type": {
            "chat": "chat",
            "completion": "text_completion",
            "embedding": "embeddings",
            "rerank": "rerank",
        },
        "traceloop.span.kind": {
            "workflow": "invoke_workflow",
            "task": "task",
            "agent": "invoke_agent",
            "tool": "execute_tool",
        },
        "db.operation": {"query": "retrieval", "search": "retrieval", "similarity_search": "retrieval"},
        "db.vector.query.top_k": {"": "retrieval"},
    },
    chunks=("llm.content.completion.chunk", "gen_ai.content.completion.chunk"),
    input=("traceloop.entity.input", "gen_ai.task.input"),
    output=("traceloop.entity.output", "gen_ai.task.output"),
    also=("traceloop.prompt.template", "traceloop.prompt.template_variables"),
    documents_in_output=True,
)
