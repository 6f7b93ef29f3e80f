"""The wire of the guardrails: where in a text the findings of redaction are."""

import re2

from pilothouse.domain.errors import PilothouseError
from pilothouse.domain.wires import Sighting
from pilothouse.security.detectors import DETECTORS, Detectors, Finding
from pilothouse.security.redact import blanked

_INNER = bytes(range(0x80, 0xC0))  # bytes of UTF-8 that begin no character


class Detector:
    """Finds what redaction replaces, without replacing it. Safe to share between threads."""

    def __init__(self) -> None:
        self._detectors = Detectors()
        self.classes = frozenset(row.kind for row in DETECTORS)

    def __call__(self, text: str) -> list[Sighting]:
        """The findings in `text`, in order; raises `PilothouseError`, which never quotes it."""
        try:
            data = text.encode("utf-8", "surrogatepass")
            found = self._detectors.find(blanked(data)[0])
        except (ValueError, RecursionError, OverflowError, MemoryError, re2.error) as failure:
            raise PilothouseError(
                f"detection failed ({type(failure).__name__})", hint="there is no verdict", code="detection_failed"
            ) from None
        if not found:
            return []
        return _characters(found, data, ascii_only=len(data) == len(text))


def _characters(found: list[Finding], data: bytes, *, ascii_only: bool) -> list[Sighting]:
    """Offsets of bytes as offsets of characters."""
    out: list[Sighting] = []
    byte = character = 0
    for finding in found:
        start, end = finding.start, finding.end
        if not ascii_only:
            start = character + len(data[byte : finding.start].translate(None, _INNER))
            end = start + len(data[finding.start : finding.end].translate(None, _INNER))
            byte, character = finding.end, end
        out.append(Sighting(finding.detector.kind, start, end, finding.detector.secret))
    return out
