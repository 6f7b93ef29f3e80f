"""What each kind of provider is sent: method, address, headers, body."""

from typing import Any

import pytest
from tests.providers.dialects import MESSAGES, SPAN, TRACE, ask, body_of, chat, entry, said

from pilothouse.domain.errors import BadRequest
from pilothouse.domain.provider_kinds import PROVIDER_KINDS
from pilothouse.providers.registry import KINDS, wire_of

TRACEPARENT = ("traceparent", f"00-{TRACE}-{SPAN}-01")
JSON = ("content-type", "application/json")
BEARER = ("authorization", "Bearer sk")
COMPATIBLE = [
    ("openai", "https://api.openai.com/v1", "any chat embeddings moderations responses"),
    ("vllm", "http://127.0.0.1:8000/v1", "any chat embeddings"),
    ("ollama", "http://127.0.0.1:11434/v1", "any chat embeddings"),
    ("llama.cpp", "http://127.0.0.1:8080/v1", "any chat embeddings"),
    ("groq", "https://api.groq.com/openai/v1", "any chat"),
    ("together", "https://api.together.xyz/v1", "any chat embeddings"),
    ("openrouter", "https://openrouter.ai/api/v1", "any chat embeddings"),
    ("mistral", "https://api.mistral.ai/v1", "any chat embeddings moderations"),
    ("deepseek", "https://api.deepseek.com/v1", "any chat"),
    ("fireworks", "https://api.fireworks.ai/inference/v1", "any chat embeddings"),
    ("xai", "https://api.x.ai/v1", "any chat responses"),
]
PATHS = {
    "chat": "/chat/completions",
    "responses": "/responses",
    "embeddings": "/embeddings",
    "moderations": "/moderations",
    "messages": "/messages",
}


def test_every_kind_of_the_files_can_be_spoken_to() -> None:
    assert set(KINDS) == set(PROVIDER_KINDS)


@pytest.mark.parametrize(("kind", "base", "forms"), COMPATIBLE)
def test_a_compatible_server_gets_the_bytes_as_they_are(kind: str, base: str, forms: str) -> None:
    wire = wire_of(entry(kind))
    assert sorted(wire.native) == forms.split()
    for form in wire.native:
        body = {"model": "m", "messages": MESSAGES, "temperature": 0.5}
        asked = ask(entry(kind), body, form=form, path="/batches?limit=2", method="GET" if form == "any" else "POST")
        request = said(asked)
        assert request.url == base + PATHS.get(form, "/batches?limit=2")
        assert request.method == asked.method
        assert sorted(request.headers) == sorted([JSON, TRACEPARENT, BEARER])
        assert request.body == asked.body


@pytest.mark.parametrize(
    ("kind", "sent", "got"),
    [
        ("openai", {"max_completion_tokens": 5, "stream_options": {"include_usage": True}}, None),
        ("ollama", {"max_completion_tokens": 5}, {"max_tokens": 5}),
        ("together", {"max_completion_tokens": 5, "max_tokens": 7}, {"max_tokens": 7}),
        ("deepseek", {"max_completion_tokens": 5, "seed": 1}, {"max_tokens": 5, "seed": 1}),
        ("fireworks", {"max_completion_tokens": 5}, {"max_tokens": 5}),
        (
            "mistral",
            {"stream": True, "stream_options": {"include_usage": True}, "user": "u", "seed": 3, "top_p": 0.5},
            {"stream": True, "random_seed": 3, "top_p": 0.5},
        ),
    ],
)
def test_fields_that_a_server_does_not_know(kind: str, sent: dict[str, Any], got: dict[str, Any] | None) -> None:
    base = {"model": "m", "messages": [{"role": "user", "content": 'about "seed" and "user"'}]}
    assert body_of(said(ask(entry(kind), base | sent))) == base | (sent if got is None else got)


def test_words_in_a_message_do_not_change_it() -> None:
    asked = ask(entry("mistral"), {"model": "m", "messages": [{"role": "user", "content": "x", "name": "user"}]})
    assert said(asked).body == asked.body


