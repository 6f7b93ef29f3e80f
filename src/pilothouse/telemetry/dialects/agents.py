"""Agent frameworks that follow the GenAI conventions and add keys of their own: only those whose meaning is certain."""

from pilothouse.telemetry.dialects.dialect import Dialect

GOOGLE_ADK = Dialect(
    name="google_adk",
    marks=("gcp.vertex.agent.llm_request", "gcp.vertex.agent.invocation_id", "gcp.vertex.agent.event_id"),
    scopes=("gcp.vertex.agent",),
    fields={"session": ("gcp.vertex.agent.session_id",)},
    input=("gcp.vertex.agent.llm_request", "gcp.vertex.agent.tool_call_args", "gcp.vertex.agent.data"),
    output=("gcp.vertex.agent.llm_response", "gcp.vertex.agent.tool_response"),
)
LIVEKIT = Dialect(
    name="livekit",
    marks=("lk",),
    scopes=("livekit",),
    fields={"agent_name": ("lk.agent_name",), "tool_name": ("lk.function_tool.name",)},
    ttft_s=("lk.response.ttft",),
    input=("lk.chat_ctx", "lk.user_input", "lk.user_transcript", "lk.input_text", "lk.function_tool.arguments"),
    output=("lk.response.text", "lk.response.function_calls", "lk.function_tool.output"),
    also=("lk.instructions",),
)
GENKIT = Dialect(
    name="genkit",
    marks=("genkit:type", "genkit:name", "genkit:path"),
    scopes=("genkit",),
    operations={
        "genkit:metadata:subtype": {
            "model": "chat",
            "tool": "execute_tool",
            "flow": "invoke_workflow",
            "retriever": "retrieval",
            "reranker": "rerank",
            "embedder": "embeddings",
            "evaluator": "evaluate",
            "prompt": "render_prompt",
        }
    },
    input=("genkit:input",),
    output=("genkit:output",),
)
STRANDS = Dialect(
    name="strands",
    scopes=("strands",),
    fields={"agent_name": ("gen_ai.agent.name",)},
    tokens={"cache_write": ("gen_ai.usage.cache_write_input_tokens",)},
)
