"""The request path. Only this module knows the order of its steps.

    parse → authenticate → resolve(table) → admit (limits, budgets, queue) → guard → render → cache
          → attempts (timeout, retry, breaker, fallback, hedge) → validate → guard → settle → record

`handle` writes exactly one record for each request, whatever happens to client and provider, before the last byte of
the answer is handed to the server.
"""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import structlog

from pilothouse.domain.clock import Clock
from pilothouse.domain.errors import ClientGone, GuardrailBlocked, PilothouseError, RouteDisabled, StoreError
from pilothouse.domain.hashing import bytes_hash
from pilothouse.domain.model_ref import ModelRef
from pilothouse.domain.table import Table
from pilothouse.domain.wires import (
    Authenticate,
    GenerateReply,
    GenerateRequest,
    Redact,
    SecretReader,
    Sink,
    TableReader,
)
from pilothouse.gateway import draft as notes
from pilothouse.gateway.admit import Admission, Estimate
from pilothouse.gateway.apis.chat import CHAT_API
from pilothouse.gateway.attempts import Attempts, Run
from pilothouse.gateway.cache import Answers, worth
from pilothouse.gateway.deadline import within
from pilothouse.gateway.delivery import Delivery, headers
from pilothouse.gateway.estimate import estimate, output_bound, rough_tokens
from pilothouse.gateway.flag_counts import FlagCounts
from pilothouse.gateway.guards.engine import Book, Guards
from pilothouse.gateway.keeping import keeps, kept_of, stale, wanted
from pilothouse.gateway.later import Later
from pilothouse.gateway.protect import Looks, protect
from pilothouse.gateway.render import render
from pilothouse.gateway.replay import again
from pilothouse.gateway.resolve import resolve
from pilothouse.gateway.settle import PriceBook, settle
from pilothouse.gateway.shield import guarded_request
from pilothouse.gateway.switched_off import off_way
from pilothouse.gateway.switches import Asking
from pilothouse.gateway.types import Answer, Api, Client, Draft, Headers, Incoming, Parsed, Resolved
from pilothouse.gateway.validate import accept
from pilothouse.providers.passing import ANY
from pilothouse.providers.upstream import Upstream
from pilothouse.store.counters.local import LocalCounters

log = structlog.get_logger("pilothouse.gateway")

Resolve = Callable[[Parsed, Draft, Table], Resolved]


