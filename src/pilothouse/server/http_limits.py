"""What the edge's HTTP server takes from one connection and from all of them, and how it says no."""

import msgspec

from pilothouse.domain.errors import BadRequest, PilothouseError, RequestError, TooLarge


class Limits(msgspec.Struct, frozen=True):
    """Sizes in bytes, times in seconds. Every one is explained in docs/edge.md."""

    line: int = 8 << 10  # the request line
    head: int = 32 << 10  # the request line and all headers
    headers: int = 100  # how many
    body: int = 10 << 20
    held: int = 128 << 20  # bodies of all connections together that came in more than one piece
    ahead: int = 64 << 10  # what a client may send while its request is being answered
    connections: int = 4_096  # of one worker; a quarter more are told 503, the rest are cut
    head_s: float = 10.0  # from a connection's or request's first byte to the end of its head
    body_s: float = 20.0  # for a body, and
    body_rate: int = 1_024  # a second more for each so many bytes that have come
    idle_s: float = 75.0  # between two requests
    write_s: float = 30.0  # a client that takes nothing of what waits for it
    linger_s: float = 2.0  # after a refusal, so that it is read before the connection is reset
    linger: int = 32 << 20  # what is read and forgotten meanwhile
    sweep_s: float = 1.0  # how often the times are looked at


class Refused(Exception):
    """A request that the server answers itself, closing the connection. `reason` is a label of /metrics."""

    def __init__(self, status: int, reason: str, error: PilothouseError) -> None:
        super().__init__(error.what)
        self.status = status
        self.reason = reason
        self.error = error


def malformed(what: str, reason: str = "malformed") -> Refused:
    """Not HTTP as it must be: 400."""
    hint = "the request must be well-formed HTTP/1.1 (RFC 9112)"
    return Refused(400, reason, BadRequest(what, where="http", hint=hint, code="malformed_http"))


def too_long(what: str) -> Refused:
    """The head is over a limit: 431."""
    return Refused(431, "head_too_large", RequestError(what, where="headers", hint="send less", code="head_too_large"))


def too_large(limit: int) -> TooLarge:
    """The body is over the limit. Not a refusal: the handler answers it, so that it is recorded."""
    return TooLarge(f"the body is larger than {limit >> 20} MiB", where="body", hint="send less, or by reference")


def too_slow(part: str) -> Refused:
    """The head or body took too long: 408."""
    what = f"the request's {part} did not arrive in time"
    error = RequestError(what, where=part, hint="send the request without pauses", code="request_timeout")
    return Refused(408, f"slow_{part}", error)


def overloaded(reason: str, what: str) -> Refused:
    """This worker is full: 503."""
    return Refused(503, reason, PilothouseError(what, hint="ask again in a second", code="overloaded"))
