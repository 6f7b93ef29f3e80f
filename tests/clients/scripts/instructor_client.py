"""instructor: a model in JSON mode and by a tool call."""

import json
import os

import instructor
import openai
from pydantic import BaseModel

MODEL = os.environ["MODEL"]


class Order(BaseModel):
    """An order."""

    item: str
    count: int


def order(mode: instructor.Mode, text: str) -> dict[str, object]:
    """One typed answer."""
    client = instructor.from_openai(openai.OpenAI(max_retries=0), mode=mode)
    return client.chat.completions.create(
        model=MODEL, response_model=Order, max_retries=0, messages=[{"role": "user", "content": text}]
    ).model_dump()


print(
    json.dumps(
        {
            "json": order(instructor.Mode.JSON, "order as json"),
            "tools": order(instructor.Mode.TOOLS, "order by tool"),
        }
    )
)
