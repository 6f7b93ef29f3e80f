"""Redaction: personal data and secrets leave a text before anything is written.

A finding becomes `[EMAIL:3fa91c]`: its class and 6 hex characters of an HMAC of its normalised value, the same for the
same value within an installation, so that records can still be joined. Redacted text is stable: redacting it again
changes nothing. Every failure is an error, never the text as it was: callers then keep metadata only.
"""

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import re2

from pilothouse.domain.errors import PilothouseError
from pilothouse.domain.wires import Redacted
from pilothouse.security.detectors import DETECTORS, Detector, Detectors, Finding

_PASSES = 16  # a replacement may bare a new finding beside it; each pass leaves less text to find in
_SHORTEST = 6  # bytes: no finding is shorter
_PLACEHOLDER = re.compile(rb"\[[A-Z_]{2,20}:[0-9a-f]{6}\]")
_UNICODE_ESCAPE = re.compile(
    rb"(\\+)u(?:([dD][89abAB][0-9a-fA-F]{2})\\+u([dD][c-fC-F][0-9a-fA-F]{2})|([0-9a-fA-F]{4}))"
)
_UNPRINTED = re.compile(rb"u(?!00[2-7])[0-9a-fA-F]{4}")
_PERCENT = 37
_PERCENT_ESCAPE = re.compile(rb"%(?:0[0-9A-Da-d]|2[02-357-9CcFf]|26|2[Bb](?![A-Za-z])|3[A-Fa-f]|5[BbDd]|7[B-Db-d])")
_PERCENT_MARKS = {b"%2B": b"  +", b"%3A": b"  :", b"%3D": b"  ="}
_TOKEN = re.compile(rb'("[^"\\]*(?:\\.[^"\\]*)*")(\s*:)?|(-?[0-9][0-9.eE+-]*)')
_MANY_DIGITS = 1_000_000
_BACKSLASH = 92  # as a number it is found several times faster than as bytes


def blanked(data: bytes) -> tuple[bytes, bool]:
    """`data` with the escapes of quoted text and of addresses blanked, at equal length, so that `\\n4111…` and
    `%204111…` begin a word; and whether these were all the backslashes it has.
    """
    if _PERCENT in data:
        data = _PERCENT_ESCAPE.sub(lambda m: _PERCENT_MARKS.get(m[0].upper(), b"   "), data)
    if _BACKSLASH not in data:
        return data, True
    first, *rest = data.split(b"\\")
    parts, simple = [first], True
    for part in rest:
        if part[:1] in (b"n", b"t", b"r"):
            parts += [b"  ", part[1:]]
        elif part[:1] == b'"':
            parts += [b" ", part]
        elif _UNPRINTED.match(part):  # its digits are no part of the word behind it
            parts += [b"      ", part[5:]]
            simple = False
        else:
            parts += [b"\\" if part else b" ", part]  # escaped escapes are blanked too
            simple = False
    return b"".join(parts), simple


def _unescaped(data: bytes) -> bytes:
    """`\\u0040` and its like as the characters that they stand for; quotes and backslashes stay escaped.

    Text that was JSON within a string still has its escapes, those of other alphabets too: what stands behind
    `\\uff1a` begins a word.
    """
    return _UNICODE_ESCAPE.sub(_character, data)


def _character(match: re.Match[bytes]) -> bytes:
    backslashes, high, low, single = match.groups()
    if single is None:
        return (bytes.fromhex(high.decode()) + bytes.fromhex(low.decode())).decode("utf-16-be").encode()
    code = int(single, 16)
    if code in (0x22, 0x5C):
        return bytes(backslashes) + chr(code).encode()
    if code < 0x20:
        return b" "
    return b"\xef\xbf\xbd" if 0xD800 <= code < 0xE000 else chr(code).encode()