def test_without_a_key_no_credentials_are_sent() -> None:
    assert sorted(said(ask(entry("vllm"), key="")).headers) == sorted([JSON, TRACEPARENT])


def test_local_and_scripted_are_given_without_v1() -> None:
    assert said(ask(entry("local", "http://127.0.0.1:5"))).url == "http://127.0.0.1:5/v1/chat/completions"
    assert sorted(wire_of(entry("scripted", "x")).native) == [
        "any", "chat", "embeddings", "messages", "moderations", "responses",
    ]  # fmt: skip


@pytest.mark.parametrize("base", ["https://r.openai.azure.com", "https://r.openai.azure.com/openai/v1/"])
def test_azure_without_and_with_a_version(base: str) -> None:
    request = said(ask(entry("azure-openai", base)))
    assert request.url == "https://r.openai.azure.com/openai/v1/chat/completions"
    assert sorted(request.headers) == sorted([JSON, TRACEPARENT, ("api-key", "sk")])
    old = entry("azure-openai", base, api_version="2024-10-21")
    body = {"model": "my gpt", "messages": MESSAGES}
    for form, path in (("chat", "chat/completions"), ("embeddings", "embeddings")):
        url = said(ask(old, body, form=form)).url
        assert url == f"https://r.openai.azure.com/openai/deployments/my%20gpt/{path}?api-version=2024-10-21"
    assert said(ask(old, body, form="responses")).url.endswith("/openai/responses?api-version=2024-10-21")
    passed = said(ask(old, body, form="any", path="/files?limit=1"))
    assert passed.url.endswith("/openai/files?limit=1&api-version=2024-10-21")


# Anthropic


def test_anthropic_messages_go_as_they_are() -> None:
    client = [("anthropic-beta", "context-1m-2025-08-07"), ("anthropic-version", "2024-01-01")]
    asked = ask(entry("anthropic"), {"model": "m"}, form="messages", headers=client)
    request = said(asked)
    assert request.url == "https://api.anthropic.com/v1/messages"
    assert sorted(request.headers) == sorted([JSON, TRACEPARENT, ("x-api-key", "sk"), *client])
    assert request.body == asked.body
    bare = said(ask(entry("anthropic", "https://proxy.example"), form="messages"))
    assert bare.url == "https://proxy.example/v1/messages"
    assert ("anthropic-version", "2023-06-01") in bare.headers
    count = said(ask(entry("anthropic"), form="any", path="/messages/count_tokens"))
    assert count.url == "https://api.anthropic.com/v1/messages/count_tokens"


def test_chat_for_anthropic() -> None:
    png = "data:image/png;base64,aGk="
    body = chat(
        "anthropic",
        model="claude-sonnet-4-5",
        stream=True,
        stream_options={"include_usage": True},
        temperature=1.5,
        top_p=0.9,
        stop=["END", " "],
        user="u1",
        max_completion_tokens=50,
        seed=4,
        messages=[
            {"role": "system", "content": [{"type": "text", "text": "Rules.", "cache_control": {"type": "ephemeral"}}]},
            {"role": "developer", "content": "More."},
            {
                "role": "user",
                "content": [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": png}}],
            },
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}]},
            {
                "role": "assistant",
                "content": "I look.",
                "thinking_blocks": [{"type": "thinking", "thinking": "hm", "signature": "s"}],
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}},
                    {"id": "c2", "type": "function", "function": {"name": "f", "arguments": ""}},
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "one"},
            {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "two"}]},
            {"role": "user", "content": "and?", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
            {"role": "assistant", "content": "So  "},
        ],
        tools=[
            {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}},
            {"type": "function", "function": {"name": "g"}, "cache_control": {"type": "ephemeral"}},
        ],
        tool_choice="required",
        parallel_tool_calls=False,
    )
    assert body == {
        "model": "claude-sonnet-4-5",
        "max_tokens": 50,
        "stream": True,
        "temperature": 1.0,
        "top_p": 0.9,
        "stop_sequences": ["END"],
        "metadata": {"user_id": "u1"},
        "system": [
            {"type": "text", "text": "Rules.", "cache_control": {"type": "ephemeral"}},
            {"type": "text", "text": "More."},
        ],
        "tools": [
            {"name": "f", "description": "d", "input_schema": {"type": "object"}},
            {"name": "g", "input_schema": {"type": "object"}, "cache_control": {"type": "ephemeral"}},
        ],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "see"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}},
                    {"type": "image", "source": {"type": "url", "url": "https://x.example/a.png"}},
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "s"},
                    {"type": "text", "text": "I look."},
                    {"type": "tool_use", "id": "c1", "name": "f", "input": {"a": 1}},
                    {"type": "tool_use", "id": "c2", "name": "f", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "c1", "content": "one"},
                    {"type": "tool_result", "tool_use_id": "c2", "content": [{"type": "text", "text": "two"}]},
                    {"type": "text", "text": "and?", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
                ],
            },
            {"role": "assistant", "content": [{"type": "text", "text": "So"}]},
        ],
    }


