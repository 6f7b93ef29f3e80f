"""One upstream call: sent in a form that its provider speaks, bounded in time, and its attempt filled in."""

import asyncio
from collections.abc import Awaitable

import msgspec

from pilothouse.domain.clock import Clock
from pilothouse.domain.errors import (
    BadRequest,
    CutStream,
    PilothouseError,
    UpstreamError,
    UpstreamTimeout,
)
from pilothouse.domain.ids import new_span_id
from pilothouse.domain.provider_kinds import SECRET_OPTIONS
from pilothouse.domain.record import Attempt
from pilothouse.domain.table import ProviderEntry
from pilothouse.domain.wires import SecretReader
from pilothouse.gateway.deadline import Alarm
from pilothouse.gateway.gathering import Gathering
from pilothouse.gateway.run import Run, Turn
from pilothouse.gateway.types import Answer, Rendered
from pilothouse.providers.chat import CHAT
from pilothouse.providers.form import Began, Form
from pilothouse.providers.openai import Completion
from pilothouse.providers.passing import ANY
from pilothouse.providers.registry import wire_of
from pilothouse.providers.upstream import Call, Upstream
from pilothouse.providers.wire import Ask, Flow, Wire

JSON = "application/json"  # the type of an answer that was gathered
SECRET_S = 30.0  # a secret's value is read again after this long, so that a rotated one is taken up


class Said(msgspec.Struct, gc=False):
    """A request as one provider is to get it. `translated`: the wire makes chat of what is not natively so."""

    provider: ProviderEntry
    wire: Wire
    rendered: Rendered
    form: Form
    translated: bool


class Calls:
    """Makes the upstream calls of a worker."""

    def __init__(self, upstream: Upstream, secret: SecretReader, clock: Clock) -> None:
        self.upstream = upstream
        self._read_secret = secret
        self._clock = clock
        self._secrets: dict[str, tuple[float, str]] = {}

    def make(self, run: Run, turn: Turn, provider: ProviderEntry) -> Awaitable[Answer]:
        """The provider's usable answer; raises BadRequest at once, UpstreamError, InvalidOutput. See `broke`."""
        said = _said(turn.rendered, provider)
        if said.rendered.stream:
            return self._stream(run, turn, said)
        return self._gathered(run, turn, said) if said.rendered.gather else self._whole(run, turn, said)

    def broke(self, run: Run, turn: Turn, error: PilothouseError | asyncio.CancelledError) -> None:
        """A call that was made has ended so: what its attempt says of it."""
        attempt = turn.attempt
        if isinstance(error, asyncio.CancelledError):
            attempt.error_type = "cancelled"
            attempt.cancelled = True
            run.uncounted.append((attempt, turn.body, ""))
            return
        attempt.error_type = error.kind
        if isinstance(error, UpstreamError):
            attempt.status = error.upstream_status or attempt.status
            attempt.retry_after_s = error.retry_after_s
            if attempt.status in (401, 403):
                self._secrets.clear()

    def secret(self, ref: str) -> str:
        """The secret's value, empty for no reference; raises ConfigError."""
        if not ref:
            return ""
        now = self._clock.monotonic()
        kept = self._secrets.get(ref)
        if kept is None or kept[0] < now:
            kept = self._secrets[ref] = (now + SECRET_S, self._read_secret(ref))
        return kept[1]

    def _call(self, run: Run, turn: Turn, said: Said) -> Call:
        attempt, record, rendered, provider = turn.attempt, run.record, said.rendered, said.provider
        resolved, model = rendered.resolved, attempt.model
        parsed = resolved.parsed
        own = rendered is run.rendered
        turn.body = body = run.body if own and model == resolved.model.name else rendered.upstream(model)
        request = said.wire.request(
            Ask(
                provider=provider,
                form=rendered.form,
                body=body,
                model=model,
                stream=rendered.stream or rendered.gather,
                key=self.secret(provider.key),
                trace_id=record.trace_id,
                span_id=record.span_id if attempt.n == 1 else new_span_id(),
                now_us=self._clock.now_us(),
                path=parsed.path,
                method=parsed.method,
                secrets=self._options(provider) if provider.options else {},
                headers=parsed.headers if own or rendered.form == run.rendered.form else [],
            )
        )
        return Call(request.url, request.headers, request.body, run.policy.timeout.connect, request.method)

    def _options(self, provider: ProviderEntry) -> dict[str, str]:
        """The values of those options that are references."""
        return {name: self.secret(ref) for name, ref in provider.options.items() if name in SECRET_OPTIONS}

    async def _whole(self, run: Run, turn: Turn, said: Said) -> Answer:
        attempt = turn.attempt
        window, which = run.window(turn, turn.later)
        call = self._call(run, turn, said)
        try:
            with Alarm(run.loop.time() + window, run.loop):
                reply = await self.upstream.whole(call)
        except TimeoutError as error:
            raise _timed_out(which, window) from error
        _head(attempt, reply.status, reply.headers)
        if not 200 <= reply.status < 300:
            raise said.wire.error(reply.status, reply.headers, reply.body, self._clock.now_us())
        body = said.wire.chat_whole(reply.body, run.record.ts_us) if said.translated else reply.body
        return self._judged(run, turn, said, body, reply.headers.get("content-type", ""))

    def _judged(self, run: Run, turn: Turn, said: Said, body: bytes, content_type: str) -> Answer:
        """A whole answer as it may be delivered; raises InvalidOutput."""
        attempt, form = turn.attempt, said.form
        name, completion = form.name, form.read(body)
        read_from(attempt, completion)
        if attempt.tokens is None:
            run.uncounted.append((attempt, turn.body, completion.text))
        # What goes on in the background has said nothing yet, and files and numbers are for nobody to judge.
        if form is CHAT or (name in ("messages", "responses") and completion.finish_reason):
            body, completion = run.accept(run.rendered, run.record, body, completion, name)
        status = attempt.status or 200
        return Answer("success", attempt, body, completion, form=name, content_type=content_type, status=status)

    async def _gathered(self, run: Run, turn: Turn, said: Said) -> Answer:
        """A whole answer out of a stream, which is closed where the answer is lost; see `Gathering`."""
        attempt, gathering = turn.attempt, Gathering(said.rendered)
        window, which = run.window(turn, turn.later)
        call = self._call(run, turn, said)
        flow: Flow | None = None
        try:
            with Alarm(run.loop.time() + window, run.loop):
                flow = await self._open(run, turn, said, call)
                await gathering.read(flow)
            if gathering.why is not None:
                raise gathering.lost(run.record)
            return self._judged(run, turn, said, gathering.body(), JSON)
        except TimeoutError as error:
            raise _timed_out(which, window) from error
        finally:
            seen = gathering.so_far()
            if attempt.tokens is None and seen.choices:  # what was written is paid for, wherever it ended
                read_from(attempt, seen)
                if attempt.tokens is None:
                    run.uncounted.append((attempt, turn.body, seen.text))
            if flow is not None:
                await flow.close()

    async def _open(self, run: Run, turn: Turn, said: Said, call: Call) -> Flow:
        """A stream whose head is good, as chat where its form is translated."""
        flow = await self.upstream.stream(call)
        _head(turn.attempt, flow.status, flow.headers)
        if not 200 <= flow.status < 300:
            try:
                body = await flow.rest()
            finally:
                await flow.close()
            raise said.wire.error(flow.status, flow.headers, body, self._clock.now_us())
        return said.wire.chat_stream(flow, run.record.ts_us) if said.translated else flow

    async def _stream(self, run: Run, turn: Turn, said: Said) -> Answer:
        """A stream up to its first token; a provider that answers with an error has not begun."""
        attempt = turn.attempt
        window, which = run.window(turn, None)
        call = self._call(run, turn, said)
        flow: Flow | None = None
        began: Began | None = None
        try:
            with Alarm(run.loop.time() + window, run.loop):
                flow = await self._open(run, turn, said, call)
                began = await _first_token(flow, said.form)
        except TimeoutError as error:
            raise _timed_out(which, window) from error
        finally:
            if flow is not None and began is None:
                await flow.close()
        attempt.ttft_ms = (self._clock.monotonic() - turn.began) * 1e3
        attempt.served_model, attempt.response_id = began.model or "", began.id or ""
        turn.rendered = said.rendered
        answer = Answer("success", attempt, flow=flow, form=said.form.name, strip_usage=said.rendered.strip_usage)
        if said.form is ANY:
            answer.status, answer.content_type = flow.status, flow.headers.get("content-type", "")
        return answer


