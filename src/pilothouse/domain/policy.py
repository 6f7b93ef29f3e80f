"""The policy: the runtime safeguards of a route. One of a manifest's 8 parts. Times in seconds, money in USD."""

from typing import Any, Literal

import msgspec

from pilothouse.domain.limit import Limit
from pilothouse.domain.model_ref import ModelRef
from pilothouse.domain.record import Way

LogMode = Literal["full", "redacted", "metadata", "off"]
ErrorClass = Literal[
    "rate_limit", "server_error", "timeout", "connect_failed", "cut_stream", "invalid_output", "circuit_open",
    "context_window", "content_filter", "guardrail", "cost_cap", "error",
]  # fmt: skip
# "error" stands for every class that may be gone at the next try; these are never meant by it and must be named.
NAMED_ONLY: frozenset[ErrorClass] = frozenset(("context_window", "content_filter", "guardrail", "cost_cap"))
Degraded = Literal["fallback", "degraded", "escalated"]


class Timeouts(msgspec.Struct, frozen=True):
    """Seconds. `total` spans all attempts of a request; the others are per attempt."""

    connect: float = 2.0
    first_token: float = 15.0
    idle: float = 15.0
    total: float = 60.0


class Retry(msgspec.Struct, frozen=True):
    """`attempts` upstream calls at most per model, first included; back-off base in seconds.

    `budget`: retries are at most this share of the route's requests (and 10 in hand, so that a quiet route may retry).
    """

    attempts: int = 2
    on: tuple[ErrorClass, ...] = ("rate_limit", "server_error", "timeout", "connect_failed")
    backoff: float = 0.25
    budget: float = 0.2


class Fallback(msgspec.Struct, frozen=True):
    """One ordered step. Exactly one of its ways is given.

    `model`: another model, provider or deployment (a cheaper one: on cost_cap). `static`: this text. `trim`: the same
    model with the system message and the last `trim` messages only. `cached`: the newest cached answer of this
    request, at most so many seconds old, stale or not. `delayed`: 202 with a URL to poll; the request is worked on
    for that many seconds at most. `handoff`: a reference (`env://…`) or URL of a webhook that takes the request over.
    """

    model: ModelRef | None = None
    static: str | None = None
    trim: int | None = None
    cached: float | None = None
    delayed: float | None = None
    handoff: str | None = None
    on: tuple[ErrorClass, ...] = ("error",)
    outcome: Degraded = "fallback"

    @property
    def way(self) -> Way:
        """Which of its ways is given."""
        given: tuple[Way, ...] = ("static", "trim", "cached", "delayed", "handoff")
        return next((name for name in given if getattr(self, name) is not None), "model")


class Caps(msgspec.Struct, frozen=True):
    """What one request may use in all: upstream calls of every kind, and USD (None: no cap)."""

    attempts: int = 8
    cost: float | None = None


class Breaker(msgspec.Struct, frozen=True):
    """When a (provider, model, key) is left alone: after `failures` in a row, or when `share` of at least 10 calls
    within `window` seconds failed. After `cooldown` seconds one probe at a time decides. `failures` 0: never."""

    failures: int = 5
    share: float = 0.5
    window: float = 30.0
    cooldown: float = 10.0


class Hedge(msgspec.Struct, frozen=True):
    """A second call where the first is late: after `after` seconds, or after this `quantile` of the model's recent
    first-token times (0 … 1). At most `share` of the route's requests are hedged. `model`: None for the same one."""

    after: float | None = None
    quantile: float = 0.95
    share: float = 0.05
    model: ModelRef | None = None


class Deployment(msgspec.Struct, frozen=True):
    """One place where the route's model runs."""

    model: ModelRef
    weight: float = 1.0


class Balance(msgspec.Struct, frozen=True):
    """The primary model's deployments. `by` weight, or by `load`: the better of two random ones, by recent latency
    times calls pending."""

    over: tuple[Deployment, ...] = ()
    by: Literal["weight", "load"] = "weight"


class Queue(msgspec.Struct, frozen=True):
    """What waits where a limit is reached: up to `max_wait` seconds, `size` requests in all. 0: nothing waits.

    Higher tiers go first; a client may lower its own priority with `x-pilothouse-priority: low`.
    """

    max_wait: float = 0.0
    size: int = 100


class Guard(msgspec.Struct, frozen=True):
    """A guardrail. `use`: `secrets`, `pii`, `prompt_size`, `topics`, `regex`, `tools`, or `module:function` of the
    app's own. `fail`: what a guardrail that itself fails does."""

    use: str
    at: tuple[Literal["input", "output"], ...] = ("input", "output")
    action: Literal["block", "mask", "flag"] = "block"
    fail: Literal["closed", "open"] = "closed"
    options: dict[str, Any] = {}


class Cache(msgspec.Struct, frozen=True):
    """Answers kept for `ttl` seconds for equal requests of one release and one `scope`.

    `semantic`: least cosine similarity of the last user message at which another request's answer is taken; None: only
    equal requests.
    """

    ttl: float = 0.0
    scope: Literal["key", "session", "user", "segment", "route"] = "key"
    semantic: float | None = None


class ToolRules(msgspec.Struct, frozen=True):
    """What is checked of tool calls: names and arguments against the declared tools, and loops: the same call
    `repeats` times in one conversation."""

    check: bool = True
    repeats: int = 5


class Policy(msgspec.Struct, frozen=True):
    """Runtime safeguards of a route. `invalid` is what to do, in order, with output that fails its schema. `cut` is
    what becomes of a stream that breaks off."""

    timeout: Timeouts = Timeouts()
    retry: Retry = Retry()
    fallback: tuple[Fallback, ...] = ()
    invalid: tuple[Literal["repair", "reask", "retry", "fallback", "error"], ...] = ("repair", "error")
    log: LogMode = "redacted"
    caps: Caps = Caps()
    breaker: Breaker = Breaker()
    hedge: Hedge | None = None
    balance: Balance = Balance()
    cut: Literal["error", "restart", "continue"] = "restart"
    limits: tuple[Limit, ...] = ()
    queue: Queue = Queue()
    guards: tuple[Guard, ...] = ()
    cache: Cache | None = None
    tools: ToolRules = ToolRules()
    webhooks: tuple[str, ...] = ()  # hosts (`host` or `host:port`) that a client may have its delayed answer sent to
