"""Answer → the client: whole, as a stream, or out of the cache, and what the record is to keep of it."""

import asyncio
import functools

from pilothouse.domain.errors import GuardrailBlocked, PilothouseError
from pilothouse.gateway import draft as notes
from pilothouse.gateway import replies
from pilothouse.gateway.attempts import Attempts, Run
from pilothouse.gateway.cache import Answers, hit_headers, note_hit
from pilothouse.gateway.guards.engine import Guards
from pilothouse.gateway.relay import Relay
from pilothouse.gateway.shield import GuardedFlow, guarded_answer
from pilothouse.gateway.types import Answer, Client, Draft, Headers, Parsed
from pilothouse.gateway.validate import note_calls


class Delivery:
    """The last steps of a worker's requests. `answers` None: nothing is cached."""

    def __init__(self, attempts: Attempts, answers: Answers | None) -> None:
        self._attempts = attempts
        self._answers = answers

    async def given_again(self, draft: Draft, parsed: Parsed) -> bool:
        """Answer from the cache, where it has one."""
        if draft.wanted is None or self._answers is None:
            return False
        hit = await self._answers.lookup(draft.wanted)
        draft.record.cache = draft.wanted.use
        if hit is None:
            return False
        kept = hit.kept
        note_hit(draft.record, hit)
        draft.headers += hit_headers(hit)
        draft.text, draft.reply, draft.out = kept.text, kept.reply or kept.body, kept.body
        draft.content_type = replies.SSE if parsed.stream else kept.content_type
        return True

    async def whole(self, draft: Draft, parsed: Parsed, answer: Answer, guards: Guards | None) -> None:
        """An answer that is there as a whole. A client that asked for a stream gets it in a stream's form."""
        api = draft.api
        if answer.ready:
            draft.out, draft.reply, draft.content_type = answer.body, draft.reply or answer.body, answer.content_type
            return
        if answer.static is not None:
            body = api.static(answer.static, draft.record)
            draft.text = answer.static
        else:
            body = answer.body if answer.form == api.form.name else api.from_chat(answer.body, parsed)
            if guards is not None:
                clean = await guarded_answer(guards, body, draft.record)
                if clean is not body:
                    body, answer.completion = clean, api.form.read(clean)
        if answer.completion is not None:
            notes.note_completion(draft, answer.completion)
        draft.reply = body
        draft.out = api.as_stream(body, parsed) if parsed.stream else body
        draft.content_type = replies.SSE if parsed.stream else answer.content_type or replies.JSON

    async def relay(self, draft: Draft, client: Client, answer: Answer, run: Run, guards: Guards | None) -> None:
        """An answer that is still arriving: pass it on, and hold its end back for the record."""
        attempt, record = answer.attempt, draft.record
        if attempt is None or attempt.ttft_ms is None:
            raise AssertionError("only a stream that has begun is relayed")
        flow = self._attempts.lasting(run, answer)
        record.ttft_ms = attempt.offset_ms + attempt.ttft_ms
        api = draft.api
        if answer.form != api.form.name and draft.parsed is not None:
            flow = api.stream_from_chat(flow, draft.parsed)
        if guards is not None and guards.output_rails:
            flow = GuardedFlow(flow, guards, api.form, record)
        relay = Relay(flow, api.form, run.idle_s, run.deadline, strip_usage=answer.strip_usage)
        completion, broken = None, None
        try:
            client.begin(
                record.status, replies.headers(record, answer.content_type or replies.SSE) + api.headers(record)
            )
            draft.streaming = True
            send = client.send if draft.wanted is None else functools.partial(_send_and_keep, draft, client)
            completion, draft.out = await relay.run(send)
            draft.content_type = replies.SSE
            if completion.choices and run.policy.tools.check:
                note_calls(run.rendered, record, completion)
        except (asyncio.CancelledError, PilothouseError) as error:
            broken = error
            raise
        finally:
            seen = completion or relay.so_far()
            if isinstance(broken, GuardrailBlocked) and isinstance(flow, GuardedFlow):  # not the provider's doing
                self._attempts.ended(run, answer, flow.said(), None)
            else:
                self._attempts.ended(run, answer, seen, broken)
            notes.note_delivered(record, answer.attempt or attempt)
            notes.note_completion(draft, seen)
            draft.reply = replies.assembled(seen)
            await flow.close()


def headers(draft: Draft) -> Headers:
    """The head of a whole answer."""
    headers = replies.headers(draft.record, draft.content_type)
    headers += draft.api.headers(draft.record)
    headers += draft.headers
    if draft.retry_after_s is not None:
        headers.append(("retry-after", str(max(1, round(draft.retry_after_s)))))
    return headers


async def _send_and_keep(draft: Draft, client: Client, data: bytes) -> None:
    draft.sent.append(data)
    await client.send(data)
