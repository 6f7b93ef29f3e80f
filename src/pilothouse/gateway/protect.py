"""Redaction of a record before it leaves the request path. Fails closed: no verdict, no text.

Text is looked at decoded, string by string, because JSON's escapes hide what a detector looks for (`\\n4111…` has no
word boundary). One look over all strings at once settles the usual case, in which nothing is found.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from pilothouse.domain.hashing import bytes_hash
from pilothouse.domain.policy import LogMode
from pilothouse.domain.record import PREVIEW, Payload, Record, Redaction
from pilothouse.domain.wires import Redact, Redacted
from pilothouse.gateway.repair import doubled_key
from pilothouse.gateway.types import Draft
from pilothouse.providers.openai import text_of

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_vectors = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_items = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode
# Short words that the client or the provider chose, and that are no text.
_NAMES = ("requested_model", "route", "segment", "api", "asked_model", "served_model", "fingerprint")
_NAMES_OF_ATTEMPT = ("model", "served_model", "fingerprint", "response_id", "finish_reason")
_POINTERS = ("missing", "mismatched", "unlisted", "coerced")
_LONG = 9  # digits from which on a number may be a card or an account


class Findings:
    """Redacts texts and counts what was found in them."""

    def __init__(self, redact: Redact) -> None:
        self._redact = redact
        self.classes: dict[str, int] = {}
        self.secrets = 0
        self.changed = False

    def text(self, text: str) -> str:
        """`text` as it may be written."""
        if not text:
            return text
        result: Redacted = self._redact(text)
        for name, count in result.classes.items():
            self.classes[name] = self.classes.get(name, 0) + count
        self.secrets += result.secrets
        self.changed |= result.text != text
        return result.text

    def value(self, value: Any) -> Any:
        """The same for every string in a JSON value."""
        match value:
            case str():
                return self.text(value)
            case bool() | None | float():
                return value
            case int():
                digits = str(value)
                return value if len(digits) < _LONG or (clean := self.text(digits)) == digits else clean
            case list():
                return [self.value(v) for v in value]
            case dict():
                return {self.text(k): self.value(v) for k, v in value.items()}
        return value

    def body(self, raw: bytes) -> str:
        """A body as text: JSON by its strings, anything else as it reads. Untouched where nothing was found."""
        try:
            value = _decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return self.text(readable(raw))
        before, self.changed = self.changed, False
        clean = self.value(value)
        text = raw.decode()
        if not self.changed:  # a key that is there twice hides its first value
            self.changed = doubled_key(text) is not None
        touched, self.changed = self.changed, before or self.changed
        return _encode(clean).decode() if touched else text


def strings(value: Any, out: list[str]) -> None:
    """Every string in a JSON value, and every long number."""
    kind = type(value)
    if kind is str:
        out.append(value)
    elif kind is dict:
        for key, item in value.items():
            out.append(key)
            strings(item, out)
    elif kind is list:
        for item in value:
            strings(item, out)
    elif kind is int and value >= 10 ** (_LONG - 1):
        out.append(str(value))


def readable(raw: bytes) -> str:
    """A body as text. What is no text (sound, images, files) is named by its size: nobody can look into it."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return f"({len(raw)} bytes that are no text)"


def _without_vectors(reply: bytes) -> bytes:
    """An answer of embeddings without its numbers: a record is for people, and they say nothing to anybody."""
    try:
        body = _vectors(reply)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
        return reply
    items = body.get("data")
    if isinstance(items, msgspec.Raw) and bytes(items).lstrip()[:1] == b"[":
        kept = [{k: _size(v) if k == "embedding" else v for k, v in item.items()} for item in _items(items)]
        return _encode(body | {"data": kept})
    return reply


def _size(vector: msgspec.Raw) -> Any:
    raw = bytes(vector)
    return f"({raw.count(b',') + 1} numbers)" if raw.lstrip()[:1] == b"[" else f"({len(raw) - 2} characters)"


