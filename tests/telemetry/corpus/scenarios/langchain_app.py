"""LangChain under what `argv[2:]` names: openllmetry, openllmetry-openai, openinference, langsmith."""

import sys

import asked
from langchain.agents import create_agent
from langchain_core.documents import Document
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnablePassthrough
from langchain_core.tools import tool
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

name, *used = sys.argv[1:]
if "langsmith" not in used:
    provider = asked.traced()
if "openllmetry" in used:
    from opentelemetry.instrumentation.langchain import LangchainInstrumentor

    LangchainInstrumentor().instrument()
if "openllmetry-openai" in used:
    from opentelemetry.instrumentation.openai import OpenAIInstrumentor

    OpenAIInstrumentor().instrument()
if "openinference" in used:
    from openinference.instrumentation.langchain import LangChainInstrumentor

    LangChainInstrumentor().instrument()

ABOUT = {"metadata": {"session_id": asked.SESSION, "user_id": asked.USER}}
llm = ChatOpenAI(model=asked.MODEL, max_retries=0, stream_usage=True)


@tool
def get_weather(city: str) -> str:
    """The weather of a city."""
    return asked.get_weather(city)


def rag() -> None:
    """A retriever over two documents, a prompt, a model."""
    embeddings = OpenAIEmbeddings(model=asked.EMBEDDING_MODEL, check_embedding_ctx_length=False, max_retries=0)
    store = InMemoryVectorStore(embeddings)
    store.add_documents([Document(id=i, page_content=text, metadata={"source": i}) for i, text, _ in asked.DOCUMENTS])
    prompt = ChatPromptTemplate.from_template("{context}\n{question}")
    chain = (
        {"context": store.as_retriever(search_kwargs={"k": 2}), "question": RunnablePassthrough()}
        | prompt
        | llm
        | StrOutputParser()
    )
    chain.invoke(asked.QUESTION, ABOUT)


if name == "chat":
    llm.invoke(asked.HELLO, ABOUT)
elif name == "stream":
    for _ in llm.stream(asked.COUNT, ABOUT):
        pass
elif name == "tools":
    llm.bind_tools([get_weather]).invoke(asked.WEATHER, ABOUT)
elif name == "usage":
    ChatOpenAI(model=asked.THINKING_MODEL, max_retries=0).invoke(asked.THINK, ABOUT)
elif name == "rag":
    rag()
elif name == "agent":
    agent = create_agent(llm, [get_weather], name="forecaster")
    agent.invoke({"messages": [{"role": "user", "content": asked.AGENT}]}, ABOUT)
if "langsmith" in used:
    from langchain_core.tracers.langchain import wait_for_all_tracers

    wait_for_all_tracers()
    from opentelemetry import trace

    trace.get_tracer_provider().force_flush()
