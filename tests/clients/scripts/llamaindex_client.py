"""LlamaIndex: complete, chat, stream, embeddings."""

import json
import os

from llama_index.core.llms import ChatMessage
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.llms.openai_like import OpenAILike

llm = OpenAILike(
    model=os.environ["MODEL"],
    api_base=os.environ["OPENAI_BASE_URL"],
    api_key=os.environ["OPENAI_API_KEY"],
    is_chat_model=True,
    max_retries=0,
)
embed = OpenAIEmbedding(model_name=os.environ["EMBEDDING_MODEL"], api_base=os.environ["OPENAI_BASE_URL"], max_retries=0)
out = {
    "complete": str(llm.complete("hello")),
    "chat": llm.chat([ChatMessage(role="user", content="hello")]).message.content,
    "stream": "".join(c.delta or "" for c in llm.stream_chat([ChatMessage(role="user", content="hello stream")])),
    "embeddings": len(embed.get_text_embedding_batch(["a", "b"])),
}
print(json.dumps(out))