def _texts(draft: Draft, payload: Payload | None) -> list[str]:
    """Every text that the record would keep. `payload`: the bodies as they came, where they are to be kept."""
    record = draft.record
    out = [record.error_message, draft.text, *(getattr(record, name) for name in _NAMES)]
    for attempt in record.attempts:
        out += [getattr(attempt, name) for name in _NAMES_OF_ATTEMPT]
    if (validation := record.validation) is not None:
        out += [
            validation.error,
            *validation.missing,
            *validation.mismatched,
            *validation.unlisted,
            *validation.coerced,
        ]
    for key, value in record.labels.items():
        out += (key, value)
    if payload is not None:
        _spoken(payload.request, _parsed(draft), out)
        _spoken(payload.response, None, out)
        if payload.upstream:
            _spoken(payload.upstream, None, out)
    return out


def _spoken(text: str, value: Any, out: list[str]) -> None:
    """What the strings of a JSON body say. `value`: the body decoded, where it is at hand and an object.

    Where its only escapes are these three, they stand in its text as they are, and no string is hidden: that is much
    cheaper than to walk over the values. A name beside a value may raise a suspicion more, which then comes to nothing.
    """
    if "\\" not in text:
        out.append(text)
    elif text.count("\\") == text.count("\\n") + text.count('\\"') + text.count("\\t"):
        out.append(text.replace("\\n", "\n").replace('\\"', '"').replace("\\t", "\t"))
    else:
        try:
            strings(value or _decode(text), out)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            out.append(text)
        else:
            if doubled_key(text) is not None:
                out.append(text)


class Looks(msgspec.Struct, frozen=True):
    """`all_of` finds personal data and credentials, `credentials` these alone, which no mode keeps."""

    all_of: Redact
    credentials: Redact


def protect(draft: Draft, mode: LogMode, looks: Looks, again: Callable[[str], str]) -> None:
    """Fill in the record's payload, previews and redaction as `mode` says.

    Only the bodies of mode `full` hold personal data, so that whoever reads some has opened a payload. `again` renders
    the upstream body anew from a redacted client body and hashes it; empty where that is impossible.
    """
    record = draft.record
    record.log_mode = mode
    if record.api == "embeddings":
        draft.reply = _without_vectors(draft.reply)
    try:
        if mode == "full":
            _full(draft, looks, again)
        else:
            _redacted(draft, mode, looks.all_of, again)
    except Exception as error:  # noqa: BLE001  # plugin call: whatever redaction raises, metadata only is kept
        record.payload = None
        record.labels = {}
        record.preview_in = record.preview_out = ""
        record.error_message = record.error_type
        _renamed(record, _nothing)
        if draft.resolved is not None:
            record.route = draft.resolved.route
        record.upstream_redacted_hash = ""
        record.redaction = Redaction(status="blocked", reason=type(error).__name__)


def _full(draft: Draft, looks: Looks, again: Callable[[str], str]) -> None:
    """Bodies as they came but for credentials; everything beside them redacted."""
    record, payload = draft.record, _as_it_came(draft)
    inside = Findings(looks.credentials)
    texts = "\n".join(_texts(draft, payload))
    hidden = looks.credentials(texts).classes
    if not hidden and not looks.all_of(texts).classes:
        _keep(draft, payload, _parsed(draft) or payload.request)
    else:
        if hidden:
            payload = _cleaned(draft, inside, again)
        found = Findings(looks.all_of)
        _worded(record, found)
        record.payload = payload
        record.preview_in = found.text(asked(_parsed(draft) or payload.request))[:PREVIEW]
        record.preview_out = found.text(draft.text)[:PREVIEW]
    record.redaction = Redaction(status="redacted" if inside.changed else "skipped", reason="log mode full")
    record.redaction.classes, record.redaction.secrets = inside.classes, inside.secrets


def _worded(record: Record, found: Findings) -> None:
    """Everything of a record that is no body, without findings."""
    record.error_message = found.text(record.error_message)
    _renamed(record, found.text)
    record.labels = {found.text(k): found.text(v) for k, v in record.labels.items()}


