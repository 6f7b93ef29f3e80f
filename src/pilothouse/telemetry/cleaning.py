"""Redaction of all the words of a span, bounded in length, with one look where there is nothing to find.

Long texts are cut before redaction, far behind what is kept of them: what the cut tears apart is never kept.
"""

from collections.abc import Mapping

import msgspec

from pilothouse.domain.record import Redaction
from pilothouse.domain.wires import Redact
from pilothouse.telemetry.mended import mended

MAX_VALUE = 2_048  # characters of an attribute's value that are kept
MAX_KEY = 256
MAX_CONTENT = 1 << 20  # characters of what went in and of what came out
_TORN = 4_096  # characters before a cut that may be a part of something longer
_MARGIN = 4 * _TORN


class Cleaner(msgspec.Struct):
    """Redacts the parts of one span; `seen` sums up what it found, `cut` counts the characters that it left out."""

    redact: Redact
    redact_json: Redact
    seen: Redaction = msgspec.field(default_factory=lambda: Redaction(status="clean"))
    cut: int = 0

    def words(self, fields: Mapping[str, str], *labelled: Mapping[str, str]) -> list[dict[str, str]]:
        """Each mapping redacted and bounded; of the `labelled` ones the keys too. One look over all of them tells
        whether any needs work.
        """
        sections = [self._short(fields, False), *(self._short(section, True) for section in labelled)]
        joined = "\n".join([f"{key}: {text}" for section in sections for key, text in section.items() if text])
        if not joined.isascii() and not _whole(joined):
            sections = [mended(section) for section in sections]
            joined = mended(joined)
        if self.redact(joined).classes:
            sections = [self._section(section, n > 0) for n, section in enumerate(sections)]
        return [self._bounded(section) for section in sections]

    def content(self, text: str) -> str:
        """One side of the payload."""
        if not text:
            return ""
        kept = text[: MAX_CONTENT + _MARGIN]
        if not kept.isascii() and not _whole(kept):
            kept = mended(kept)
        clean = self._one(self.redact_json if kept[0] in "{[" else self.redact, kept)
        if len(kept) < len(text):
            clean = self._untorn(clean)
        self.cut += len(text) - len(kept) + max(0, len(clean) - MAX_CONTENT)
        return clean[:MAX_CONTENT]

    def _short(self, section: Mapping[str, str], keys: bool) -> dict[str, str]:
        """`section` with what is far too long cut, so that a huge text costs no more than a long one."""
        most = MAX_VALUE + _MARGIN
        if _fits(section, most, most):
            return dict(section)
        self.cut += sum(max(0, len(text) - most) for text in section.values())
        return {key[:most] if keys else key: text[:most] for key, text in section.items()}

    def _bounded(self, section: dict[str, str]) -> dict[str, str]:
        if _fits(section, MAX_KEY, MAX_VALUE):
            return section
        return {key[:MAX_KEY]: self._cut(text) for key, text in section.items()}

    def _cut(self, text: str) -> str:
        if len(text) <= MAX_VALUE:
            return text
        self.cut += len(text) - MAX_VALUE + 1
        return text[: MAX_VALUE - 1] + "…"

    def _section(self, section: Mapping[str, str], keys: bool) -> dict[str, str]:
        if not self.redact("\n".join([f"{key}: {text}" for key, text in section.items() if text])).classes:
            return dict(section)
        clean: dict[str, str] = {}
        for key, text in section.items():
            name = self._one(self.redact, key) if keys else key
            label = f"{key}: " if keys else ""  # a phone number or a password is told by what stands before it
            value = self._one(self.redact, label + text)
            value = value.removeprefix(label) if value.startswith(label) else value
            if len(text) == MAX_VALUE + _MARGIN:  # it was cut, and redaction may have brought the cut near
                value = self._untorn(value)
            clean[name] = value
        return clean

    def _untorn(self, text: str) -> str:
        """`text` without what the cut at its end may have torn apart."""
        kept = text[:-_TORN]
        self.cut += len(text) - len(kept)
        return kept

    def _one(self, redact: Redact, text: str) -> str:
        if not text:
            return ""
        result = redact(text)
        for kind, n in result.classes.items():
            self.seen.status = "redacted"
            self.seen.classes = {**self.seen.classes, kind: self.seen.classes.get(kind, 0) + n}
        self.seen.secrets += result.secrets
        return result.text


def _fits(section: Mapping[str, str], key: int, value: int) -> bool:
    """Whether no key and no value is longer than that."""
    return not section or (max(map(len, section)) <= key and max(map(len, section.values())) <= value)


def _whole(text: str) -> bool:
    """Whether it can be written as UTF-8: no lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
