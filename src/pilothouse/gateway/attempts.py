"""Rendered → Answer: upstream calls with timeouts, retries and ordered fallbacks, all before the first byte.

Timeouts. `connect`, `first_token` and `idle` bound each attempt, `total` all of a request. A whole (not streamed)
answer has no first token to wait for: it gets an equal share of the time that is left among the attempts that may
still follow a timeout, and `first_token` at least, so that a stalled provider leaves time for the fallback.
"""

import asyncio
import random
from collections.abc import Callable, Iterator, Mapping

import msgspec

from pilothouse.domain.clock import Clock
from pilothouse.domain.errors import (
    BadRequest,
    ConnectFailed,
    CutStream,
    InvalidOutput,
    NotFound,
    PilothouseError,
    RateLimited,
    ServerError,
    UpstreamError,
    UpstreamTimeout,
)
from pilothouse.domain.ids import new_span_id
from pilothouse.domain.model_ref import ModelRef
from pilothouse.domain.policy import ErrorClass, Fallback, Policy
from pilothouse.domain.record import Attempt, Record
from pilothouse.domain.table import ProviderEntry
from pilothouse.domain.wires import SecretReader
from pilothouse.gateway.types import Accept, Accepted, Answer, Rendered
from pilothouse.providers.chat import CHAT
from pilothouse.providers.form import Began, Form
from pilothouse.providers.openai import Completion
from pilothouse.providers.passing import ANY
from pilothouse.providers.registry import wire_of
from pilothouse.providers.upstream import Call, Upstream
from pilothouse.providers.wire import Ask, Flow, Wire

SECRET_S = 30.0  # a secret's value is read again after this long, so that a rotated one is taken up
BACKOFF_MAX_S = 20.0
_CLASSES: tuple[tuple[type[PilothouseError], ErrorClass], ...] = (
    (RateLimited, "rate_limit"),
    (ServerError, "server_error"),
    (UpstreamTimeout, "timeout"),
    (ConnectFailed, "connect_failed"),
    (CutStream, "cut_stream"),
    (InvalidOutput, "invalid_output"),
)


def error_class(error: PilothouseError) -> ErrorClass | None:
    """The class that policies speak of; None where neither a retry nor a fallback can help."""
    return next((name for kind, name in _CLASSES if isinstance(error, kind)), None)


def backoff_s(policy: Policy, tried: int, retry_after_s: float | None, jitter: float) -> float:
    """Seconds before the next try of a model tried `tried` times: exponential, ± half by `jitter` (0 … 1).

    Never less than the provider's Retry-After.
    """
    wait = min(policy.retry.backoff * 2.0 ** (tried - 1), BACKOFF_MAX_S) * (0.5 + jitter)
    return max(wait, retry_after_s or 0.0)


class Run(msgspec.Struct):
    """One request's attempts while they happen. `deadline` on the event loop's clock, `began` on the Clock's."""

    rendered: Rendered
    record: Record
    providers: Mapping[str, ProviderEntry]
    accept: Accept
    began: float
    deadline: float

    @property
    def policy(self) -> Policy:
        """The release's policy."""
        return self.rendered.resolved.live.manifest.policy

    def left(self) -> float:
        """Seconds until the total timeout."""
        return self.deadline - asyncio.get_running_loop().time()

    def window(self, later: int | None) -> tuple[float, str]:
        """Seconds that the provider may be silent, and which timeout that is.

        `later`: attempts that could still follow a whole answer's timeout; None for a stream.
        """
        left, first = self.left(), self.policy.timeout.first_token
        window = first if later is None else max(first, left / (1 + later))
        return (window, "first_token") if window < left else (left, "total")


