"""OpenInference: Phoenix's and Arize's conventions."""

from pilothouse.telemetry.dialects.dialect import Dialect, Flattened, Inside

KIND = "openinference.span.kind"
_OF_LANGCHAIN = "message.kwargs.response_metadata.id"

DIALECT = Dialect(
    name="openinference",
    marks=("openinference",),
    scopes=("openinference.", "@arizeai/openinference"),
    fields={
        "provider": ("llm.provider", "llm.system", "decision.provider", "decision.system"),
        "request_model": (
            "llm.request.model_name",
            "llm.model_name",
            "embedding.model_name",
            "reranker.model_name",
            "decision.request.model_name",
            "decision.model_name",
        ),
        "response_model": ("llm.response.model_name", "decision.response.model_name"),
        "finish_reason": ("llm.finish_reason",),
        "prompt_name": ("prompt.id",),
        "prompt_version": ("llm.prompt_template.version",),
        "tool_name": ("tool.name", "tool_call.function.name"),
        "agent_name": ("agent.name",),
    },
    tokens={
        "input": ("llm.token_count.prompt", "decision.token_count.input"),
        "output": ("llm.token_count.completion", "decision.token_count.output"),
        "cache_read": ("llm.token_count.prompt_details.cache_read", "llm.token_count.prompt_details.cache_input"),
        "cache_write": ("llm.token_count.prompt_details.cache_write",),
        "reasoning": ("llm.token_count.completion_details.reasoning",),
        "input_audio": ("llm.token_count.prompt_details.audio",),
        "output_audio": ("llm.token_count.completion_details.audio",),
    },
    inside=(
        Inside(
            "metadata",
            {
                "session": ("session_id", "thread_id", "conversation_id", "sessionId", "threadId"),
                "user": ("user_id", "userId"),
            },
        ),
        # What a library answered, as JSON: LangChain's, OpenAI's, Anthropic's, LlamaIndex's.
        Inside("output.value", {"response_id": (f"generations.0.0.{_OF_LANGCHAIN}",)}, when="generations"),
        Inside("output.value", {"response_id": ("id",)}, when="choices"),
        Inside("output.value", {"response_id": ("id",)}, when="stop_reason"),
        Inside("output.value", {"response_id": ("raw.id",)}, when="raw"),
    ),
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
            "DECISION": "decide",
        }
    },
    cost=("llm.cost.total",),
    cost_parts=("llm.cost.prompt", "llm.cost.completion"),
    chunks=("First Token Stream Event",),
    input=(
        "input.value",
        "reranker.query",
        "tool_call.function.arguments",
        "llm.prompt_template.template",
    ),
    output=("output.value",),
    flat_input=(
        Flattened("llm.input_messages.", "message."),
        Flattened("llm.prompts.", "prompt."),
        Flattened("embedding.embeddings.", "embedding."),
    ),
    flat_output=(Flattened("llm.output_messages.", "message."), Flattened("llm.choices.", "completion.")),
    also=("llm.prompt_template.variables", "llm.function_call"),
    flat_also=(Flattened("llm.tools.", "tool."),),
    flat_twice=(Flattened("reranker.input_documents.", "document."),),
    flat_documents=(
        Flattened("retrieval.documents.", "document."),
        Flattened("reranker.output_documents.", "document."),
    ),
)
