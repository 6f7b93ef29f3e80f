"""OpenInference: Phoenix's and Arize's conventions."""

from pilothouse.telemetry.dialects.dialect import Dialect, Flattened

KIND = "openinference.span.kind"

DIALECT = Dialect(
    name="openinference",
    fields={
        "provider": ("llm.provider", "llm.system"),
        "request_model": ("llm.request.model_name", "llm.model_name", "embedding.model_name", "reranker.model_name"),
        "response_model": ("llm.response.model_name",),
    },
    tokens={
        "input": ("llm.token_count.prompt",),
        "output": ("llm.token_count.completion",),
        "cache_read": ("llm.token_count.prompt_details.cache_read",),
        "cache_write": ("llm.token_count.prompt_details.cache_write",),
        "reasoning": ("llm.token_count.completion_details.reasoning",),
    },
    operations={
        KIND: {
            "LLM": "chat",
            "EMBEDDING": "embeddings",
            "RETRIEVER": "retrieval",
            "RERANKER": "rerank",
            "TOOL": "execute_tool",
            "AGENT": "invoke_agent",
            "CHAIN": "invoke_workflow",
            "GUARDRAIL": "guardrail",
            "EVALUATOR": "evaluate",
            "PROMPT": "render_prompt",
        }
    },
    input=("input.value", "reranker.query"),
    output=("output.value",),
    flat_input=(Flattened("llm.input_messages.", "message."),),
    flat_output=(Flattened("llm.output_messages.", "message."),),
    flat_documents=(
        Flattened("retrieval.documents.", "document."),
        Flattened("reranker.output_documents.", "document."),
    ),
)
