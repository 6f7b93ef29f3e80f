"""What a request gets whose flow a flag has switched off: its route's own answer for that, or the refusal."""

from pilothouse.domain.errors import PilothouseError
from pilothouse.domain.policy import Policy
from pilothouse.gateway import draft as notes
from pilothouse.gateway.later import Later, Redo
from pilothouse.gateway.types import Answer, Draft


async def off_way(draft: Draft, policy: Policy, off: PilothouseError, later: Later, redo: Redo) -> Answer:
    """The first fallback of the policy that asks no model: a static answer or a hand-off; raises `off` without one.

    Which errors a fallback is for does not matter here: nothing has failed.
    """
    for at, step in enumerate(policy.fallback):
        answer: Answer | None = None
        if step.static is not None:
            answer = Answer(step.outcome, None, static=step.static)
        elif step.handoff is not None and draft.record.source == "edge":
            static = next((s.static for s in policy.fallback[at + 1 :] if s.static is not None), None)
            answer = await later.step(draft, redo, step, off, static)
        if answer is not None:
            answer.outcome, draft.record.way = step.outcome, step.way
            notes.note_answer(draft, answer)
            return answer
    raise off
