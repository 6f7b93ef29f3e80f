"""How a request's record grows: what each step knows is noted here, so that the steps need not know the record."""

from collections.abc import Callable

from pilothouse.domain.clock import Clock
from pilothouse.domain.errors import ClientGone, LimitExceeded, PilothouseError, UpstreamError
from pilothouse.domain.hashing import bytes_hash
from pilothouse.domain.ids import parse_traceparent, request_ids
from pilothouse.domain.principal import Principal
from pilothouse.domain.record import Attempt, Record
from pilothouse.domain.table import Table
from pilothouse.gateway import replies
from pilothouse.gateway.types import Answer, Api, Draft, Incoming, Parsed, Rendered, Resolved
from pilothouse.providers.openai import Completion


def start(incoming: Incoming, api: Api, clock: Clock, worker: str, table: Table) -> Draft:
    """A draft of a request that has just arrived."""
    now_us = clock.now_us()
    own, trace, span = request_ids(now_us)
    parent = parse_traceparent(incoming.traceparent) if incoming.traceparent else None
    record = Record(
        id=own,
        ts_us=now_us,
        trace_id=parent[0] if parent else trace,
        span_id=span,
        parent_span_id=parent[1] if parent else "",
        table_revision=table.revision,
        worker=worker,
        api=incoming.path if api.name == "any" else api.name,
    )
    return Draft(incoming=incoming, record=record, began=clock.monotonic(), api=api)


def note_parsed(draft: Draft, parsed: Parsed, pseudonym: Callable[[str], str]) -> None:
    """Who asks for what. Session and user are kept as pseudonyms only."""
    draft.parsed = parsed
    record = draft.record
    record.requested_model = record.route = parsed.model
    if parsed.stream:
        record.stream = True
    if parsed.session:
        record.session = pseudonym(parsed.session)
    if parsed.user:
        record.user = pseudonym(parsed.user)
    if labels := parsed.labels:
        record.segment = labels.get("segment", "")
        record.labels = {k: v for k, v in labels.items() if k not in ("segment", "session_id")}


def note_principal(draft: Draft, principal: Principal) -> None:
    """Which key, and with it which environment."""
    draft.record.env = principal.env
    draft.record.key_id = principal.key_id


def note_resolved(draft: Draft, resolved: Resolved) -> None:
    """Which release answers."""
    draft.resolved = resolved
    record = draft.record
    record.route, record.app, record.tier = resolved.route, resolved.app, resolved.tier
    live = resolved.live
    record.manifest, record.parts = live.hash, live.parts
    if resolved.flags:
        record.flags = resolved.flags
    if resolved.canary:
        record.canary = True
    if resolved.inline:
        record.inline = True
    else:
        record.release = live.release


def note_rendered(draft: Draft, rendered: Rendered) -> bytes:
    """What is sent upstream; the body for the resolved model."""
    draft.rendered = rendered
    body = rendered.upstream(rendered.resolved.model.name)
    draft.record.upstream_hash = bytes_hash(body)
    return body


def note_answer(draft: Draft, answer: Answer) -> None:
    """Which attempt it is that the client gets."""
    record, attempt = draft.record, answer.attempt
    record.outcome = answer.outcome
    record.status = answer.status
    if attempt is not None:
        attempt.delivered = True
        note_delivered(record, attempt)


def note_delivered(record: Record, attempt: Attempt) -> None:
    """Who answered."""
    record.provider, record.served_model = attempt.provider, attempt.served_model
    record.fingerprint = attempt.fingerprint


def note_asked(record: Record) -> None:
    """Whom the request asked: who answered, else the last that was not given up."""
    asked = max(record.attempts, key=lambda a: (a.delivered, not a.cancelled, a.n), default=None)
    if asked is not None:
        record.asked_model = asked.model
        record.provider = record.provider or asked.provider


def note_completion(draft: Draft, completion: Completion) -> None:
    """What the answer says."""
    draft.text = completion.text
    draft.completion = completion
    if draft.record.outcome == "success" and completion.refused:
        draft.record.outcome = "refused"


def note_failure(draft: Draft, error: PilothouseError) -> None:
    """A request that ends in an error; a stream that has begun ends in an error event."""
    record = draft.record
    record.outcome = "failed"
    record.error_type = error.kind
    record.error_message = str(error)
    if isinstance(error, UpstreamError | LimitExceeded):
        draft.retry_after_s = error.retry_after_s
    if draft.streaming:
        record.status = 499 if isinstance(error, ClientGone) else record.status
        draft.out = draft.api.error_event(error)
        return
    record.status = replies.status_of(error)
    draft.out = draft.reply = draft.api.error_body(error)
    draft.content_type = replies.JSON


def note_times(draft: Draft, now: float) -> None:
    """Durations by stage; `queue` is the time waited between attempts."""
    record = draft.record
    record.duration_ms = lasted = (now - draft.began) * 1e3
    if draft.asked is None:
        record.stages = {"preprocessing": lasted}
        return
    before = (draft.asked - draft.began) * 1e3
    queue = model = 0.0
    for attempt in record.attempts:
        queue += attempt.backoff_ms
        model += attempt.duration_ms
    after = lasted - before - queue - model
    after = after if after > 0.0 else 0.0  # noqa: FURB136 - `max` is slower
    record.stages = {"queue": queue, "preprocessing": before, "model": model, "postprocessing": after}
