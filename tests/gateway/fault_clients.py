"""Clients that behave in other ways than to ask and to read: they leave, dawdle, or never send what they announced."""

import asyncio

from tests.gateway import fault_said
from tests.gateway.fault_stage import Client, House, Row, asks, body_of, head_of, raw, received, until


async def leaves_before(house: House, row: Row) -> str:
    """Hangs up while the provider is thinking."""
    body = body_of(row)
    _, writer = await raw(house, head_of(row, 0, len(body)), body)
    await until(lambda: received(house, row))
    await _gone(house, row, writer)
    await until(lambda: all(r.closed for r in received(house, row)))
    return "gone before the head"


async def leaves_mid_stream(house: House, row: Row) -> str:
    """Hangs up when the first tokens are there."""
    body = body_of(row)
    reader, writer = await raw(house, head_of(row, 0, len(body)), body)
    await reader.readuntil(b"three")
    await _gone(house, row, writer)
    await until(lambda: all(r.closed for r in received(house, row)))
    return "gone in the middle of the stream"


async def leaves_the_queue(house: House, row: Row) -> str:
    """Hangs up while it waits for its turn."""
    body = body_of(row)
    _, writer = await raw(house, head_of(row, 0, len(body)), body)
    waiting = house.gateway.door._lanes.waiting
    await until(lambda: waiting.get(row.id, 0) > 0)
    await _gone(house, row, writer)
    assert waiting[row.id] == 0
    return "gone from the queue"


async def reads_slowly(house: House, row: Row) -> str:
    """Takes nothing for longer than a provider may be silent, then all."""
    body = body_of(row)
    reader, writer = await raw(
        house, head_of(row, 0, len(body)).replace("host: x", "host: x\r\nconnection: close"), body
    )
    await reader.readuntil(b"\r\n\r\n")
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    await asyncio.sleep(0.9)
    writer.transport.resume_reading()  # type: ignore[attr-defined]
    data = _unchunked(await reader.read())
    writer.close()
    headers = {"content-type": "text/event-stream", "retry-after": "", "x-pilothouse-cache": ""}
    return fault_said.answer(200, headers, data, row.api, row.says)


async def reads_nothing(house: House, row: Row) -> str:
    """Asks for a long stream and takes nothing of it."""
    body = body_of(row)
    _, writer = await raw(house, head_of(row, 0, len(body)), body)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    await until(lambda: _recorded(house, row))
    writer.transport.abort()
    return "cut by us"


async def sends_half(house: House, row: Row) -> str:
    """Announces a body and never sends the second half."""
    body = body_of(row)
    reader, writer = await raw(house, head_of(row, 0, len(body)), body[: len(body) // 2])
    head = await reader.readuntil(b"\r\n\r\n")
    data = await reader.read()
    writer.close()
    headers = {"content-type": "application/json", "retry-after": "", "x-pilothouse-cache": ""}
    return fault_said.answer(int(head.split()[1]), headers, data, row.api, None)


async def gives_up_polling(house: House, row: Row) -> str:
    """Is told to come back, and asks at the given address until the answer is there."""
    first = await _json(house, row)
    assert first["status"] == "pending"
    builder = house.client.get(house.url + first["poll"]).header("authorization", f"Bearer {row.key}")
    async with asyncio.timeout(10):
        while (reply := await builder.build().send()).status == 202:
            await reply.bytes()
            await asyncio.sleep(0.05)
            builder = house.client.get(house.url + first["poll"]).header("authorization", f"Bearer {row.key}")
    headers = {name: reply.get_header(name) or "" for name in ("content-type", "retry-after", "x-pilothouse-cache")}
    return "202 pending, then " + fault_said.answer(
        reply.status, headers, bytes(await reply.bytes()), row.api, row.says
    )


async def _json(house: House, row: Row) -> dict[str, str]:
    builder = house.client.post(f"{house.url}/v1/chat/completions").body_bytes(body_of(row))
    for line in head_of(row, 0, 0).split("\r\n")[2:-3]:
        name, _, value = line.partition(": ")
        builder = builder.header(name, value)
    reply = await builder.build().send()
    assert reply.status == 202, await reply.text()
    found: dict[str, str] = await reply.json()
    return found


async def _gone(house: House, row: Row, writer: asyncio.StreamWriter) -> None:
    writer.close()
    await writer.wait_closed()
    await until(lambda: _recorded(house, row))


def _recorded(house: House, row: Row) -> bool:
    return any(r.trace_id == row.trace and r.parent_span_id == f"{1:016x}" for r in house.records)


def _unchunked(data: bytes) -> bytes:
    out = []
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        out.append(data[:length])
        data = data[length + 2 :]
    return b"".join(out)


CLIENTS: dict[str, Client] = {
    "asks": asks,
    "leaves before the head": leaves_before,
    "leaves mid-stream": leaves_mid_stream,
    "leaves the queue": leaves_the_queue,
    "reads slowly": reads_slowly,
    "reads nothing": reads_nothing,
    "sends half a body": sends_half,
    "asks again later": gives_up_polling,
}
