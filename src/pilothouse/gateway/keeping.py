"""What of a request's path the cache needs: what is asked of it, and what is given to it."""

from pilothouse.domain.policy import Policy
from pilothouse.domain.record import Record
from pilothouse.gateway.cache import Answers, Asked, Kept, asked, hit_headers, note_hit
from pilothouse.gateway.types import Answer, Draft, Rendered


def keeps(policy: Policy) -> bool:
    """Whether a route keeps answers: for equal requests, or for the day its providers fail."""
    return policy.cache is not None or any(step.cached is not None for step in policy.fallback)


def wanted(policy: Policy, draft: Draft, rendered: Rendered) -> Asked | None:
    """The request for the cache."""
    resolved = rendered.resolved
    parsed = resolved.parsed
    form = f"{draft.api.name} {parsed.method} {parsed.path} {parsed.stream} {parsed.wants_usage}"
    return asked(
        policy,
        draft.record,
        form=form,
        model=resolved.model,
        upstream=rendered.upstream(resolved.model.name),
        body=parsed.body,
        header=draft.incoming.header,
    )


async def stale(answers: Answers, draft: Draft, max_age_s: float) -> Answer | None:
    """The newest kept answer at most so old, for a request that gets none otherwise."""
    hit = await answers.stale(draft.wanted, max_age_s)
    if hit is None:
        return None
    kept = hit.kept
    note_hit(draft.record, hit)
    draft.headers += hit_headers(hit)
    draft.text, draft.reply = kept.text, kept.reply
    return Answer("fallback", None, kept.body, content_type=kept.content_type, ready=True)


def kept_of(record: Record, draft: Draft, now_us: int) -> Kept:
    """A delivered answer as it is kept."""
    delivered = next((a for a in record.attempts if a.delivered), None)
    return Kept(
        body=b"".join(draft.sent) + draft.out,
        content_type=draft.content_type,
        made_us=now_us,
        text=draft.text,
        reply=draft.reply,
        cost_usd=delivered.cost_usd if delivered is not None else None,
        provider=record.provider,
        served_model=record.served_model,
        fingerprint=record.fingerprint,
        finish_reason=delivered.finish_reason if delivered is not None else "",
    )
