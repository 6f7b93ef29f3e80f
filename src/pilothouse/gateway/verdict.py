"""What is noted and raised of an answer that is looked at as a whole, or as far as it has come."""

from typing import Any

from pilothouse.domain.errors import InvalidOutput
from pilothouse.domain.record import Record, Validation


def begin(record: Record) -> Validation:
    """The note of this answer's checks; those of answers before it stay in `stages`."""
    before = record.validation
    kept = [*before.stages, record.attempts[-1].kind] if before and record.attempts else []
    result = Validation(first_ok=before is None, ok=True, retried=before.retried + 1 if before else 0, stages=kept)
    if before is not None:  # what an answer lacked stays noted where the next one has it
        result.missing, result.mismatched, result.unlisted = before.missing, before.mismatched, before.unlisted
    record.validation = result
    return result


def invalid(
    result: Validation, what: str, hint: str, *, code: str = "", reask: list[dict[str, Any]] | None = None
) -> InvalidOutput:
    """The error for an answer that does not meet the schema. `reask`: messages that ask for it once more."""
    result.ok = False
    result.error = what
    said = f"the model's output does not meet the route's schema: {what}"
    return InvalidOutput(said, where="output", hint=hint, code=code, reask=reask)
