"""Every error the product raises on purpose.

PilothouseError                what happened, where, what to do
├── ConfigError                a file of the app is wrong: file, line, suggestion
├── RequestError               the client's request cannot be served as sent (4xx)
│   ├── BadRequest             400 malformed body, missing variable, bad schema
│   ├── Unauthorized           401 no key, unknown key, revoked key, wrong checksum
│   ├── NotFound               404 unknown route, release, request
│   ├── TooLarge               413
│   ├── UnsupportedMedia       415 a content type or encoding that is not read
│   ├── RouteDisabled          503 the kill switch is on
│   ├── FlowOff                403 a flag has switched this use of the route off
│   ├── LimitExceeded          429 a limit of ours, with the time to wait
│   ├── BudgetExceeded         429 money: waiting does not help before the period ends
│   ├── GuardrailBlocked       400 a guardrail refused the input; 422 the output
│   └── ClientGone             499 the client closed the connection first
├── UpstreamError              a provider did not give a usable answer
│   ├── RateLimited            429
│   │   └── QuotaExceeded      no credit or quota is left: waiting does not help
│   ├── ServerError            5xx
│   ├── Rejected               other 4xx: retrying the same call cannot help
│   │   ├── ContextWindow      the input is longer than the model takes
│   │   └── ContentFilter      the provider's own filter refused
│   ├── CircuitOpen            the breaker is open: not called
│   ├── CostCap                another call would go over the request's cap
│   ├── ConnectFailed          no connection within the connect timeout
│   ├── UpstreamTimeout        first token, idle chunk or total
│   └── CutStream              a stream ended without its terminator
├── InvalidOutput              the model's output fails its schema after the allowed repairs
├── StateError                 the control plane refuses a verb
│   ├── Conflict               409 somebody else moved the pointer first
│   └── Refused                409 a policy forbids it: reason in the message
└── StoreError                 a store or journal cannot be read or written
"""

from typing import Any, ClassVar


class PilothouseError(Exception):
    """Base of the tree. `code` is stable and public, `retryable` is the one bit callers decide on."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(self, what: str, *, where: str = "", hint: str = "", code: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint
        self.kind = code or self.code  # a finer stable code for this instance

    def __str__(self) -> str:
        return " — ".join(part for part in (self.what, self.where, self.hint) if part)


class ConfigError(PilothouseError):
    """A file of the app is wrong; `where` is `file:line`."""

    code = "config_error"
    status = 400


class RequestError(PilothouseError):
    """The client's request cannot be served as sent."""

    code = "bad_request"
    status = 400


class BadRequest(RequestError):
    """Malformed body, missing variable, unusable schema."""


class Unauthorized(RequestError):
    """No key, an unknown or revoked one, or one for another environment."""

    code = "invalid_api_key"
    status = 401


class NotFound(RequestError):
    """No such route, release, request or page."""

    code = "not_found"
    status = 404


class TooLarge(RequestError):
    """The body is over the limit."""

    code = "request_too_large"
    status = 413


class UnsupportedMedia(RequestError):
    """A content type or encoding that is not read."""

    code = "unsupported_media_type"
    status = 415


class RouteDisabled(RequestError):
    """The route's kill switch is on."""

    code = "route_disabled"
    status = 503


class FlowOff(RequestError):
    """A flag has switched this use of the route off, and its policy has no answer for that."""

    code = "flow_off"
    status = 403


class LimitExceeded(RequestError):
    """A limit of ours is reached. `retry_after_s`: when the next request would be let in."""

    code = "limit_exceeded"
    status = 429
    retryable = True

    def __init__(
        self,
        what: str,
        *,
        where: str = "",
        hint: str = "",
        code: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(what, where=where, hint=hint, code=code)
        self.retry_after_s = retry_after_s


class BudgetExceeded(LimitExceeded):
    """A budget is used up. `retry_after_s`: until its period ends, where it has one."""

    code = "budget_exceeded"
    retryable = False


class GuardrailBlocked(RequestError):
    """A guardrail refused the input, or the output (code `guardrail_output`, status 422); or it failed itself, which
    by default is the same (code `guardrail_failed`)."""

    code = "guardrail_blocked"

    def __init__(self, what: str, *, where: str = "", hint: str = "", output: bool = False, code: str = "") -> None:
        super().__init__(what, where=where, hint=hint, code=code or ("guardrail_output" if output else ""))
        self.output = output


class ClientGone(RequestError):
    """The client closed the connection before the answer was complete."""

    code = "client_closed_request"
    status = 499


class UpstreamError(PilothouseError):
    """A provider did not give a usable answer. `retry_after_s` is what it asked for, if it did."""

    code = "upstream_error"
    status = 502
    retryable = True

    def __init__(
        self,
        what: str,
        *,
        where: str = "",
        hint: str = "",
        code: str = "",
        upstream_status: int = 0,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(what, where=where, hint=hint, code=code)
        self.upstream_status = upstream_status
        self.retry_after_s = retry_after_s


class RateLimited(UpstreamError):
    """429 from the provider."""

    code = "rate_limit"
    status = 429


class QuotaExceeded(RateLimited):
    """No credit or quota is left at the provider: trying again does not help, another provider may."""

    code = "insufficient_quota"
    retryable = False


class ServerError(UpstreamError):
    """5xx from the provider."""

    code = "server_error"
    status = 502


class Rejected(UpstreamError):
    """Another 4xx: the same call would be refused again."""

    code = "upstream_rejected"
    status = 400
    retryable = False


class ContextWindow(Rejected):
    """The input is longer than the model takes."""

    code = "context_length_exceeded"


class ContentFilter(Rejected):
    """The provider's own filter refused the request."""

    code = "content_filter"


class CircuitOpen(UpstreamError):
    """The breaker of this provider, model and key is open: it was not called. `retry_after_s`: until its next probe."""

    code = "circuit_open"
    status = 503


class CostCap(UpstreamError):
    """Another call would go over what one request may cost or call (`policy.caps`)."""

    code = "cost_cap"
    status = 429
    retryable = False


class ConnectFailed(UpstreamError):
    """No connection to the provider within the connect timeout."""

    code = "connect_failed"
    status = 502


class UpstreamTimeout(UpstreamError):
    """The provider was too slow; `kind` says which timeout: `timeout_first_token`, `_idle`, `_total`."""

    code = "timeout"
    status = 504


class CutStream(UpstreamError):
    """A stream ended without its terminator."""

    code = "cut_stream"
    status = 502


class InvalidOutput(PilothouseError):
    """The model's output fails its schema, or its tool calls theirs, after the repairs that policy allows.

    `kind` is finer: `output_truncated`, `output_refused`, `invalid_tool_call`. `reask`: chat messages that, put behind
    the request's own, ask the model once more with the errors explained; None where policy does not ask again, or
    where asking cannot help.
    """

    code = "invalid_output"
    status = 422

    def __init__(
        self,
        what: str,
        *,
        where: str = "",
        hint: str = "",
        code: str = "",
        reask: list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(what, where=where, hint=hint, code=code)
        self.reask = reask


# Every code of InvalidOutput: the model's doing, not the provider's.
INVALID_OUTPUT_CODES = ("invalid_output", "output_truncated", "output_refused", "invalid_tool_call")


class StateError(PilothouseError):
    """The control plane refuses a verb."""

    code = "refused"
    status = 409


class Conflict(StateError):
    """Somebody else changed the object first: read again and decide again."""

    code = "conflict"
    retryable = True


class Refused(StateError):
    """A policy forbids it."""


class StoreError(PilothouseError):
    """A store or journal cannot be read or written."""

    code = "store_error"