@pytest.mark.parametrize(
    ("asked", "got"),
    [
        ({"model": "claude-3-haiku-20240307"}, {"max_tokens": 4096}),
        ({"model": "claude-3-5-haiku-latest"}, {"max_tokens": 8192}),
        ({"tool_choice": "auto", "tools": 1}, {"tool_choice": {"type": "auto"}}),
        ({"tool_choice": "none", "tools": 1}, {"tool_choice": {"type": "none"}}),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}, "tools": 1},
         {"tool_choice": {"type": "tool", "name": "f"}}),
        ({"model": "claude-3-7-sonnet", "reasoning_effort": "low", "max_tokens": 100, "temperature": 0.2},
         {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 1124, "temperature": None}),
        ({"model": "claude-opus-4-6", "reasoning_effort": "high"},
         {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}),
        ({"thinking": {"type": "enabled", "budget_tokens": 2000}, "top_k": 3}, {"max_tokens": 8192, "top_k": None}),
        ({"response_format": {"type": "json_object"}}, {"system": "Answer with one JSON object and nothing else."}),
        ({"stop": "x"}, {"stop_sequences": ["x"]}),
    ],
)  # fmt: skip
def test_chat_options_for_anthropic(asked: dict[str, Any], got: dict[str, Any]) -> None:
    if asked.get("tools"):
        asked = asked | {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]}
    body = chat("anthropic", **asked)
    assert {name: body.get(name) for name in got} == got


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": False}
STRICT = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}}
LOOSE = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}


def test_a_json_schema_for_anthropic_natively_by_a_tool_or_in_words() -> None:
    native = chat("anthropic", model="claude-sonnet-4-5", response_format=STRICT)
    assert native["output_config"] == {"format": {"type": "json_schema", "schema": SCHEMA}} and "tools" not in native
    for model, shape in (("claude-sonnet-4-5", LOOSE), ("claude-3-5-sonnet-latest", STRICT)):
        forced = chat("anthropic", model=model, response_format=shape)
        assert forced["tools"] == [
            {"name": "pilothouse_json", "description": "Gives the answer.", "input_schema": SCHEMA}
        ]
        assert forced["tool_choice"] == {"type": "tool", "name": "pilothouse_json"}
    told = chat("anthropic", response_format=LOOSE, tools=[{"type": "function", "function": {"name": "f"}}])
    assert "JSON Schema" in told["system"] and [tool["name"] for tool in told["tools"]] == ["f"]


UNSAYABLE: list[tuple[str, dict[str, Any]]] = [
    ("anthropic", {"n": 2}),
    ("anthropic", {"logprobs": True}),
    ("anthropic", {"modalities": ["text", "audio"]}),
    ("anthropic", {"tools": [{"type": "web_search_preview"}]}),
    ("anthropic", {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]}),
    ("anthropic", {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "file:///x"}]}]}),
    ("anthropic", {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}]}),
    ("gemini", {"logprobs": True}),
    ("gemini", {"modalities": ["audio"]}),
    ("gemini", {"tools": [{"type": "custom"}]}),
    ("gemini", {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}]}),
    ("bedrock", {"n": 2}),
    ("bedrock", {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "https://x/y.png"}]}]}),
    ("bedrock", {
        "messages": [{"role": "tool", "tool_call_id": "c", "content": "x"}],
        "tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "none",
    }),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "asked"), UNSAYABLE)
