"""LlamaIndex under OpenInference's instrumentation, with a session and a user."""

import asyncio
import sys

import asked
from llama_index.core import Document, Settings, VectorStoreIndex
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.llms.openai_like import OpenAILike
from openinference.instrumentation import using_attributes
from openinference.instrumentation.llama_index import LlamaIndexInstrumentor

asked.traced()
LlamaIndexInstrumentor().instrument()
COMMON = {"api_base": asked.BASE_URL, "api_key": "sk-corpus", "max_retries": 0}


def model(name: str = asked.MODEL) -> OpenAILike:
    """The model; it asks for the usage of streams."""
    more = {"stream_options": {"include_usage": True}} if sys.argv[1] == "stream" else {}
    return OpenAILike(model=name, is_chat_model=True, is_function_calling_model=True, additional_kwargs=more, **COMMON)


embed = OpenAIEmbedding(model=asked.EMBEDDING_MODEL, **COMMON)
tool = FunctionTool.from_defaults(asked.get_weather)


def said(text: str) -> list[ChatMessage]:
    """A user's message."""
    return [ChatMessage(role="user", content=text)]


async def agent() -> None:
    """An agent with a tool."""
    await FunctionAgent(name="forecaster", tools=[tool], llm=model(), streaming=False).run(asked.AGENT)


name = sys.argv[1]
with using_attributes(session_id=asked.SESSION, user_id=asked.USER):
    if name == "chat":
        model().chat(said(asked.HELLO))
    elif name == "stream":
        for _ in model().stream_chat(said(asked.COUNT)):
            pass
    elif name == "tools":
        model().chat_with_tools([tool], user_msg=asked.WEATHER)
    elif name == "usage":
        model(asked.THINKING_MODEL).chat(said(asked.THINK))
    elif name == "embeddings":
        embed.get_text_embedding_batch(["tea", "coffee"])
    elif name == "rag":
        Settings.llm, Settings.embed_model = model(), embed
        index = VectorStoreIndex.from_documents([Document(doc_id=i, text=text) for i, text, _ in asked.DOCUMENTS])
        index.as_query_engine(similarity_top_k=2).query(asked.QUESTION)
    elif name == "agent":
        asyncio.run(agent())
