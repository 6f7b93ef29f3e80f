"""Bedrock's own: signatures against published ones, and the binary event stream."""

import datetime
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.providers.dialects import NOW_US, ask, entry, said

from pilothouse.domain.errors import ServerError
from pilothouse.providers.bedrock.eventstream import Splitter, encode
from pilothouse.providers.bedrock.sigv4 import Credentials, Scope, Signable, signed

KEYS = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
SUITE_US = int(datetime.datetime(2015, 8, 30, 12, 36, tzinfo=datetime.UTC).timestamp() * 1e6)
HOST = "https://example.amazonaws.com"
UNRESERVED = "/-._~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
# AWS's Signature Version 4 test suite (aws-sig-v4-test-suite), by its case names.
SUITE = [
    ("get-vanilla", "GET", f"{HOST}/", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
    ("post-vanilla", "POST", f"{HOST}/", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
    ("get-vanilla-query-order-key-case", "GET", f"{HOST}/?Param2=value2&Param1=value1",
     "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"),
    ("get-vanilla-query-order-value", "GET", f"{HOST}/?Param1=value2&Param1=value1",
     "5772eed61e12b33fae39ee5e7012498b51d56abc0abb7c60486157bd471c4694"),
]  # fmt: skip


def signature(request: Signable, keys: Credentials, scope: Scope, now_us: int) -> str:
    return dict(signed(request, keys, scope, now_us))["authorization"].rpartition("=")[2]


@pytest.mark.parametrize(("name", "method", "url", "expected"), SUITE)
def test_signatures_of_the_published_suite(name: str, method: str, url: str, expected: str) -> None:
    assert signature(Signable(method, url, [], b""), KEYS, Scope("us-east-1", "service"), SUITE_US) == expected


def test_the_signature_of_the_user_guide() -> None:
    headers = [("content-type", "application/x-www-form-urlencoded; charset=utf-8")]
    request = Signable("GET", "https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08", headers, b"")
    expected = "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
    assert signature(request, KEYS, Scope("us-east-1", "iam"), SUITE_US) == expected


EU = "https://bedrock-runtime.eu-west-1.amazonaws.com/model"
# Made with botocore for the same requests: a path that is encoded twice, a token, a port.
ORACLE = [
    ("https://bedrock-runtime.us-east-1.amazonaws.com/model/anthropic.claude-3-5-sonnet-20241022-v2%3A0/converse", "",
     "d311a9517f3b4ffed5fe8883a64e6c259cda9c05d76d201ca586f3c679c4ad01"),
    (f"{EU}/arn%3Aaws%3Abedrock%3Aeu-west-1%3A123%3Ainference-profile%2Feu.anthropic.x/converse-stream", "tok+/==",
     "ec8ab26c65d8f3acad80dfe40899c1c6144afd1eb7aedd94956dc9aebb3fc819"),
    ("http://127.0.0.1:8123/model/m/converse", "", "72e460e1c411b7cacbc955b9fd2c6522cdad3f36e2e4b6b5c89abd6ebd8a7a46"),
]  # fmt: skip


@pytest.mark.parametrize(("url", "token", "expected"), ORACLE)
def test_signatures_as_the_sdk_makes_them(url: str, token: str, expected: str) -> None:
    request = Signable("POST", url, [("content-type", "application/json")], b'{"messages":[]}')
    keys = Credentials(KEYS.access_key, KEYS.secret_key, token)
    assert signature(request, keys, Scope("us-east-1", "bedrock"), NOW_US) == expected


def test_a_request_is_signed_with_the_options_secrets() -> None:
    provider = entry("bedrock", region="eu-central-1", access_key="env://A", secret_key="env://B")
    secrets = {"access_key": "AKID", "secret_key": "S", "session_token": "T"}
    body = {"model": "eu.anthropic.claude-x-v1:0", "messages": [{"role": "user", "content": "hi"}]}
    request = said(ask(provider, body, key="", secrets=secrets))
    base = "https://bedrock-runtime.eu-central-1.amazonaws.com/model/eu.anthropic.claude-x-v1%3A0"
    assert request.url == f"{base}/converse" and request.method == "POST"
    headers = dict(request.headers)
    assert headers["x-amz-date"] == "20250801T120000Z" and headers["x-amz-security-token"] == "T"
    assert headers["authorization"].startswith(
        "AWS4-HMAC-SHA256 Credential=AKID/20250801/eu-central-1/bedrock/aws4_request, "
        "SignedHeaders=content-type;host;x-amz-date;x-amz-security-token, Signature="
    )
    streamed = said(ask(provider, body | {"stream": True}, key="", secrets=secrets))
    assert streamed.url == f"{base}/converse-stream"


def test_an_api_key_is_a_bearer_token() -> None:
    headers = dict(said(ask(entry("bedrock", region="us-east-1"), key="bedrock-api-key-x")).headers)
    assert headers["authorization"] == "Bearer bedrock-api-key-x" and "x-amz-date" not in headers


# The event stream


def test_a_message_byte_for_byte() -> None:
    """The layout of the AWS SDKs' design document, written out by hand."""
    headers = b"\x0b:event-type\x07\x00\x04test"
    prelude = struct.pack(">II", 16 + len(headers) + 2, len(headers))
    body = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + b"{}"
    whole = body + struct.pack(">I", zlib.crc32(body))
    assert encode({":event-type": "test"}, b"{}") == whole
    (message,) = Splitter().take(whole)
    assert (message.headers, message.payload) == ({":event-type": "test"}, b"{}")


def test_headers_of_every_type_are_read_over() -> None:
    values = [
        b"\x01a\x00", b"\x01b\x01", b"\x01c\x02\x05", b"\x01d\x03\x00\x05", b"\x01e\x04\x00\x00\x00\x05",
        b"\x01f\x05" + b"\x00" * 8, b"\x01g\x06\x00\x02hi", b"\x01h\x07\x00\x02hi", b"\x01i\x08" + b"\x00" * 8,
        b"\x01j\x09" + b"\x00" * 16,
    ]  # fmt: skip
    headers = b"".join(values)
    prelude = struct.pack(">II", 16 + len(headers), len(headers))
    body = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers
    (message,) = Splitter().take(body + struct.pack(">I", zlib.crc32(body)))
    assert message.headers == {"h": "hi"}


MESSAGES = st.lists(
    st.tuples(st.dictionaries(st.text("abc:-", min_size=1, max_size=8), st.text(max_size=10), max_size=3), st.binary()),
    max_size=4,
)


@given(MESSAGES, st.data())
def test_messages_come_out_as_they_went_in_however_they_are_cut(
    messages: list[tuple[dict[str, str], bytes]], data: st.DataObject
) -> None:
    whole = b"".join(encode(headers, payload) for headers, payload in messages)
    splitter, found, at = Splitter(), [], 0
    while at < len(whole):
        size = data.draw(st.integers(1, len(whole) - at))
        found += [(message.headers, message.payload) for message in splitter.take(whole[at : at + size])]
        at += size
    assert found == messages and not splitter.pending


@given(st.binary(min_size=1), st.integers(0, 200), st.integers(1, 255))
def test_a_flipped_bit_is_noticed(payload: bytes, at: int, change: int) -> None:
    whole = bytearray(encode({":event-type": "x"}, payload))
    whole[at % len(whole)] ^= change
    splitter = Splitter()
    try:
        found = list(splitter.take(bytes(whole)))
    except ServerError as error:
        assert error.kind == "malformed_stream"
    else:
        assert not found  # a length that grew: the rest never comes