def test_what_cannot_be_said_is_refused(kind: str, asked: dict[str, Any]) -> None:
    with pytest.raises(BadRequest) as caught:
        chat(kind, **asked)
    assert caught.value.kind == "unsupported_parameter" and caught.value.hint


@pytest.mark.parametrize("kind", ["anthropic", "gemini", "bedrock"])
def test_arguments_that_are_no_json_are_the_clients_error(kind: str) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{not"}}
    with pytest.raises(BadRequest, match="arguments"):
        chat(kind, messages=[{"role": "assistant", "tool_calls": [call]}])


# Gemini


def test_gemini_addresses() -> None:
    request = said(ask(entry("gemini"), {"model": "gemini-2.5-flash", "messages": MESSAGES}))
    base = "https://generativelanguage.googleapis.com/v1beta"
    assert request.url == f"{base}/models/gemini-2.5-flash:generateContent"
    assert sorted(request.headers) == sorted([JSON, TRACEPARENT, ("x-goog-api-key", "sk")])
    streamed = {"model": "models/gemini-2.5-flash", "messages": MESSAGES, "stream": True}
    assert said(ask(entry("gemini"), streamed)).url == f"{base}/models/gemini-2.5-flash:streamGenerateContent?alt=sse"
    embedded = ask(entry("gemini"), {"model": "gemini-embedding-001", "input": "x"}, form="embeddings")
    request = said(embedded)
    assert (request.url, request.body) == (f"{base}/openai/embeddings", embedded.body)
    assert sorted(request.headers) == sorted([JSON, TRACEPARENT, BEARER])


def test_chat_for_gemini() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    signed = call | {"id": "c2", "extra_content": {"google": {"thought_signature": "sig"}}}
    body = chat(
        "gemini",
        model="gemini-2.5-flash",
        temperature=0.5,
        top_p=0.9,
        n=2,
        seed=7,
        presence_penalty=0.1,
        max_tokens=60,
        stop="END",
        reasoning_effort="low",
        safety_settings=[{"category": "X", "threshold": "BLOCK_NONE"}],
        response_format=LOOSE,
        messages=[
            {"role": "system", "content": "Rules."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "see"},
                    {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,aGk="}},
                    {"type": "image_url", "image_url": {"url": "https://x.example/a.webp?x=1"}},
                    {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "mp3"}},
                ],
            },
            {"role": "assistant", "content": "", "tool_calls": [call, signed]},
            {"role": "tool", "tool_call_id": "c1", "content": '{"x": 1}'},
            {"role": "tool", "tool_call_id": "c2", "content": "plain"},
        ],
        tools=[{"type": "function", "function": {"name": "f", "description": "d", "parameters": SCHEMA}}],
        tool_choice={"type": "function", "function": {"name": "f"}},
    )
    assert body == {
        "systemInstruction": {"parts": [{"text": "Rules."}]},
        "contents": [
            {
                "role": "user",
                "parts": [
                    {"text": "see"},
                    {"inlineData": {"mimeType": "image/jpeg", "data": "aGk="}},
                    {"fileData": {"mimeType": "image/webp", "fileUri": "https://x.example/a.webp?x=1"}},
                    {"inlineData": {"mimeType": "audio/mp3", "data": "aGk="}},
                ],
            },
            {
                "role": "model",
                "parts": [
                    {"functionCall": {"name": "f", "args": {"a": 1}}},
                    {"functionCall": {"name": "f", "args": {"a": 1}}, "thoughtSignature": "sig"},
                ],
            },
            {
                "role": "user",
                "parts": [
                    {"functionResponse": {"name": "f", "response": {"x": 1}}},
                    {"functionResponse": {"name": "f", "response": {"result": "plain"}}},
                ],
            },
        ],
        "tools": [{"functionDeclarations": [{"name": "f", "description": "d", "parametersJsonSchema": SCHEMA}]}],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}},
        "generationConfig": {
            "temperature": 0.5,
            "topP": 0.9,
            "candidateCount": 2,
            "seed": 7,
            "presencePenalty": 0.1,
            "maxOutputTokens": 60,
            "stopSequences": ["END"],
            "thinkingConfig": {"thinkingBudget": 1024},
            "responseMimeType": "application/json",
            "responseJsonSchema": SCHEMA,
        },
        "safetySettings": [{"category": "X", "threshold": "BLOCK_NONE"}],
    }