class Attempts:
    """Makes the upstream calls of every request of a worker."""

    def __init__(
        self, upstream: Upstream, secret: SecretReader, clock: Clock, jitter: Callable[[], float] = random.random
    ):
        self._upstream = upstream
        self._secret = secret
        self._clock = clock
        self._jitter = jitter
        self._secrets: dict[str, tuple[float, str]] = {}

    async def run(self, run: Run) -> Answer:
        """The first usable answer; raises the last attempt's error where there is none."""
        model: ModelRef = run.rendered.resolved.model
        own = _own(run, model)
        if own is not None:
            return own
        steps = iter(run.policy.fallback)
        step: Fallback | None = None
        while True:
            try:
                return await self._model(run, model, step)
            except (UpstreamError, InvalidOutput) as error:
                step = _next(steps, error, run)
                if step is None:
                    raise
                if step.static is not None:
                    return Answer(outcome=step.outcome, attempt=None, static=step.static)
                model = step.model or model

    async def _model(self, run: Run, model: ModelRef, step: Fallback | None) -> Answer:
        """One model, with its retries."""
        tries = max(run.policy.retry.attempts, 1)
        wait = 0.0
        for tried in range(1, tries + 2):
            kind = "retry" if tried > 1 else ("fallback" if step else "primary")
            attempt = Attempt(
                n=len(run.record.attempts) + 1,
                kind=kind,  # type: ignore[arg-type]  # the three literals above
                provider=model.provider,
                model=model.name,
                offset_ms=(self._clock.monotonic() - run.began) * 1e3,
                backoff_ms=wait * 1e3,
            )
            run.record.attempts.append(attempt)
            try:
                answer = await self._once(run, attempt, _later(run.policy, step, tries - tried))
            except (UpstreamError, InvalidOutput) as error:
                again = _again(run.policy, error, tried, tries)
                wait = backoff_s(run.policy, tried, getattr(error, "retry_after_s", None), self._jitter())
                if not again or wait >= run.left():
                    raise
                await asyncio.sleep(wait)
                continue
            answer.outcome = step.outcome if step else "success"
            return answer
        raise AssertionError("unreachable: the last try returns or raises")

    async def _once(self, run: Run, attempt: Attempt, later: int) -> Answer:
        """One call, its attempt filled in whatever happens."""
        started = self._clock.monotonic()
        try:
            provider = run.providers.get(attempt.provider)
            if provider is None:
                raise NotFound(f"no provider “{attempt.provider}”", where="providers", code="unknown_provider")
            said = _said(run.rendered, provider)
            if said.rendered.stream:
                return await self._stream(run, attempt, said, started)
            return await self._whole(run, attempt, said, later)
        except PilothouseError as error:
            attempt.error_type = error.kind
            if isinstance(error, UpstreamError):
                attempt.status = error.upstream_status or attempt.status
                attempt.retry_after_s = error.retry_after_s
                if attempt.status in (401, 403):
                    self._secrets.clear()
            raise
        except asyncio.CancelledError:
            attempt.error_type = "cancelled"
            raise
        finally:
            attempt.duration_ms = (self._clock.monotonic() - started) * 1e3

    def _call(self, run: Run, attempt: Attempt, said: "Said") -> Call:
        span = run.record.span_id if attempt.n == 1 else new_span_id()
        parsed = run.rendered.resolved.parsed
        ask = Ask(
            provider=said.provider,
            form=said.rendered.form,
            body=said.rendered.upstream(attempt.model),
            model=attempt.model,
            stream=said.rendered.stream,
            key=self._key(said.provider.key),
            trace_id=run.record.trace_id,
            span_id=span,
            now_us=run.record.ts_us,
            path=parsed.path,
            method=parsed.method,
            headers=parsed.headers if said.rendered.form == run.rendered.form else [],
        )
        request = said.wire.request(ask)
        return Call(
            url=request.url,
            headers=request.headers,
            body=request.body,
            connect_s=run.policy.timeout.connect,
            method=request.method,
        )

    def _key(self, ref: str) -> str:
        if not ref:
            return ""
        now = self._clock.monotonic()
        kept = self._secrets.get(ref)
        if kept is None or kept[0] < now:
            kept = self._secrets[ref] = (now + SECRET_S, self._secret(ref))
        return kept[1]

    async def _whole(self, run: Run, attempt: Attempt, said: "Said", later: int) -> Answer:
        window, which = run.window(later)
        try:
            async with asyncio.timeout(window):
                reply = await self._upstream.whole(self._call(run, attempt, said))
        except TimeoutError as error:
            raise _timed_out(which, window) from error
        _head(attempt, reply.status, reply.headers)
        if not 200 <= reply.status < 300:
            raise said.wire.error(reply.status, reply.headers, reply.body, self._clock.now_us())
        body = said.wire.chat_whole(reply.body) if said.translated else reply.body
        completion = said.form.read(body)
        read_from(attempt, completion)
        accepted = run.accept(body, completion) if said.form is CHAT else Accepted(body, completion)
        answer = Answer("success", attempt, accepted.body, accepted.completion, form=said.form.name)
        answer.status, answer.content_type = reply.status, reply.headers.get("content-type", "")
        return answer

    async def _stream(self, run: Run, attempt: Attempt, said: "Said", started: float) -> Answer:
        """A stream up to its first token; a provider that answers with an error has not begun."""
        window, which = run.window(None)
        flow: Flow | None = None
        began: Began | None = None
        try:
            async with asyncio.timeout(window):
                flow = await self._upstream.stream(self._call(run, attempt, said))
                _head(attempt, flow.status, flow.headers)
                if not 200 <= flow.status < 300:
                    body = await flow.rest()
                    raise said.wire.error(flow.status, flow.headers, body, self._clock.now_us())
                flow = said.wire.chat_stream(flow) if said.translated else flow
                began = await _first_token(flow, said.form)
        except TimeoutError as error:
            raise _timed_out(which, window) from error
        finally:
            if flow is not None and began is None:
                await flow.close()
        attempt.ttft_ms = (self._clock.monotonic() - started) * 1e3
        attempt.served_model, attempt.response_id = began.model or "", began.id or ""
        answer = Answer("success", attempt, flow=flow, form=said.form.name, strip_usage=said.rendered.strip_usage)
        if said.form is ANY:
            answer.status, answer.content_type = flow.status, flow.headers.get("content-type", "")
        return answer