def own_answer(run: Run) -> Answer | None:
    """The answer that we give ourselves, where the request has one and its provider does not speak its API."""
    resolved = run.rendered.resolved
    parsed, provider = resolved.parsed, run.providers.get(resolved.model.provider)
    if parsed.own is None or provider is None or parsed.api in wire_of(provider).native:
        return None
    return Answer("success", None, parsed.own(), Completion(choices=[]), form=ANY.name)


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
            if flow.held.lstrip().startswith(b"{"):
                form.read(flow.held)  # an error in the place of a stream: raises what it says
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
    if (limit := headers.get("x-ratelimit-limit-requests")) is not None:
        attempt.ratelimit_limit = _count(limit)
    if (remaining := headers.get("x-ratelimit-remaining-requests")) is not None:
        attempt.ratelimit_remaining = _count(remaining)


def _count(text: str) -> int | None:
    return int(text) if text.isdigit() else None


def read_from(attempt: Attempt, completion: Completion) -> None:
    """What the provider says of its own answer."""
    attempt.served_model = completion.model
    attempt.fingerprint = completion.system_fingerprint or ""
    attempt.response_id = completion.id
    attempt.finish_reason = completion.finish_reason
    usage = completion.usage
    attempt.tokens, attempt.cost_usd = (None, None) if usage is None else (usage.tokens(), usage.cost_usd())


def _timed_out(which: str, window: float) -> UpstreamTimeout:
    return UpstreamTimeout(
        f"the provider sent nothing within {window:.1f} s",
        where=f"policy.timeout.{which}",
        hint="raise the timeout, or add a fallback to the route",
        code=f"timeout_{which}",
    )
