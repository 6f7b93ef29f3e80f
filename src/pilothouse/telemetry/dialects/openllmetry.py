"""OpenLLMetry (Traceloop): what its instrumentations say besides the GenAI conventions."""

from pilothouse.telemetry.dialects.dialect import Dialect

DIALECT = Dialect(
    name="openllmetry",
    fields={
        "session": ("traceloop.association.properties.session_id",),
        "user": ("traceloop.association.properties.user_id",),
        "request_model": ("llm.request.model",),
        "response_model": ("llm.response.model",),
        "index_name": ("db.collection.name", "db.namespace"),
    },
    tokens={
        "input": ("llm.usage.prompt_tokens",),
        "output": ("llm.usage.completion_tokens",),
        "cache_read": ("llm.usage.cache_read_input_tokens",),
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
    },
    input=("traceloop.entity.input",),
    output=("traceloop.entity.output",),
)