def _strings(value: Any) -> Iterator[str]:
    """Every text of a decoded JSON value: keys, strings behind their keys, and long whole numbers."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            for key, inner in item.items():
                yield key
                if isinstance(inner, dict | list):
                    stack.append(inner)
                elif isinstance(inner, str) or _long_number(inner):
                    yield f"{key}: {inner}"
        elif isinstance(item, list):
            stack.extend(item)
        elif isinstance(item, str) or _long_number(item):
            yield str(item)


def _long_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) >= _MANY_DIGITS


class Redactor:
    """Redacts with the pseudonyms of one installation's salt. Safe to share between threads."""

    def __init__(self, salt: bytes, rows: tuple[Detector, ...] = DETECTORS) -> None:
        self._salt = salt
        self._detectors = Detectors(rows)

    def __call__(self, text: str) -> Redacted:
        """`text` without findings. Raises `PilothouseError`."""
        return self._guarded(text, self._plain)

    def redact_json(self, text: str) -> Redacted:
        """A JSON body without findings in its strings, keys and long numbers; all else stays byte for byte.

        What is not JSON is redacted as text. Raises `PilothouseError`.
        """
        return self._guarded(text, self._json)

    def _guarded(self, text: str, work: Any) -> Redacted:
        found: list[Finding] = []
        try:
            data = text.encode("utf-8", "surrogatepass")
            out = work(data, found)
            if not found:
                return Redacted(text=text, classes={})
            redacted = out.decode("utf-8", "surrogatepass")
        except (ValueError, RecursionError, OverflowError, MemoryError, re2.error) as failure:
            # No text of the failure: it may quote what was to be redacted.
            raise PilothouseError(
                f"redaction failed ({type(failure).__name__})", hint="the text is dropped", code="redaction_failed"
            ) from None
        classes: dict[str, int] = {}
        for finding in found:
            classes[finding.detector.kind] = classes.get(finding.detector.kind, 0) + 1
        return Redacted(text=redacted, classes=classes, secrets=sum(f.detector.secret for f in found))

    def _suspects(self, data: bytes) -> bool:
        if _BACKSLASH not in data and _PERCENT not in data:
            return self._detectors.suspects(data)
        if self._detectors.suspects(blanked(data)[0]):
            return True
        return b"\\u" in data and self._detectors.suspects(blanked(_unescaped(data))[0])

    def _plain(self, data: bytes, found: list[Finding]) -> bytes:
        return self._text(data, b"", found) if self._suspects(data) else data

    def _text(self, data: bytes, name: bytes, found: list[Finding]) -> bytes:
        """`data` redacted as if it stood behind `name: `, which tells a phone number or a password."""
        if b"\\u" in data and self._findings(plain := _unescaped(data), name):
            data = plain
        for _ in range(_PASSES):
            findings = self._findings(data, name)
            if not findings:
                return data
            found.extend(findings)
            data = self._replaced(data, findings)
        raise PilothouseError("redaction did not settle", hint="the text is dropped", code="redaction_failed")

    def _findings(self, data: bytes, name: bytes) -> list[Finding]:
        lead = len(name) + 2 if name else 0
        probe = blanked(name + b": " + data if name else data)[0]
        held = (m.span() for m in _PLACEHOLDER.finditer(probe))
        findings = self._detectors.find(probe, held)
        return [Finding(max(0, f.start - lead), f.end - lead, f.detector) for f in findings if f.end > lead]

    def _replaced(self, data: bytes, findings: list[Finding]) -> bytes:
        parts, at = [], 0
        for finding in findings:
            parts += [data[at : finding.start], self._stand_in(data[finding.start : finding.end], finding)]
            at = finding.end
        return b"".join([*parts, data[at:]])

    def _stand_in(self, value: bytes, finding: Finding) -> bytes:
        detector = finding.detector
        return f"[{detector.kind.upper()}:{detector.digest(self._salt, value)[:6]}]".encode()

    def _json(self, data: bytes, found: list[Finding]) -> bytes:
        plain, simple = (data, False) if b"\\u" in data else blanked(data)
        if simple and not self._detectors.suspects(plain):
            return data  # what a string holds stands in the raw text too, between quotes
        try:
            value = msgspec.json.decode(data)
        except msgspec.DecodeError:
            return self._plain(data, found)
        if not simple and not self._suspects("\n".join(_strings(value)).encode("utf-8", "surrogatepass")):
            return data
        return self._tokens(data, found)

    def _tokens(self, data: bytes, found: list[Finding]) -> bytes:
        """Valid JSON, with only those strings and numbers rewritten that hold a finding."""
        name, behind = b"", -1  # the key last seen, and where its colon ends

        def token(match: re.Match[bytes]) -> bytes:
            nonlocal name, behind
            string, colon, number = match.groups()
            direct = name if behind >= 0 and not data[behind : match.start()].strip() else b""
            behind = -1
            if number is not None:
                return self._number(number, direct, found)
            text = _content(string)
            if colon is not None:
                name, behind, direct = text, match.end(), b""
            if len(text) < _SHORTEST:
                return match[0]
            clean = self._text(text, direct, found)
            if clean is text or clean == text:
                return match[0]
            return msgspec.json.encode(clean.decode("utf-8")) + (colon or b"")

        return _TOKEN.sub(token, data)

    def _number(self, number: bytes, name: bytes, found: list[Finding]) -> bytes:
        if not number.isdigit() or len(number) <= _SHORTEST:
            return number
        clean = self._text(number, name, found)
        return number if clean == number else msgspec.json.encode(clean.decode())


def credentials(salt: bytes) -> Redactor:
    """Redacts keys, tokens and passwords, and leaves personal data as it is: for what is kept in full."""
    return Redactor(salt, tuple(row for row in DETECTORS if row.secret))


def _content(literal: bytes) -> bytes:
    """What a JSON string literal says, as UTF-8."""
    return msgspec.json.decode(literal, type=str).encode() if b"\\" in literal else literal[1:-1]
