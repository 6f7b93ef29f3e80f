"""The edge's paths on its own HTTP server: what is recorded, what is only counted."""

import asyncio
from typing import Any

from tests.gateway.conftest import KEY, Stack

from pilothouse.gateway.types import Client
from pilothouse.server.http_head import Request


async def raw(stack: Stack, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", stack.port)
    writer.write(data)
    async with asyncio.timeout(5):
        back = await reader.read()
    writer.close()
    await writer.wait_closed()
    return back


async def get(stack: Stack, path: str) -> Any:
    return await stack.client.get(stack.url + path).build().send()


async def test_refusals_of_the_server_are_counted_and_not_recorded(stack: Stack) -> None:
    evil = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n{}"
    assert (await raw(stack, evil)).startswith(b"HTTP/1.1 400 Bad Request\r\n")
    text = await (await get(stack, "/metrics")).text()
    assert 'pilothouse_http_refused_total{reason="malformed"} 1' in text
    assert "# TYPE pilothouse_http_connections gauge" in text
    assert stack.records == []


async def test_a_body_over_the_limit_is_recorded_before_it_is_sent(stack: Stack) -> None:
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n"
    back = await raw(stack, f"{head}content-length: 10485761\r\n\r\n".encode())
    assert back.startswith(b"HTTP/1.1 413 ") and b'"code":"request_too_large"' in back
    assert (stack.record.status, stack.record.error_type) == (413, "request_too_large")


async def test_a_prefix_serves_what_no_path_does(stack: Stack) -> None:
    async def passed(request: Request, client: Client) -> None:
        said = f"{request.method} {request.path} {request.query} {request.header('x-own')}"
        client.whole(200, [], said.encode())

    stack.edge._prefixes = (("/v1/", ("", passed)),)
    reply = await stack.client.put(stack.url + "/v1/files/7?a=b").header("x-own", "1").build().send()
    assert await reply.text() == "PUT /v1/files/7 a=b 1"
    assert (await get(stack, "/healthz")).status == 200
    assert (await get(stack, "/elsewhere")).status == 404
