"""What providers' errors mean: their own bodies, as they send them, and the error of the tree."""

from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.providers.dialects import NOW_US, entry

from pilothouse.domain.errors import (
    ContentFilter,
    ContextWindow,
    QuotaExceeded,
    RateLimited,
    Rejected,
    ServerError,
    UpstreamError,
)
from pilothouse.providers.chat import CHAT
from pilothouse.providers.failures import failure, failure_within, message_of, retry_after
from pilothouse.providers.messages import MESSAGES
from pilothouse.providers.registry import wire_of
from pilothouse.providers.responses import RESPONSES

NOW_S = NOW_US / 1e6


def body(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else msgspec.json.encode(value)


def openai(message: str, kind: str | None = "invalid_request_error", code: Any = None, **more: Any) -> Any:
    return {"error": {"message": message, "type": kind, "param": None, "code": code, **more}}


def claude(kind: str, message: str) -> Any:
    return {"type": "error", "error": {"type": kind, "message": message}}


def google(code: int, status: str, message: str, *details: Any) -> Any:
    return {"error": {"code": code, "message": message, "status": status, "details": list(details)}}


SAID: list[tuple[str, str, int, Any, type[UpstreamError]]] = [
    # The input is too long.
    (
        "openai",
        "code",
        400,
        openai("This model's maximum context length is 8192 tokens.", code="context_length_exceeded"),
        ContextWindow,
    ),
    ("azure-openai", "code", 400, openai("too long", code="context_length_exceeded"), ContextWindow),
    (
        "vllm",
        "old",
        400,
        {
            "object": "error",
            "message": "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens",
            "type": "BadRequestError",
            "param": None,
            "code": 400,
        },
        ContextWindow,
    ),
    (
        "llama.cpp",
        "type",
        400,
        {
            "error": {
                "code": 400,
                "message": "the request exceeds the available context size",
                "type": "exceed_context_size_error",
                "n_prompt_tokens": 9000,
                "n_ctx": 4096,
            }
        },
        ContextWindow,
    ),
    ("groq", "words", 400, openai("Please reduce the length of the messages or completion."), ContextWindow),
    (
        "groq",
        "413",
        413,
        openai(
            "Request too large for model `m` on tokens per minute (TPM): Limit 6000, Requested 8000",
            "tokens",
            "rate_limit_exceeded",
        ),
        ContextWindow,
    ),
    (
        "together",
        "words",
        422,
        openai("Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4097."),
        ContextWindow,
    ),
    (
        "fireworks",
        "words",
        400,
        openai("The prompt is too long: 140000, model maximum context length: 131071"),
        ContextWindow,
    ),
    (
        "mistral",
        "words",
        400,
        {
            "object": "error",
            "message": "Prompt contains 40000 tokens and 0 draft tokens, too large "
            "for model with 32768 maximum context length",
            "type": "invalid_request_invalid_args",
            "code": "3051",
        },
        ContextWindow,
    ),
    (
        "xai",
        "text",
        400,
        {
            "code": "Client specified an invalid argument",
            "error": "This model's maximum prompt length is 131072 but the request contains 537812 tokens.",
        },
        ContextWindow,
    ),
    (
        "openrouter",
        "words",
        400,
        {
            "error": {
                "code": 400,
                "message": "This endpoint's maximum context length is 131072 "
                "tokens. However, you requested about 200000 tokens",
            }
        },
        ContextWindow,
    ),
    (
        "anthropic",
        "words",
        400,
        claude("invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"),
        ContextWindow,
    ),
    (
        "anthropic",
        "sum",
        400,
        claude("invalid_request_error", "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000"),
        ContextWindow,
    ),
    ("anthropic", "413", 413, claude("request_too_large", "Request exceeds the maximum size"), ContextWindow),
    (
        "gemini",
        "words",
        400,
        google(
            400,
            "INVALID_ARGUMENT",
            "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
        ),
        ContextWindow,
    ),
    ("bedrock", "words", 400, {"message": "Input is too long for requested model."}, ContextWindow),
    # The provider's filter.
    (
        "azure-openai",
        "inner",
        400,
        openai(
            "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.",
            None,
            "content_filter",
            innererror={"code": "ResponsibleAIPolicyViolation"},
        ),
        ContentFilter,
    ),
    (
        "openai",
        "policy",
        400,
        openai(
            "Your request was rejected as a result of our safety system.",
            "image_generation_user_error",
            "moderation_blocked",
        ),
        ContentFilter,
    ),
    (
        "openrouter",
        "moderation",
        403,
        {
            "error": {
                "code": 403,
                "message": "Input was flagged",
                "metadata": {"reasons": ["violence"], "flagged_input": "…"},
            }
        },
        ContentFilter,
    ),
    (
        "anthropic",
        "output",
        400,
        claude("invalid_request_error", "Output blocked by content filtering policy"),
        ContentFilter,
    ),
    (
        "bedrock",
        "filter",
        400,
        {"message": "The generated text has been blocked by our content filters."},
        ContentFilter,
    ),
    # No money, or no quota.
    (
        "openai",
        "quota",
        429,
        openai(
            "You exceeded your current quota, please check your plan and billing details.",
            "insufficient_quota",
            "insufficient_quota",
        ),
        QuotaExceeded,
    ),
    ("openrouter", "credits", 402, {"error": {"code": 402, "message": "Insufficient credits"}}, QuotaExceeded),
    (
        "deepseek",
        "balance",
        402,
        openai("Insufficient Balance", "unknown_error", "invalid_request_error"),
        QuotaExceeded,
    ),
    (
        "anthropic",
        "credit",
        400,
        claude("invalid_request_error", "Your credit balance is too low to access the Anthropic API."),
        QuotaExceeded,
    ),
    (
        "xai",
        "credits",
        403,
        {
            "code": "The caller does not have permission",
            "error": "Your team has used all available credits or reached its monthly spending limit.",
        },
        QuotaExceeded,
    ),
    (
        "gemini",
        "day",
        429,
        google(
            429,
            "RESOURCE_EXHAUSTED",
            "You exceeded your current quota.",
            {
                "@type": "type.googleapis.com/google.rpc.QuotaFailure",
                "violations": [{"quotaId": "RequestsPerDayPerProject"}],
            },
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34s"},
        ),
        QuotaExceeded,
    ),
    # Too fast.
    ("openai", "rate", 429, openai("Rate limit reached for gpt-5", "requests", "rate_limit_exceeded"), RateLimited),
    ("mistral", "rate", 429, {"message": "Requests rate limit exceeded"}, RateLimited),
    ("anthropic", "rate", 429, claude("rate_limit_error", "This request would exceed your rate limit"), RateLimited),
    (
        "gemini",
        "minute",
        429,
        google(429, "RESOURCE_EXHAUSTED", "Quota exceeded for metric: requests per minute"),
        RateLimited,
    ),
    ("bedrock", "tokens", 429, {"message": "Too many tokens, please wait before trying again."}, RateLimited),
    # Their own trouble.
    ("openai", "500", 500, openai("The server had an error", "server_error"), ServerError),
    ("openai", "html", 502, "<html><h1>502 Bad Gateway</h1></html>", ServerError),
    ("anthropic", "529", 529, claude("overloaded_error", "Overloaded"), ServerError),
    ("gemini", "503", 503, google(503, "UNAVAILABLE", "The model is overloaded."), ServerError),
    ("bedrock", "424", 424, {"message": "The model returned an error"}, ServerError),
    ("ollama", "408", 408, {"error": "timed out"}, ServerError),
    # Ours.
    ("openai", "key", 401, openai("Incorrect API key provided", code="invalid_api_key"), Rejected),
    (
        "gemini",
        "key",
        400,
        google(400, "INVALID_ARGUMENT", "API key not valid.", {"reason": "API_KEY_INVALID"}),
        Rejected,
    ),
    ("bedrock", "key", 403, {"message": "The security token included in the request is invalid."}, Rejected),
    (
        "mistral",
        "422",
        422,
        {"detail": [{"type": "extra_forbidden", "loc": ["body", "foo"], "msg": "Extra inputs are not permitted"}]},
        Rejected,
    ),
    ("ollama", "text", 404, {"error": "model 'x' not found"}, Rejected),
    ("openai", "empty", 400, "", Rejected),
]


@pytest.mark.parametrize(("kind", "name", "status", "value", "error"), SAID, ids=[f"{s[0]}-{s[1]}" for s in SAID])
def test_an_error_by_the_providers_words(
    kind: str, name: str, status: int, value: Any, error: type[UpstreamError]
) -> None:
    found = wire_of(entry(kind, "http://h")).error(status, {}, body(value), NOW_US)
    assert type(found) is error, found
    assert found.upstream_status == status
    assert found.retryable == (error in (RateLimited, ServerError))
    if name == "key":
        assert found.kind == "upstream_credentials" and "API key" not in found.what


def test_finer_codes_and_words() -> None:
    assert failure(529, {}, body(claude("overloaded_error", "Overloaded")), NOW_US).kind == "overloaded"
    assert failure(500, {}, b"", NOW_US).kind == "server_error"
    said = {"detail": [{"loc": ["body", "foo"], "msg": "Extra inputs are not permitted"}, "x"]}
    assert message_of(body(said)) == "body.foo: Extra inputs are not permitted; x"
    assert message_of(body({"message": {"detail": "no"}})) == "no"
    assert message_of(b"plain") == "plain" and message_of(b"[]") == "[]"
    assert len(message_of(b"x" * 5000)) == 500
    assert (
        type(failure(400, {"x-amzn-errortype": "ServiceQuotaExceededException:http://x"}, b"{}", NOW_US))
        is QuotaExceeded
    )


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "Fri, 01 Aug 2025 12:00:05 GMT"}, 5.0),
        ({"retry-after": "Fri, 01 Aug 2025 11:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "1754049660"}, None),  # more than a week: no number of seconds
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s",
          "x-ratelimit-remaining-tokens": "100", "x-ratelimit-reset-tokens": "9m"}, 360.0),
        ({"x-ratelimit-reset-requests": "120ms", "x-ratelimit-reset-tokens": "1m2.5s"}, 62.5),
        ({"x-ratelimit-reset": str(int(NOW_S + 30))}, 30.0),
        ({"x-ratelimit-reset": str(int((NOW_S + 30) * 1000))}, 30.0),
        ({"x-ratelimit-reset": "12"}, 12.0),
        ({"ratelimit-remaining": "0", "ratelimit-reset": "7"}, 7.0),
        ({"anthropic-ratelimit-input-tokens-remaining": "0",
          "anthropic-ratelimit-input-tokens-reset": "2025-08-01T12:00:42Z"}, 42.0),
        ({"x-ratelimit-reset": "whenever"}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_how_long_a_rate_limit_asks_to_wait(headers: dict[str, str], wait: float | None) -> None:
    found = retry_after(headers, NOW_US, limited=True)
    assert found == (None if wait is None else pytest.approx(wait))
    error = failure(429, headers, b"{}", NOW_US)
    assert error.retry_after_s == found


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        (openai("Rate limit reached. Please try again in 7.66s. Visit …", "tokens"), 7.66),
        (openai("Please try again in 1m2s.", "tokens"), 62.0),
        (openai("Please try again in 20ms.", "tokens"), 0.02),
        (openai("Please retry after 3 seconds."), 3.0),
        (google(429, "RESOURCE_EXHAUSTED", "x", {"retryDelay": "34.5s"}), 34.5),
        (openai("try again in a while"), None),
    ],
)
def test_a_wait_that_stands_in_the_body(value: Any, wait: float | None) -> None:
    assert failure(429, {}, body(value), NOW_US).retry_after_s == wait
    assert failure(429, {"retry-after": "1"}, body(value), NOW_US).retry_after_s == 1.0


