"""POST /v1/feedback → ScoreRecord: what the app or its user thought of an answer."""

import msgspec

from pilothouse.domain.clock import Clock
from pilothouse.domain.errors import BadRequest
from pilothouse.domain.ids import uuid7
from pilothouse.domain.principal import Principal
from pilothouse.domain.record import ScoreRecord
from pilothouse.domain.wires import Redact


class _Feedback(msgspec.Struct, forbid_unknown_fields=True):
    request_id: str
    name: str = "feedback"
    value: float | bool | None = None
    score: float | bool | None = None
    label: str = ""
    comment: str = ""
    route: str = ""


_decode = msgspec.json.Decoder(_Feedback).decode


def score(body: bytes, principal: Principal, redact: Redact, clock: Clock) -> ScoreRecord:
    """The score that `body` gives; raises BadRequest. A comment that cannot be redacted is dropped."""
    try:
        given = _decode(body)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise BadRequest(
            f"the feedback is malformed: {error}", hint="send {request_id, value, name?, label?, comment?}"
        ) from error
    value = given.value if given.value is not None else given.score
    if value is None:
        raise BadRequest("the feedback has no value", where="value", hint="send a number, or true or false")
    if not given.request_id:
        raise BadRequest("the feedback names no request", where="request_id", hint="see x-pilothouse-request-id")
    now_us = clock.now_us()
    label, comment = _clean(given.label, redact), _clean(given.comment, redact)
    return ScoreRecord(
        id=uuid7(now_us),
        ts_us=now_us,
        request_id=_clean(given.request_id, redact),
        route=_clean(given.route, redact),
        env=principal.env,
        name=_clean(given.name, redact) or "feedback",
        value=float(value),
        label=label,
        comment=comment,
        source="feedback",
    )


def _clean(text: str, redact: Redact) -> str:
    try:
        return redact(text).text if text else ""
    except Exception:  # noqa: BLE001  # plugin call: what cannot be redacted is not kept
        return "[blocked]"
