"""What a provider's error means: status, headers and body of any provider → the error tree.

One reader for all: their error bodies have few shapes (an `error` object or text, Bedrock's `message` and
`x-amzn-errortype`, Mistral's `detail`), and none says by another provider's words what it does not mean itself.
Errors inside an answer with status 200, and those in the middle of a stream, are read by `failure_within`.
"""

import email.utils
import math
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from pilothouse.domain.errors import (
    ContentFilter,
    ContextWindow,
    QuotaExceeded,
    RateLimited,
    Rejected,
    ServerError,
    UpstreamError,
)

_SAID_MAX = 500  # characters of a provider's own error text that are passed on
_WAIT_MAX_S = 7 * 86_400.0  # a longer wait is a misread one
_any: Callable[[bytes], Any] = msgspec.json.Decoder().decode

_CONTEXT_CODES = frozenset(
    ("context_length_exceeded", "exceed_context_size_error", "request_too_large", "string_above_max_length")
)
_CONTEXT = re.compile(
    r"maximum context length|context (length|window|limit|size)|prompt (is|was) too long|input is too long"
    r"|input token count.{0,80}exceeds|too many (input )?tokens|maximum prompt length|reduce the length"
    r"|tokens.{0,80}must be <= \d|too large for model with|exceeds the maximum number of (input )?tokens"
    r"|max_seq_len|maximum number of tokens allowed",
    re.IGNORECASE,
)
_FILTER_CODES = frozenset(
    (
        "content_filter", "content_filter_error", "content_policy_violation", "moderation_blocked",
        "ResponsibleAIPolicyViolation", "content_filtered", "safety",
    )
)  # fmt: skip
_FILTER = re.compile(
    r"content management policy|content[ _-]?(policy|filter)|blocked by .{0,20}(safety|policy)|flagged (by|for|as)"
    r"|requires moderation|safety (system|guidelines|check)|usage policies|usage guidelines",
    re.IGNORECASE,
)
_QUOTA_CODES = frozenset(
    ("insufficient_quota", "billing_hard_limit_reached", "billing_error", "billing_not_active", "insufficient_balance",
     "insufficient_credits", "ServiceQuotaExceededException")
)  # fmt: skip
_QUOTA = re.compile(
    r"insufficient[ _](balance|credit|quota|funds)|exceeded your current quota, please check your plan and billing"
    r"|credit balance is too low|out of credits?|no credits|used all available credits|spending limit|PerDay",
)
# The names that stand in an error's `type`, `code` or `status` where the HTTP status is 200 or says nothing.
_STATUS_OF: dict[str, int] = {
    "overloaded_error": 529, "overloaded": 529, "rate_limit_error": 429, "rate_limit_exceeded": 429,
    "RESOURCE_EXHAUSTED": 429, "throttlingException": 429, "ThrottlingException": 429, "tokens": 429,
    "insufficient_quota": 429, "invalid_request_error": 400, "INVALID_ARGUMENT": 400, "validationException": 400,
    "request_too_large": 413, "authentication_error": 401, "permission_error": 403, "not_found_error": 404,
    "billing_error": 402, "timeout_error": 504, "modelTimeoutException": 408,
}  # fmt: skip


class _Said(msgspec.Struct):
    """An error body, whoever wrote it: what it says, and the names it gives the error."""

    text: str
    names: tuple[str, ...] = ()
    number: int = 0  # an HTTP status in the body
    body: Any = None


def failure(status: int, headers: Mapping[str, str], body: bytes, now_us: int) -> UpstreamError:
    """The error that a status other than 200 stands for."""
    said = _said(body, headers)
    wait = retry_after(headers, now_us, limited=status == 429)
    return _error(status, said, _asked_wait(said) if wait is None else wait, upstream_status=status)


def failure_within(value: Any, *, streaming: bool) -> UpstreamError:
    """The error in an answer whose status was 200: `value` is the error, or the body that holds it."""
    said = _said_of(value)
    named = next((_STATUS_OF[name] for name in said.names if name in _STATUS_OF), 0)
    status = said.number or named or 500
    # The call itself was let in: credentials that are refused are those of a server behind the provider.
    error = _by_words(status, said, 200) or _error(
        500 if status in (401, 403) else status, said, _asked_wait(said), upstream_status=200
    )
    if type(error) is ServerError:
        what = "the provider broke the stream off" if streaming else "the provider answered with an error"
        code = error.kind if error.kind != "server_error" else ("stream_error" if streaming else "error_in_answer")
        return ServerError(f"{what}: {said.text}", hint=error.hint, code=code, upstream_status=200)
    return error


