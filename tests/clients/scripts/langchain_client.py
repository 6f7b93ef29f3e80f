"""LangChain: ChatOpenAI and ChatAnthropic, whole, streamed, with a tool and with structured output."""

import json
import os

from langchain_anthropic import ChatAnthropic
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

MODEL = os.environ["MODEL"]


@tool
def lookup(q: str) -> str:
    """Looks something up."""
    return q


class Order(BaseModel):
    """An order."""

    item: str
    count: int


llm = ChatOpenAI(model=MODEL, max_retries=0)
claude = ChatAnthropic(model=MODEL, max_retries=0, max_tokens=100)
out: dict[str, object] = {
    "invoke": llm.invoke("hello").content,
    "stream": "".join(str(c.content) for c in llm.stream("hello stream")),
    "anthropic": claude.invoke("hello").content,
    "tool": [[c["name"], c["args"]] for c in llm.bind_tools([lookup]).invoke("use the tool").tool_calls],
    "structured": llm.with_structured_output(Order).invoke("order as json").model_dump(),
}
print(json.dumps(out))