@dataclass
class Gateway:
    """Serves requests. The first fields are the wires; one Gateway per worker."""

    table: TableReader
    sink: Sink
    redact: Redact
    credentials: Redact  # the same for credentials alone, which no log mode keeps
    authenticate: Authenticate
    secret: SecretReader
    clock: Clock
    pseudonym: Callable[[str], str]  # of a session or user: what the record keeps in its place
    worker: str = ""
    unwritten: int = 0  # records that the sink refused
    stopping: bool = False  # whoever cancels a request now is the server, not a client that left
    upstream: Upstream = field(default_factory=Upstream)
    admission: Admission | None = None  # None: a door of this process alone
    guards: Book | None = None  # None: a policy with guardrails is refused
    answers: Answers | None = None  # None: nothing is cached
    shared: Path | None = None  # where the host's workers keep breakers and delayed answers; None: each its own

    def __post_init__(self) -> None:
        self.door = self.admission or Admission(LocalCounters(self.clock))
        breakers = self.shared / "breakers" if self.shared is not None else None
        self.attempts = Attempts(self.upstream, self.secret, self.clock, shared=breakers)
        kept = self.shared / "delayed" if self.shared is not None else None
        self.later = Later(self.attempts.calls, self.clock, kept)
        self._looks = Looks(self.redact, self.credentials)
        self.counts = FlagCounts(self.worker)
        self._book = PriceBook()
        self._delivery = Delivery(self.attempts, self.answers)
        self._loop: asyncio.AbstractEventLoop | None = None

    async def close(self) -> None:
        """Let go of connections and counters, when nothing is in flight."""
        await self.later.close()
        await self.upstream.close()
        await self.door.close()
        self.attempts.close()
        if self.answers is not None:
            await self.answers.close()

    def handle(self, incoming: Incoming, client: Client, api: Api = CHAT_API) -> Coroutine[Any, Any, None]:
        """Serve one request of the edge. Cancel it when the client leaves: it is then recorded as 499."""
        table = self.table()
        draft = notes.start(incoming, api, self.clock, self.worker, table)
        return self._recorded(draft, client, table, self._named)

    async def generate(self, request: GenerateRequest) -> GenerateReply:
        """Run `request.live` on one body, whatever the table points at: for evals, replays and canaries."""
        table = self.table()
        body = msgspec.json.encode({"model": request.route} | request.body)
        draft = notes.start(Incoming(body=body), CHAT_API, self.clock, self.worker, table)
        draft.record.source = request.source  # type: ignore[assignment]  # "eval", "replay", "shadow"
        draft.record.env = request.env

        def given(parsed: Parsed, draft: Draft, _table: Table) -> Resolved:
            model = request.live.manifest.model
            if request.labels:
                draft.record.labels = draft.record.labels | request.labels
            return Resolved(parsed, request.live, model, request.route, request.app, request.tier, request.canary)

        await self._recorded(draft, _Nobody(), table, given)
        record = draft.record
        return GenerateReply(
            request_id=record.id,
            text=draft.text,
            error=record.error_type,
            duration_ms=record.duration_ms,
            cost_usd=record.cost_usd,
            outcome=record.outcome,
        )

    async def _recorded(self, draft: Draft, client: Client, table: Table, find: Resolve) -> None:
        """Serve, write the record, then hand over what is left of the answer."""
        try:
            await self._serve(draft, client, table, find)
        except PilothouseError as error:
            notes.note_failure(draft, error)
        except asyncio.CancelledError:
            if not self.stopping:
                notes.note_failure(draft, ClientGone("the client left before the answer was complete"))
                if draft.wanted is not None and self.answers is not None:
                    self.answers.done(draft.wanted)
                raise
            notes.note_failure(draft, RouteDisabled("the gateway is stopping", hint="ask again", code="shutting_down"))
        except Exception as error:  # request boundary: whatever it is, it is recorded and answered
            log.exception("a request failed inside the gateway", request=draft.record.id)
            notes.note_failure(draft, PilothouseError("the gateway failed", hint=f"report {type(error).__name__}"))
        finally:
            self._record(draft, table)
        try:
            if not draft.streaming:
                client.whole(draft.record.status, headers(draft), draft.out)
            elif draft.record.status != 499:
                await client.send(draft.out)
        finally:
            if draft.wanted is not None and self.answers is not None:
                await self._keep(draft, self.answers)

    async def _keep(self, draft: Draft, answers: Answers) -> None:
        """Keep an answer that may be given again; those who wait for it go on."""
        record, asked = draft.record, draft.wanted
        if asked is None:
            return
        try:
            if record.cache not in ("hit", "semantic", "stale") and worth(record, draft.completion):
                await answers.store(asked, kept_of(record, draft, self.clock.now_us()))
        finally:
            answers.done(asked)

    async def _serve(self, draft: Draft, client: Client, table: Table, find: Resolve) -> None:
        """The steps in their order."""
        api = draft.api
        parsed, resolved, guards = await self._let_in(draft, table, find)
        record, policy = draft.record, resolved.live.manifest.policy
        if resolved.off is not None:
            redo = functools.partial(self._redo, draft, table, find)
            await self._delivery.whole(
                draft, parsed, await off_way(draft, policy, resolved.off, self.later, redo), None
            )
            return
        rendered = render(resolved, api.to_chat if api.translates else None)
        body = notes.note_rendered(draft, rendered)
        kept: Callable[[float], Awaitable[Answer | None]] | None = None
        if self.answers is not None and (policy.cache or policy.fallback) and keeps(policy):
            draft.wanted, kept = wanted(policy, draft, rendered), functools.partial(stale, self.answers, draft)
            if await self._delivery.given_again(draft, parsed):
                return
        loop = self._running()
        now = loop.time()
        deadline, begun_by = within(policy.timeout, draft.incoming.header, now, stream=rendered.stream)
        draft.asked = self.clock.monotonic()
        run = Run(
            rendered=rendered,
            body=body,
            policy=policy,
            record=record,
            providers=table.providers,
            loop=loop,
            began=draft.began,
            deadline=deadline,
            begun_by=begun_by,
            accept=accept,
            spendable=draft.ticket.spendable,
            stale=kept if draft.wanted is not None else None,
            count=estimate,
            uncounted=draft.uncounted if api.form is not ANY else [],  # what is no text has tokens nobody knows
        )
        if policy.caps.cost is not None or draft.ticket.most is not None:
            run.quote = functools.partial(self._quote, draft, table)
        if draft.later_s:
            run.patient, run.deadline, run.begun_by = True, now + draft.later_s, now + draft.later_s
        elif policy.fallback and record.source == "edge":
            run.later = functools.partial(self.later.step, draft, functools.partial(self._redo, draft, table, find))
        answer = await self.attempts.run(run)
        notes.note_answer(draft, answer)
        if answer.flow is not None:
            await self._delivery.relay(draft, client, answer, run, guards)
        else:
            try:
                await self._delivery.whole(draft, parsed, answer, guards)
            except GuardrailBlocked as error:
                answer = await self.attempts.instead(run, answer, error)
                notes.note_answer(draft, answer)
                await self._delivery.whole(draft, parsed, answer, guards)
        if draft.uncounted:
            await self._estimate(draft)

    async def _let_in(self, draft: Draft, table: Table, find: Resolve) -> tuple[Parsed, Resolved, Guards | None]:
        """Parsed, resolved, admitted, and looked at by the guardrails of its input."""
        parsed = draft.api.parse(draft.incoming)
        notes.note_parsed(draft, parsed, self.pseudonym)
        resolved = find(parsed, draft, table)
        notes.note_resolved(draft, resolved)
        draft.ticket = await self.door.enter(draft, table, self._estimated(draft, resolved, table))
        guards = self._guards_of(resolved) if resolved.live.manifest.policy.guards else None
        if guards is not None:
            resolved = await guarded_request(guards, draft, resolved)
        return parsed, resolved, guards

    def _running(self) -> asyncio.AbstractEventLoop:
        """The event loop. A gateway has one at a time, and each question for it is a system call until Python 3.12."""
        loop = self._loop
        if loop is None or not loop.is_running():
            loop = self._loop = asyncio.get_running_loop()
        return loop

    def _quote(self, draft: Draft, table: Table, model: ModelRef) -> float | None:
        """USD that one call of `model` is expected to cost; None where it has no price."""
        resolved, expected = draft.resolved, draft.ticket.estimate
        usd: float | None = expected.usd
        if resolved is not None and model == resolved.model:
            return usd
        tokens = expected.tokens_in, expected.tokens_out
        return self._book.quote(model, table, tokens, draft.began, draft.record.ts_us)

    async def _redo(self, draft: Draft, table: Table, find: Resolve, client: Client, seconds: float) -> None:
        """Serve a request whose client was told to wait, within so many seconds: with a record of its own."""
        fresh = notes.start(draft.incoming, draft.api, self.clock, self.worker, table)
        record = fresh.record
        record.trace_id, record.parent_span_id, record.delayed = draft.record.trace_id, draft.record.span_id, True
        fresh.later_s = seconds
        await self._recorded(fresh, client, table, find)

    def _named(self, parsed: Parsed, draft: Draft, table: Table) -> Resolved:
        """The edge's way to a release: by the key's environment and the model's name."""
        principal = self.authenticate(draft.incoming.authorization, table)
        notes.note_principal(draft, principal)
        asking = Asking(principal.key_id, draft.incoming.header, self.counts.add)
        return resolve(parsed, principal.env, table, draft.record.id, asking)

    def _guards_of(self, resolved: Resolved) -> Guards | None:
        if self.guards is None:
            raise PilothouseError("the policy has guardrails, and this process has none", code="guardrail_failed")
        return self.guards.of(resolved.live.parts["policy"], resolved.live.manifest.policy.guards)

    def _estimated(self, draft: Draft, resolved: Resolved, table: Table) -> Estimate:
        """What one call of the primary model may use: the input by its size, the output as far as it is bounded."""
        parsed = resolved.parsed
        tokens_in = rough_tokens(parsed.raw)
        silent = parsed.api in ("embeddings", "moderations")  # their answers are no tokens
        tokens_out = 0 if silent else output_bound(parsed.body, resolved.live.manifest.params)
        usd = self._book.quote(resolved.model, table, (tokens_in, tokens_out), draft.began, draft.record.ts_us)
        return Estimate(tokens_in, tokens_out, usd)

    async def _estimate(self, draft: Draft) -> None:
        """Count tokens ourselves where the provider did not; apart from the loop, whose first time is slow."""
        for attempt, body, text in draft.uncounted:
            if attempt.tokens is None:
                attempt.tokens = await asyncio.to_thread(estimate, body, text)

    def _record(self, draft: Draft, table: Table) -> None:
        """Complete the record and write it: the last thing before the last byte."""
        record = draft.record
        notes.note_asked(record)
        for attempt, body, text in draft.uncounted:  # of a stream that broke, or of a call that was given up
            if attempt.tokens is None:
                attempt.tokens = estimate(body, text)
        if record.cache not in ("hit", "semantic", "stale") or any(a.tokens for a in record.attempts):
            settle(record, self._book, table, draft.began)
        if draft.ticket is not None:
            draft.ticket.settle(record)
        resolved = draft.resolved
        mode = resolved.live.manifest.policy.log if resolved else "redacted"
        protect(draft, mode, self._looks, functools.partial(_hash_again, draft))
        notes.note_times(draft, self.clock.monotonic())
        try:
            self.sink(record)
        except (StoreError, OSError) as error:
            self.unwritten += 1
            log.error("a record could not be written", request=record.id, error=str(error))


class _Nobody:
    """The client of a request that the product makes itself; the draft holds its answer."""

    def whole(self, status: int, headers: Headers, body: bytes) -> None:
        """Nothing is to be sent."""

    def begin(self, status: int, headers: Headers) -> None:
        """Nothing is to be sent."""

    async def send(self, data: bytes) -> None:
        """Nothing is to be sent."""


def _hash_again(draft: Draft, request: str) -> str:
    """The hash of the upstream body of a redacted request; empty where redaction took the request's form away."""
    resolved = draft.resolved
    if resolved is None:
        return ""
    try:
        live = None if resolved.inline else resolved.live
        rendered = again(request, live, resolved.route, draft.api.name)
    except PilothouseError:
        return ""
    first = draft.record.attempts[0].model if draft.record.attempts else resolved.model.name
    return bytes_hash(rendered.upstream(first))