def _error(status: int, said: _Said, wait: float | None, *, upstream_status: int) -> UpstreamError:
    found = _by_words(status, said, upstream_status)
    if found is not None:
        return found
    if status == 429:
        return RateLimited(
            f"the provider limits the rate: {said.text}",
            hint="wait for the time in Retry-After, or add a fallback to the route",
            upstream_status=upstream_status,
            retry_after_s=wait,
        )
    if status >= 500 or status in (408, 424):
        return ServerError(
            f"the provider failed with {status}: {said.text}",
            hint="retries and fallbacks follow the route's policy",
            code="overloaded" if status == 529 else "",
            upstream_status=upstream_status,
            retry_after_s=wait,
        )
    if status in (401, 403, 407) or "API_KEY_INVALID" in said.names:
        return Rejected(
            f"the provider refuses our credentials ({status})",
            hint="check the provider's `key:` reference",
            code="upstream_credentials",
            upstream_status=upstream_status,
        )
    return Rejected(f"the provider refuses the request ({status}): {said.text}", upstream_status=upstream_status)


def _by_words(status: int, said: _Said, upstream_status: int) -> UpstreamError | None:
    """The errors that are told by name or in words: no credit, too long, filtered."""
    names = frozenset(said.names)
    if status == 402 or (status < 500 and (names & _QUOTA_CODES or _QUOTA.search(said.text) or _per_day(said))):
        return QuotaExceeded(
            f"no credit or quota is left at the provider: {said.text}",
            hint="top it up, or add a fallback to another provider to the route",
            upstream_status=upstream_status,
        )
    if _too_long(status, names, said.text):
        return ContextWindow(
            f"the input is longer than the model takes: {said.text}",
            hint="shorten it, or add a fallback `on: [context_window]` to the route",
            upstream_status=upstream_status,
        )
    if status in (400, 403, 422, 451) and (names & _FILTER_CODES or _FILTER.search(said.text) or _flagged(said)):
        return ContentFilter(
            f"the provider's content filter refused the request: {said.text}",
            hint="see the provider's policy, or add a fallback `on: [content_filter]` to the route",
            upstream_status=upstream_status,
        )
    return None


def _too_long(status: int, names: frozenset[str], text: str) -> bool:
    if status == 413 or (status == 500 and names & _CONTEXT_CODES):
        return True
    return status in (400, 422) and bool(names & _CONTEXT_CODES or _CONTEXT.search(text))


def _flagged(said: _Said) -> bool:
    """OpenRouter's moderation: `metadata` with the reasons."""
    error = said.body.get("error") if isinstance(said.body, dict) else None
    metadata = (error if isinstance(error, dict) else {}).get("metadata")
    return isinstance(metadata, dict) and bool(metadata.get("reasons") or metadata.get("flagged_input"))


def _per_day(said: _Said) -> bool:
    """Gemini's quota of a day: its RetryInfo speaks of seconds all the same."""
    return any("PerDay" in str(violation.get("quotaId", "")) for violation in _details(said, "violations"))


def _details(said: _Said, key: str) -> list[dict[str, Any]]:
    error = said.body.get("error") if isinstance(said.body, dict) else None
    details = error.get("details") if isinstance(error, dict) else None
    found: list[dict[str, Any]] = []
    for detail in details if isinstance(details, list) else ():
        inner = detail.get(key) if isinstance(detail, dict) else None
        found += [one for one in inner if isinstance(one, dict)] if isinstance(inner, list) else []
    return found


def message_of(body: bytes) -> str:
    """The provider's own words in an error body."""
    return _said(body, {}).text


