"""The Vercel AI SDK: built in up to 6, `@ai-sdk/otel` since.

`ai.generateText` and its like are loops over steps and say the sum of what `.doGenerate` and `.doStream` below them
say, so only these count.
"""

from pilothouse.telemetry.dialects.dialect import Dialect

DIALECT = Dialect(
    name="vercel",
    marks=("ai",),
    scopes=("ai", "@ai-sdk/"),
    fields={
        "provider": ("ai.model.provider",),
        "request_model": ("ai.model.id",),
        "response_model": ("ai.response.model",),
        "response_id": ("ai.response.id",),
        "finish_reason": ("ai.response.finishReason", "ai.finishReason"),
        "session": ("ai.telemetry.metadata.sessionId", "ai.telemetry.metadata.threadId", "sessionId"),
        "user": ("ai.telemetry.metadata.userId", "userId"),
        "tool_name": ("ai.toolCall.name",),
        "agent_name": ("ai.telemetry.functionId",),
    },
    tokens={
        "input": ("ai.usage.inputTokens", "ai.usage.promptTokens", "ai.usage.tokens"),
        "input_uncached": ("ai.usage.inputTokenDetails.noCacheTokens",),
        "output": ("ai.usage.outputTokens", "ai.usage.completionTokens"),
        "output_text": ("ai.usage.outputTokenDetails.textTokens",),
        "cache_read": ("ai.usage.inputTokenDetails.cacheReadTokens", "ai.usage.cachedInputTokens"),
        "cache_write": ("ai.usage.inputTokenDetails.cacheWriteTokens",),
        "reasoning": ("ai.usage.outputTokenDetails.reasoningTokens", "ai.usage.reasoningTokens"),
    },
    operations={
        "ai.operationId": {
            "ai.generateText": "invoke_agent",
            "ai.streamText": "invoke_agent",
            "ai.generateObject": "invoke_agent",
            "ai.streamObject": "invoke_agent",
            "ai.generateText.doGenerate": "chat",
            "ai.streamText.doStream": "chat",
            "ai.generateObject.doGenerate": "chat",
            "ai.streamObject.doStream": "chat",
            "ai.embed": "task",
            "ai.embedMany": "task",
            "ai.embed.doEmbed": "embeddings",
            "ai.embedMany.doEmbed": "embeddings",
            "ai.rerank": "task",
            "ai.rerank.doRerank": "rerank",
            "ai.toolCall": "execute_tool",
        }
    },
    ttft_ms=("ai.response.msToFirstChunk", "ai.stream.msToFirstChunk"),
    chunks=("ai.stream.firstChunk",),
    input=(
        "ai.prompt.messages",
        "ai.prompt",
        "ai.toolCall.args",
        "ai.value",
        "ai.values",
        "ai.documents",
    ),
    output=(
        "ai.response.text",
        "ai.response.object",
        "ai.response.toolCalls",
        "ai.result.text",
        "ai.result.object",
        "ai.result.toolCalls",
        "ai.toolCall.result",
        "ai.ranking",
    ),
    also=("ai.prompt.tools", "ai.schema"),
    said_twice=("ai.embedding", "ai.embeddings", "ai.response.reasoning", "ai.response.files"),
)