def _renamed(record: Record, clean: Callable[[str], str]) -> None:
    """The record with its short words as they may be written."""
    for name in _NAMES:
        setattr(record, name, clean(getattr(record, name)))
    for attempt in record.attempts:
        for name in _NAMES_OF_ATTEMPT:
            setattr(attempt, name, clean(getattr(attempt, name)))
    if (validation := record.validation) is not None:
        validation.error = clean(validation.error)
        for name in _POINTERS:
            setattr(validation, name, [clean(pointer) for pointer in getattr(validation, name)])


def _nothing(_: str) -> str:
    return ""


def _redacted(draft: Draft, mode: LogMode, redact: Redact, again: Callable[[str], str]) -> None:
    record = draft.record
    if mode == "off":
        record.labels = {}
    payload = _as_it_came(draft) if mode == "redacted" else None
    if redact("\n".join(_texts(draft, payload))).classes:
        found = Findings(redact)
        _worded(record, found)
        if payload is not None:
            payload = _cleaned(draft, found, again)
            draft.text = found.text(draft.text)
            _keep(draft, payload, _value(payload.request))
        if found.changed:
            record.redaction = Redaction(status="redacted", classes=found.classes, secrets=found.secrets)
            return
    elif payload is not None:
        _keep(draft, payload, _parsed(draft) or payload.request)
    if payload is not None:
        record.redaction = Redaction(status="clean")
    else:
        record.redaction = Redaction(status="skipped", reason=f"log mode {mode}")


def _cleaned(draft: Draft, found: Findings, again: Callable[[str], str]) -> Payload:
    """The bodies without findings; the record gets the hash of what the redacted request renders to."""
    before, found.changed = found.changed, False
    request = found.body(draft.incoming.body)
    sent = _sent(draft)
    upstream = found.body(sent) if sent else ""
    if upstream.encode() != sent:
        draft.record.upstream_redacted_hash = bytes_hash(upstream.encode())
    elif not sent and found.changed and draft.rendered is not None:
        draft.record.upstream_redacted_hash = again(request)
    found.changed |= before
    return Payload(request, found.body(draft.reply), upstream)


def _as_it_came(draft: Draft) -> Payload:
    return Payload(readable(draft.incoming.body), readable(draft.reply), _sent(draft).decode())


def _sent(draft: Draft) -> bytes:
    """The first upstream body, where it cannot be rendered again from the client's: a guardrail has masked that.

    Empty for all others, and for what is no text.
    """
    rendered, attempts = draft.rendered, draft.record.attempts
    if not draft.reshaped or rendered is None:
        return b""
    body = rendered.upstream(attempts[0].model if attempts else rendered.resolved.model.name)
    try:
        body.decode()
    except UnicodeDecodeError:
        return b""
    return body


def _parsed(draft: Draft) -> Any:
    """The client's body decoded; empty where it is no object."""
    return draft.parsed.body if draft.parsed is not None else None


def _keep(draft: Draft, payload: Payload, body: Any) -> None:
    record = draft.record
    record.payload = payload
    record.preview_in = asked(body)[:PREVIEW]
    record.preview_out = draft.text[:PREVIEW]


def asked(body: Any) -> str:
    """What the user asked, for a list: the last user message, or the input, or the prompt's variables."""
    if not isinstance(body, dict):
        return body if isinstance(body, str) else ""
    given = body.get("messages", body.get("input"))
    for message in reversed(given) if isinstance(given, list) else ():
        if isinstance(message, dict) and message.get("role") == "user" and (text := text_of(message.get("content"))):
            return text
    for name in ("input", "prompt", "query"):  # responses, embeddings, moderations; completions, images; reranking
        value = body.get(name)
        if isinstance(value, list):
            value = " ".join(v for v in value if isinstance(v, str)) or text_of(value)
        if isinstance(value, str) and value:
            return value
    prompt = body.get("prompt")
    variables = prompt.get("variables") if isinstance(prompt, dict) else None
    return " ".join(str(v) for v in variables.values()) if isinstance(variables, dict) else ""


def _value(text: str) -> Any:
    """The body again, for its preview."""
    try:
        return _decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return text
