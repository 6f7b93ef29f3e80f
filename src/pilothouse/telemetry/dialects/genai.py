"""OpenTelemetry's GenAI conventions, three generations: up to 1.36, 1.37 to 1.41, and the repository of their own."""

from pilothouse.telemetry.dialects.dialect import Dialect, Flattened

OPERATIONS = {  # names that instrumentations give instead of the conventions' own
    "completion": "text_completion",
    "embedding": "embeddings",
    "response": "chat",
    "responses": "chat",
    "execute_task": "task",
    "execute_event_loop_cycle": "task",
    "workflow": "invoke_workflow",
    "chain": "invoke_workflow",
    "agent": "invoke_agent",
    "tool": "execute_tool",
    "vectordb": "retrieval",
    "vector_db_retrieve": "retrieval",
    "retrieve": "retrieval",
}
PROVIDERS = {  # older and other names → the conventions' own
    "az.ai.openai": "azure.ai.openai",
    "az.ai.inference": "azure.ai.inference",
    "azure": "azure.ai.openai",
    "azure-openai": "azure.ai.openai",
    "azure_openai": "azure.ai.openai",
    "xai": "x_ai",
    "vertex_ai": "gcp.vertex_ai",
    "vertexai": "gcp.vertex_ai",
    "google.vertex": "gcp.vertex_ai",
    "google_vertexai": "gcp.vertex_ai",
    "gemini": "gcp.gemini",
    "google": "gcp.gemini",
    "google_genai": "gcp.gemini",
    "google.generative-ai": "gcp.gemini",
    "mistral": "mistral_ai",
    "mistralai": "mistral_ai",
    "aws": "aws.bedrock",
    "bedrock": "aws.bedrock",
    "amazon-bedrock": "aws.bedrock",
    "amazon_bedrock": "aws.bedrock",
    "aws_bedrock": "aws.bedrock",
    "watsonx": "ibm.watsonx.ai",
    "moonshot": "moonshot_ai",
}
# The Vercel AI SDK adds which of the provider's functions was called: `openai.chat`, `anthropic.messages`.
FUNCTIONS = (".chat", ".responses", ".messages", ".completion", ".embedding", ".textEmbedding", ".image", ".reranking")

DIALECT = Dialect(
    name="genai",
    marks=("gen_ai", "mcp"),
    fields={
        "operation": ("gen_ai.operation.name",),
        "provider": ("gen_ai.provider.name", "gen_ai.system"),
        "request_model": ("gen_ai.request.model",),
        "response_model": ("gen_ai.response.model",),
        "response_id": ("gen_ai.response.id",),
        "finish_reason": ("gen_ai.response.finish_reasons", "gen_ai.response.finish_reason"),
        "session": ("gen_ai.conversation.id",),
        "index_name": ("gen_ai.data_source.id",),
        "prompt_name": ("gen_ai.prompt.name",),
        "prompt_version": ("gen_ai.prompt.version",),
        "tool_name": ("gen_ai.tool.name",),
        "agent_name": ("gen_ai.agent.name",),
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
        "input_audio": ("gen_ai.usage.audio.input_tokens",),
        "output_audio": ("gen_ai.usage.audio.output_tokens",),
    },
    ttft_s=("gen_ai.response.time_to_first_chunk", "gen_ai.client.operation.time_to_first_chunk"),
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
    also=("gen_ai.system_instructions", "gen_ai.tool.definitions"),
    documents=("gen_ai.retrieval.documents",),
)