def _said(body: bytes, headers: Mapping[str, str]) -> _Said:
    try:
        value = _any(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        said = _Said(body[:_SAID_MAX].decode("utf-8", "replace"))
    else:
        said = _said_of(value)
        if not said.text:
            said.text = body[:_SAID_MAX].decode("utf-8", "replace")
    amazon = headers.get("x-amzn-errortype", "").partition(":")[0]
    if amazon:
        said.names = (*said.names, amazon)
    return said


def _said_of(value: Any) -> _Said:
    if isinstance(value, list) and value:
        value = value[0]  # Gemini's streams answer an error as a list
    if not isinstance(value, dict):
        return _Said(str(value)[:_SAID_MAX])
    inner = value.get("error")
    error = inner if isinstance(inner, dict) else value
    text = inner if isinstance(inner, str) else _text(error)
    names: list[str] = []
    number = 0
    deeper, details = error.get("innererror"), error.get("details")
    inside = [one for one in (deeper, *(details if isinstance(details, list) else ())) if isinstance(one, dict)]
    for holder in (error, value, *inside):
        for key in ("code", "type", "status", "__type", "reason"):
            name = holder.get(key)
            if isinstance(name, str):
                names.append(name)
                name = int(name) if name.isdigit() and len(name) == 3 else 0
            if isinstance(name, int) and 400 <= name < 600:
                number = number or name
    return _Said(text[:_SAID_MAX], tuple(names), number, value)


def _text(error: dict[str, Any]) -> str:
    """The message of an error object; Mistral's is a list of what is wrong where."""
    said = error.get("message", error.get("detail", error.get("Message", "")))
    if isinstance(said, dict):
        said = said.get("detail", said)
    if isinstance(said, list):
        return "; ".join(
            f"{'.'.join(map(str, where if isinstance(where := one.get('loc'), list) else ()))}: {one.get('msg', '')}"
            if isinstance(one, dict)
            else str(one)
            for one in said
        )
    return said if isinstance(said, str) else msgspec.json.encode(said).decode()


def _place(one: Any) -> str:
    if not isinstance(one, dict):
        return str(one)
    return f"{'.'.join(str(at) for at in one.get('loc', ()))}: {one.get('msg', '')}"


# Waits

_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)(ms|[dhms]))")
_IN_WORDS = re.compile(r"(?:try again|retry) (?:in|after) ((?:\d+(?:\.\d+)?\s?(?:ms|[dhms]|seconds?))+)", re.IGNORECASE)
_UNIT_S = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_RESETS = (
    ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    ("anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset"),
    ("anthropic-ratelimit-input-tokens-remaining", "anthropic-ratelimit-input-tokens-reset"),
    ("anthropic-ratelimit-output-tokens-remaining", "anthropic-ratelimit-output-tokens-reset"),
    ("anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"),
    ("x-ratelimit-remaining", "x-ratelimit-reset"),
    ("ratelimit-remaining", "ratelimit-reset"),
)


def retry_after(headers: Mapping[str, str], now_us: int, *, limited: bool) -> float | None:
    """Seconds to wait: `retry-after-ms`, `retry-after`, and for a rate limit when the used-up limits are reset."""
    exact = headers.get("retry-after-ms")
    if exact and (wait := _number(exact)) is not None:
        return _sane(wait / 1e3)
    wait = retry_after_s(headers.get("retry-after"), now_us)
    if wait is not None or not limited:
        return wait
    used_up: list[float] = []
    others: list[float] = []
    for left, reset in _RESETS:
        when = headers.get(reset)
        if when and (wait := _reset_s(when, now_us)) is not None:
            (used_up if headers.get(left, "").strip() == "0" else others).append(wait)
    return max(used_up or others, default=None)


def retry_after_s(value: str | None, now_us: int) -> float | None:
    """Seconds that a Retry-After header asks to wait: a number, or an HTTP date."""
    if not value:
        return None
    number = _number(value)
    if number is not None:
        return _sane(number)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - now_us / 1e6)
    except (ValueError, TypeError):
        return None


def _number(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _sane(seconds: float) -> float | None:
    return seconds if seconds <= _WAIT_MAX_S else None


def _reset_s(value: str, now_us: int) -> float | None:
    """Seconds until a reset that is written as `6m0s`, as seconds, as a time since 1970 in s or ms, or in ISO 8601."""
    number = _number(value)
    if number is not None:
        if number > 1e12:
            number /= 1e3
        return max(0.0, number - now_us / 1e6) if number > 1e9 else _sane(number)
    found = _duration(value)
    if found is not None:
        return found
    try:
        return max(0.0, datetime.fromisoformat(value).timestamp() - now_us / 1e6)
    except ValueError:
        return None


def _duration(value: str) -> float | None:
    value = value.strip().lower()
    parts = _DURATION.findall(value)
    if not parts or "".join(number + unit for number, unit in parts) != value:
        return None
    return _sane(sum(float(number) * _UNIT_S[unit] for number, unit in parts))


def _asked_wait(said: _Said) -> float | None:
    """A wait that stands in the body alone: Gemini's RetryInfo, and “Please try again in 7.66s”."""
    error = said.body.get("error") if isinstance(said.body, dict) else None
    details = error.get("details") if isinstance(error, dict) else None
    for detail in details if isinstance(details, list) else ():
        delay = detail.get("retryDelay") if isinstance(detail, dict) else None
        if isinstance(delay, str) and (wait := _duration(delay)) is not None:
            return wait
    found = _IN_WORDS.search(said.text)
    if found is None:
        return None
    return _duration(re.sub(r"\s|econds?", "", found[1]))