def test_limits_that_reset_say_nothing_of_other_errors() -> None:
    headers = {"x-ratelimit-reset-requests": "6m0s"}
    assert failure(503, headers, b"{}", NOW_US).retry_after_s is None
    assert failure(503, {"retry-after": "4"}, b"{}", NOW_US).retry_after_s == 4.0


# Errors where the status was 200


WITHIN: list[tuple[Any, type[UpstreamError], str]] = [
    ({"error": {"code": 429, "message": "Rate limited upstream"}}, RateLimited, "rate_limit"),
    ({"error": {"code": 502, "message": "Network connection lost"}}, ServerError, "error_in_answer"),
    ({"error": {"message": "Network connection lost", "type": "server_error"}}, ServerError, "error_in_answer"),
    ({"error": "Network connection lost"}, ServerError, "error_in_answer"),
    ({"error": {"code": 403, "message": "No", "metadata": {"reasons": ["x"]}}}, ContentFilter, "content_filter"),
    ({"error": {"code": 403, "message": "Forbidden upstream"}}, ServerError, "error_in_answer"),
    (
        {"error": {"code": "context_length_exceeded", "message": "too long", "type": "invalid_request_error"}},
        ContextWindow,
        "context_length_exceeded",
    ),
    (
        {"error": {"code": "insufficient_quota", "message": "no", "type": "insufficient_quota"}},
        QuotaExceeded,
        "insufficient_quota",
    ),
]