def test_gemini_3_takes_levels_and_demands_signatures() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [{"role": "assistant", "tool_calls": [call, call | {"id": "d"}]}]
    body = chat("gemini", model="gemini-3-pro-preview", reasoning_effort="medium", messages=messages)
    assert body["generationConfig"]["thinkingConfig"] == {"thinkingLevel": "medium"}
    first, second = body["contents"][0]["parts"]
    assert first["thoughtSignature"] == "skip_thought_signature_validator" and "thoughtSignature" not in second


def test_a_tool_result_without_its_call_is_the_clients_error() -> None:
    with pytest.raises(BadRequest, match="belongs to no tool call"):
        chat("gemini", messages=[{"role": "tool", "tool_call_id": "x", "content": "y"}])


# Bedrock; its signatures have tests of their own


def test_chat_for_bedrock() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    hour = {"type": "ephemeral", "ttl": "1h"}
    body = chat(
        "bedrock",
        model="anthropic.claude-3-5-sonnet-20241022-v2:0",
        temperature=0.5,
        max_tokens=60,
        stop=["END"],
        top_k=5,
        messages=[
            {"role": "system", "content": [{"type": "text", "text": "Rules.", "cache_control": hour}]},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "see"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
                    {"type": "file", "file": {"file_data": "data:application/pdf;base64,aGk=", "filename": "a.b.pdf"}},
                ],
            },
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "one", "is_error": True},
        ],
        tools=[{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}],
        tool_choice="required",
    )
    assert body == {
        "system": [{"text": "Rules."}, {"cachePoint": {"type": "default", "ttl": "1h"}}],
        "messages": [
            {
                "role": "user",
                "content": [
                    {"text": "see"},
                    {"image": {"format": "png", "source": {"bytes": "aGk="}}},
                    {"document": {"format": "pdf", "name": "a-b-pdf", "source": {"bytes": "aGk="}}},
                ],
            },
            {"role": "assistant", "content": [{"toolUse": {"toolUseId": "c1", "name": "f", "input": {"a": 1}}}]},
            {
                "role": "user",
                "content": [{"toolResult": {"toolUseId": "c1", "content": [{"text": "one"}], "status": "error"}}],
            },
        ],
        "inferenceConfig": {"maxTokens": 60, "temperature": 0.5, "stopSequences": ["END"]},
        "toolConfig": {
            "tools": [{"toolSpec": {"name": "f", "inputSchema": {"json": SCHEMA}}}],
            "toolChoice": {"any": {}},
        },
        "additionalModelRequestFields": {"top_k": 5},
    }


def test_bedrock_models_of_other_makers() -> None:
    body = chat("bedrock", model="meta.llama3-1-70b-instruct-v1:0", reasoning_effort="high", top_k=5)
    assert body == {"messages": [{"role": "user", "content": [{"text": "hi"}]}]}
    forced = chat("bedrock", model="us.amazon.nova-pro-v1:0", response_format=STRICT)
    assert forced["toolConfig"]["toolChoice"] == {"tool": {"name": "pilothouse_json"}}
    told = chat("bedrock", model="meta.llama3-1-70b-instruct-v1:0", response_format=STRICT)
    assert "toolConfig" not in told and "JSON Schema" in told["system"][0]["text"]


@pytest.mark.parametrize("kind", ["openai", "azure-openai", "anthropic", "gemini"])
def test_a_body_that_is_no_json_keeps_its_content_type(kind: str) -> None:
    client = [("content-type", "multipart/form-data; boundary=x")]
    request = said(ask(entry(kind, "https://h.example"), form="any", path="/files", headers=client))
    assert [value for name, value in request.headers if name == "content-type"] == [client[0][1]]
