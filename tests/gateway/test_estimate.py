"""Estimates: the rough one of the hot path against the exact one, and the exact one against every API's body."""

import json
from typing import Any

import pytest

from pilothouse.domain.record import Tokens
from pilothouse.gateway.estimate import PER_IMAGE, estimate, rough_tokens

TEXTS = {
    "english": "The refund is paid to the original method within fourteen days, if the item comes back unused. " * 12,
    "code": "def cost(tokens: Tokens) -> float | None:\n    if tokens is None:\n        return None\n"
    "    return tokens.input * self.rate + tokens.output * self.other_rate\n" * 12,
    "json": json.dumps([{"id": i, "price": i * 1.25, "name": f"item {i}"} for i in range(60)]),
    "digits": " ".join(str(i * 7919) for i in range(300)),
    "german": "Die Rückerstattung wird innerhalb von vierzehn Tagen auf das Zahlungsmittel überwiesen. " * 12,
    "chinese": "退款将在十四天内退回到原来的付款方式，前提是商品未经使用并已寄回。如有疑问请联系客服。" * 20,
    "japanese": "返金は、商品が未使用で返送された場合、十四日以内に元の支払い方法に払い戻されます。" * 20,
    "russian": "Возврат средств будет произведён в течение четырнадцати дней на исходный способ оплаты. " * 10,
    "arabic": "سيتم رد المبلغ خلال أربعة عشر يومًا إلى طريقة الدفع الأصلية إذا أعيدت السلعة. " * 10,
    "hindi": "यदि वस्तु अप्रयुक्त लौटाई जाती है तो धनवापसी चौदह दिनों के भीतर की जाएगी। " * 10,
}  # fmt: skip


@pytest.mark.parametrize("escaped", [False, True])
@pytest.mark.parametrize("name", TEXTS)
def test_the_rough_estimate_is_within_its_documented_error(name: str, escaped: bool) -> None:
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": TEXTS[name]}]}, ensure_ascii=escaped)
    counted = estimate(body.encode(), "").input
    assert 0.70 * counted <= rough_tokens(body.encode()) <= 2.05 * counted + 20, (name, counted)


def test_a_file_counts_as_a_picture_whatever_its_bytes() -> None:
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 400_000}}
    body = json.dumps(
        {"messages": [{"role": "user", "content": [part, part, {"type": "text", "text": "see"}]}]}
    ).encode()
    assert 2 * PER_IMAGE <= rough_tokens(body) <= 2 * PER_IMAGE + 200
    assert rough_tokens(body[:200_000]) < 1200  # an end that never comes
    assert rough_tokens(b"") == 1 and rough_tokens(b"\\u\\u\\u") >= 1


CHAT = {"messages": [{"role": "system", "content": "rules " * 20}, {"role": "user", "content": "words " * 20}]}
BODIES: dict[str, dict[str, Any]] = {
    "chat": CHAT,
    "messages": {"system": "rules " * 20, "messages": CHAT["messages"][1:]},
    "blocks": {"system": [{"type": "text", "text": "rules " * 20}], "messages": CHAT["messages"][1:]},
    "responses": {"instructions": "rules " * 20, "input": "words " * 20},
    "items": {"instructions": "rules " * 20, "input": [{"role": "user", "content": [{"type": "input_text",
              "text": "words " * 20}]}]},
    "embeddings": {"input": ["rules " * 20, "words " * 20]},
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
def test_every_apis_input_is_counted(name: str) -> None:
    chat = estimate(json.dumps(CHAT).encode(), "")
    found = estimate(json.dumps(BODIES[name]).encode(), "an answer")
    assert found == Tokens(chat.input_uncached, output_text=2, estimated=True)


def test_tools_and_their_calls_count() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": "' + "word " * 50 + '"}'}}
    said = {"role": "assistant", "content": None, "tool_calls": [call]}
    assert estimate(json.dumps({"messages": [said]}).encode(), "").input > 50
    tool = {"type": "function", "function": {"name": "f", "description": "word " * 50}}
    assert (
        estimate(json.dumps(CHAT | {"tools": [tool]}).encode(), "").input
        > estimate(json.dumps(CHAT).encode(), "").input + 50
    )


@pytest.mark.parametrize(
    "body", [b"", b"--boundary\r\nbinary \xff\xfe", b"[1, 2]", b'"text"', b'{"messages": "x"}', b"{}"]
)
def test_any_body_has_some_estimate(body: bytes) -> None:
    found = estimate(body, "")
    assert found.estimated and found.input >= 0


@pytest.mark.parametrize("text", ["x" * 200_000, " " * 200_000, "=" * 200_000, "ก" * 5_000, "a word, " * 20_000])
def test_a_text_that_takes_long_to_count_is_guessed(text: str) -> None:
    body = json.dumps({"messages": [{"role": "user", "content": text}]}, ensure_ascii=False).encode()
    found = estimate(body, text)  # counted, 200,000 letters would take ten minutes
    assert found.output == rough_tokens(text.encode())
    assert found.input > 0 and found.estimated