@pytest.mark.parametrize(("value", "error", "code"), WITHIN)
def test_an_error_with_status_200_is_an_error(value: Any, error: type[UpstreamError], code: str) -> None:
    with pytest.raises(error) as caught:
        CHAT.read(body(value))
    assert (type(caught.value), caught.value.kind, caught.value.upstream_status) == (error, code, 200)


def test_openrouters_choice_that_failed() -> None:
    choice = {"index": 0, "finish_reason": "error", "error": {"code": 429, "message": "slow down"}}
    with pytest.raises(RateLimited):
        CHAT.read(body({"choices": [choice]}))


def test_errors_in_the_middle_of_a_stream() -> None:
    chunk = {"id": "x", "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}]}
    openrouter = chunk | {"error": {"code": "server_error", "message": "Provider disconnected"}}
    with pytest.raises(ServerError, match="Provider disconnected") as caught:
        CHAT.first(b"data: " + body(openrouter) + b"\n\n")
    assert caught.value.kind == "stream_error"
    overloaded = b"event: error\ndata: " + body(claude("overloaded_error", "Overloaded")) + b"\n\n"
    with pytest.raises(ServerError) as caught:
        MESSAGES.first(overloaded)
    assert caught.value.kind == "overloaded"
    limited = {"type": "error", "code": "rate_limit_exceeded", "message": "slow down"}
    with pytest.raises(RateLimited):
        RESPONSES.first(b"data: " + body(limited) + b"\n\n")
    failed = {"type": "response.failed", "response": {"error": {"code": "server_error", "message": "oops"}}}
    with pytest.raises(ServerError, match="oops"):
        RESPONSES.first(b"data: " + body(failed) + b"\n\n")


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["error", "message", "code", "type", "status", "detail", "details", "metadata",
                                       "innererror", "violations", "retryDelay", "loc"]), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@example({"message": [{"loc": None}]}, 422, False)
@given(JSONS, st.sampled_from([200, 400, 401, 403, 413, 422, 429, 500, 529]), st.booleans())
def test_any_body_is_some_error(value: Any, status: int, streaming: bool) -> None:
    raw = msgspec.json.encode(value)
    assert isinstance(failure(status, {}, raw, NOW_US), UpstreamError)
    assert isinstance(failure_within(msgspec.json.decode(raw), streaming=streaming), UpstreamError)


@given(st.binary(max_size=60), st.text(max_size=20))
def test_any_bytes_and_any_header_are_some_error(raw: bytes, header: str) -> None:
    names = ("retry-after", "retry-after-ms", "x-ratelimit-reset-tokens", "x-ratelimit-reset", "x-amzn-errortype")
    error = failure(429, dict.fromkeys(names, header), raw, NOW_US)
    assert error.retry_after_s is None or 0 <= error.retry_after_s < float("inf")