def _own(run: Run, model: ModelRef) -> Answer | None:
    """The answer that we give ourselves, where the request has one and its provider does not speak its API."""
    parsed, provider = run.rendered.resolved.parsed, run.providers.get(model.provider)
    if parsed.own is None or provider is None or parsed.api in wire_of(provider).native:
        return None
    return Answer("success", None, parsed.own(), Completion(choices=[]), form=ANY.name)


class Said(msgspec.Struct):
    """A request as one provider is to get it. `translated`: the wire makes chat of what is not natively so."""

    provider: ProviderEntry
    wire: Wire
    rendered: Rendered
    form: Form
    translated: bool


def _said(rendered: Rendered, provider: ProviderEntry) -> Said:
    """In the request's own form where the provider speaks it, else in chat; raises BadRequest."""
    wire = wire_of(provider)
    form = wire.native.get(rendered.form)
    if form is not None:
        return Said(provider, wire, rendered, form, translated=False)
    if rendered.form != "chat":
        if rendered.chat is None:
            raise BadRequest(
                f"the provider “{provider.name}” does not speak the API “{rendered.form}”",
                where="model",
                hint="name a route or a model whose provider does",
                code="unsupported_api",
            )
        rendered = rendered.chat()
    return Said(provider, wire, rendered, CHAT, translated="chat" not in wire.native)


async def _first_token(flow: Flow, form: Form) -> Began:
    """Read until something of the answer is there, and hold what was read; raises CutStream, ServerError."""
    seen = 0
    while True:
        data = await flow.read()
        if data is None:
            raise CutStream("the stream ended before its first token", hint="ask again", upstream_status=flow.status)
        flow.held += data
        end = form.whole(flow.held)
        if end > seen:
            began = form.first(flow.held[seen:end])
            if began is not None:
                return began
            seen = end


def _head(attempt: Attempt, status: int, headers: dict[str, str]) -> None:
    attempt.status = status
    attempt.ratelimit_limit = _count(headers.get("x-ratelimit-limit-requests"))
    attempt.ratelimit_remaining = _count(headers.get("x-ratelimit-remaining-requests"))


def _count(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None


def read_from(attempt: Attempt, completion: Completion) -> None:
    """What the provider says of its own answer."""
    attempt.served_model = completion.model
    attempt.fingerprint = completion.system_fingerprint or ""
    attempt.response_id = completion.id
    attempt.finish_reason = completion.finish_reason
    attempt.tokens = completion.tokens()


def _timed_out(which: str, window: float) -> UpstreamTimeout:
    return UpstreamTimeout(
        f"the provider sent nothing within {window:.1f} s",
        where=f"policy.timeout.{which}",
        hint="raise the timeout, or add a fallback to the route",
        code=f"timeout_{which}",
    )


def _again(policy: Policy, error: PilothouseError, tried: int, tries: int) -> bool:
    """Whether to try the same model once more."""
    kind = error_class(error)
    if kind == "invalid_output":
        return "retry" in policy.invalid and tried < max(tries, 2)
    return tried < tries and kind is not None and (kind in policy.retry.on or "error" in policy.retry.on)


def _matches(step: Fallback, error: PilothouseError, policy: Policy) -> bool:
    kind = error_class(error)
    if kind is None or (kind == "invalid_output" and "fallback" not in policy.invalid):
        return False
    return kind in step.on or "error" in step.on


def _next(steps: Iterator[Fallback], error: PilothouseError, run: Run) -> Fallback | None:
    """The next step for this error; when the time is up, only a static answer is left."""
    in_time = run.left() > 0
    return next((s for s in steps if _matches(s, error, run.policy) and (in_time or s.static is not None)), None)


def _later(policy: Policy, step: Fallback | None, tries_left: int) -> int:
    """Attempts that could still follow a timeout of this one."""
    retried = "timeout" in policy.retry.on or "error" in policy.retry.on
    after = policy.fallback[policy.fallback.index(step) + 1 :] if step else policy.fallback
    models = sum(1 for f in after if f.model is not None and ("timeout" in f.on or "error" in f.on))
    return models + (max(tries_left, 0) if retried else 0)
