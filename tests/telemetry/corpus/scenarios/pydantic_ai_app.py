"""pydantic-ai with the instrumentation that it brings."""

import asyncio
import sys

import asked
from pydantic_ai import Agent, DeferredToolRequests, Embedder, ExternalToolset, ToolDefinition
from pydantic_ai.models.instrumented import InstrumentationSettings
from pydantic_ai.models.openai import OpenAIChatModel

provider = asked.traced()
Agent.instrument_all(InstrumentationSettings(tracer_provider=provider))
Embedder.instrument_all(InstrumentationSettings(tracer_provider=provider))
embedder = Embedder(f"openai:{asked.EMBEDDING_MODEL}")


async def main(name: str) -> None:
    """One scenario."""
    agent = Agent(OpenAIChatModel(asked.MODEL), name="forecaster")
    if name == "chat":
        await agent.run(asked.HELLO)
    elif name == "stream":
        async with agent.run_stream(asked.COUNT) as run:
            await run.get_output()
    elif name == "tools":  # one that somebody else runs: the call for it ends the run
        wanted = asked.TOOL["function"]
        tool = ToolDefinition(
            name=wanted["name"], description=wanted["description"], parameters_json_schema=wanted["parameters"]
        )
        caller = Agent(
            OpenAIChatModel(asked.MODEL), name="forecaster", output_type=[str, DeferredToolRequests],
            toolsets=[ExternalToolset([tool])],
        )  # fmt: skip
        await caller.run(asked.WEATHER)
    elif name == "usage":
        await Agent(OpenAIChatModel(asked.THINKING_MODEL), name="thinker").run(asked.THINK)
    elif name == "embeddings":
        await embedder.embed_documents(["tea", "coffee"])
    elif name == "rag":

        @agent.instructions
        async def documents() -> str:
            """What is found for the question."""
            await embedder.embed_query(asked.QUESTION)
            return "\n".join(text for _, text, _ in asked.DOCUMENTS)

        await agent.run(asked.QUESTION)
    elif name == "agent":
        agent.tool_plain(asked.get_weather)
        await agent.run(asked.AGENT)


asyncio.run(main(sys.argv[1]))
