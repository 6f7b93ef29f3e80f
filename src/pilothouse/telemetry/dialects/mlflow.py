"""MLflow's SDK. Every value is JSON text, a string's quotes included. Its usage totals are inclusive."""

from pilothouse.telemetry.dialects.dialect import Dialect, Inside

_ANSWER_USED = {  # in the provider's own answer, for what MLflow's usage does not say
    "tokens.input": ("usage.prompt_tokens", "usage.input_tokens"),
    "tokens.reasoning": (
        "usage.completion_tokens_details.reasoning_tokens",
        "usage.output_tokens_details.reasoning_tokens",
    ),
}

DIALECT = Dialect(
    name="mlflow",
    marks=("mlflow",),
    scopes=("mlflow",),
    fields={
        "provider": ("mlflow.llm.provider",),
        "request_model": ("mlflow.llm.model",),
        "session": ("mlflow.trace.session",),
        "user": ("mlflow.trace.user",),
    },
    inside=(
        Inside(
            "mlflow.chat.tokenUsage",
            {
                "tokens.input": ("input_tokens",),
                "tokens.output": ("output_tokens",),
                "tokens.cache_read": ("cache_read_input_tokens",),
                "tokens.cache_write": ("cache_creation_input_tokens",),
                "tokens.cache_write_1h": ("cache_creation_input_tokens_above_1hr",),
            },
        ),
        Inside("mlflow.spanOutputs", _ANSWER_USED | {"response_id": ("id",)}, when="choices"),
        Inside("mlflow.spanOutputs", _ANSWER_USED | {"response_id": ("id",)}, when="stop_reason"),
        Inside("mlflow.spanOutputs", _ANSWER_USED),
        Inside("mlflow.llm.cost", {"cost": ("total_cost",)}),
        Inside("mlflow.linkedPrompts", {"prompt_name": ("0.name",), "prompt_version": ("0.version",)}),
    ),
    operations={
        "mlflow.spanType": {
            "LLM": "chat",
            "CHAT_MODEL": "chat",
            "EMBEDDING": "embeddings",
            "RETRIEVER": "retrieval",
            "RERANKER": "rerank",
            "TOOL": "execute_tool",
            "AGENT": "invoke_agent",
            "CHAIN": "invoke_workflow",
            "WORKFLOW": "invoke_workflow",
            "TASK": "task",
            "PARSER": "parse",
            "GUARDRAIL": "guardrail",
            "EVALUATOR": "evaluate",
        }
    },
    input=("mlflow.spanInputs",),
    output=("mlflow.spanOutputs",),
    also=("mlflow.chat.tools",),
    said_twice=("mlflow.trace.intermediate_outputs",),
    documents_in_output=True,
)
