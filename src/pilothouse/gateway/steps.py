"""What follows a failure: which class an error is of, which fallback is for it, and how a request is changed for it."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from pilothouse.domain.errors import (
    BadRequest,
    CircuitOpen,
    ConnectFailed,
    ContentFilter,
    ContextWindow,
    CostCap,
    CutStream,
    GuardrailBlocked,
    InvalidOutput,
    PilothouseError,
    QuotaExceeded,
    RateLimited,
    ServerError,
    UpstreamError,
    UpstreamTimeout,
)
from pilothouse.domain.policy import NAMED_ONLY, ErrorClass, Fallback, Policy
from pilothouse.gateway.types import Rendered

FAILURES = (UpstreamError, InvalidOutput, GuardrailBlocked)  # after which retries and fallbacks are looked for
_CLASSES: tuple[tuple[type[PilothouseError], ErrorClass], ...] = (
    (RateLimited, "rate_limit"),
    (ServerError, "server_error"),
    (UpstreamTimeout, "timeout"),
    (ConnectFailed, "connect_failed"),
    (CutStream, "cut_stream"),
    (InvalidOutput, "invalid_output"),
    (CircuitOpen, "circuit_open"),
    (ContextWindow, "context_window"),
    (ContentFilter, "content_filter"),
    (GuardrailBlocked, "guardrail"),
    (CostCap, "cost_cap"),
)
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
Change = Callable[[list[Any]], list[Any]]


def error_class(error: PilothouseError) -> ErrorClass | None:
    """The class that policies speak of; None where neither a retry nor a fallback can help."""
    return next((name for kind, name in _CLASSES if isinstance(error, kind)), None)


def meant(on: tuple[ErrorClass, ...], kind: ErrorClass | None) -> bool:
    """Whether `on` is for errors of this class: it names it, or it names `error` and the class may be gone later."""
    return kind is not None and (kind in on or ("error" in on and kind not in NAMED_ONLY))


def again(policy: Policy, error: PilothouseError, tried: int) -> bool:
    """Whether policy tries the same model once more after its try number `tried`."""
    kind = error_class(error)
    tries = policy.retry.attempts
    if kind == "invalid_output":
        return "retry" in policy.invalid and tried < max(tries, 2) and error.kind != "output_truncated"
    if tried >= tries or kind in ("circuit_open", "cost_cap"):
        return False
    if isinstance(error, QuotaExceeded) and not policy.balance.over:
        return False  # waiting brings no credit; another deployment may have some
    # What broke before its first token has shown nothing to anybody: that is what `restart` means.
    return meant(policy.retry.on, kind) or (kind == "cut_stream" and policy.cut != "error")


def matching(steps: Iterable[Fallback], error: PilothouseError, policy: Policy, kinds: set[str]) -> Iterator[Fallback]:
    """The steps that are for this error, or for any of `kinds` beside its own class."""
    own = error_class(error)
    if own == "invalid_output" and "fallback" not in policy.invalid:
        return
    classes: set[Any] = kinds | {own}
    yield from (step for step in steps if any(meant(step.on, kind) for kind in classes))


def later_calls(policy: Policy, step: Fallback | None, tries_left: int) -> int:
    """Calls that could still follow a timeout of this one."""
    calls = tries_left if tries_left > 0 and meant(policy.retry.on, "timeout") else 0
    for f in policy.fallback[policy.fallback.index(step) + 1 :] if step else policy.fallback:
        if (f.model is not None or f.trim is not None) and meant(f.on, "timeout"):
            calls += 1
    return calls


# --- the same request, changed


def in_chat(rendered: Rendered) -> Rendered | None:
    """The same request in chat; None where it cannot be said there."""
    try:
        return rendered if rendered.chat is None else rendered.chat()
    except BadRequest:
        return None


def with_messages(rendered: Rendered, change: Change) -> Rendered | None:
    """`rendered` with its messages changed, in chat where only chat has them apart; None where they cannot be."""
    said = in_chat(rendered) if rendered.form == "responses" else rendered
    if said is None or said.nameless or said.form not in ("chat", "messages"):
        return None
    rendered, body = said, _decode(said.upstream(""))
    messages = body.get("messages")
    if not isinstance(messages, list):
        return None
    changed = change(messages)
    if changed is messages:
        return rendered
    body["messages"] = changed
    del body["model"]
    before = rendered.chat
    chat = None if before is None else lambda: _changed(before(), change)
    return msgspec.structs.replace(rendered, before=b'{"model":', after=b"," + _encode(body)[1:], chat=chat)


def _changed(rendered: Rendered, change: Change) -> Rendered:
    return with_messages(rendered, change) or rendered


def trimmed(rendered: Rendered, keep: int) -> tuple[Rendered, int] | None:
    """`rendered` with its system messages and its last `keep` others, and how many were left out; None for none."""
    left_out = 0

    def change(messages: list[Any]) -> list[Any]:
        nonlocal left_out
        kept = last(messages, keep)
        left_out = len(messages) - len(kept)
        return kept if left_out else messages

    shorter = with_messages(rendered, change)
    return (shorter, left_out) if shorter is not None and left_out else None


def last(messages: list[Any], keep: int) -> list[Any]:
    """The system messages and the last `keep` others; a tool's result keeps the call that asked for it."""
    spoken = [m for m in messages if not _is_system(m)]
    at = max(len(spoken) - keep, 0)
    while 0 < at < len(spoken) and _is_result(spoken[at]):
        at -= 1
    kept = {id(m) for m in spoken[at:]}
    return [m for m in messages if _is_system(m) or id(m) in kept]


def _is_system(message: Any) -> bool:
    return isinstance(message, dict) and message.get("role") in ("system", "developer")


def _is_result(message: Any) -> bool:
    """A tool's result, of chat or of messages."""
    if not isinstance(message, dict):
        return False
    content = message.get("content")
    blocks = content if isinstance(content, list) else []
    return message.get("role") in ("tool", "function") or any(
        isinstance(b, dict) and b.get("type") == "tool_result" for b in blocks
    )
