"""pydantic-ai: an agent with a tool over chat, the responses API, a stream."""

import asyncio
import json
import os

from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel

MODEL = os.environ["MODEL"]


async def main() -> None:
    """All of it."""
    out: dict[str, object] = {}
    agent = Agent(OpenAIChatModel(MODEL))
    out["chat"] = (await agent.run("hello")).output
    out["responses"] = (await Agent(OpenAIResponsesModel(MODEL)).run("hello")).output
    async with agent.run_stream("hello stream") as run:
        out["stream"] = await run.get_output()
    looked: list[str] = []
    tools = Agent(OpenAIChatModel(MODEL))

    @tools.tool_plain
    def lookup(q: str) -> str:
        """Looks something up."""
        looked.append(q)
        return "it is found"

    out["tool"] = [(await tools.run("use the tool")).output, looked]
    print(json.dumps(out))


asyncio.run(main())
