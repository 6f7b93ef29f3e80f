"""What stands for a user or a session: the same in requests, spans and evals of one installation, and in no other.

Where the id is itself an e-mail address, a phone number or another personal value, its pseudonym begins with the six
characters that stand for it in texts: the user `3fa91c…` is who wrote `[EMAIL:3fa91c]`.
"""

import functools

import re2

from pilothouse.domain.errors import PilothouseError
from pilothouse.security.detectors import DETECTORS, Detectors
from pilothouse.security.keys import pseudonym

KEPT = 8_192  # that are kept at hand: every span of a session names it
_LONGEST = 320  # bytes: no personal value is longer, and what is needs no look


class Pseudonyms:
    """Gives pseudonyms by one installation's salt: 16 hex characters, empty for what is empty. For any thread."""

    def __init__(self, salt: bytes) -> None:
        self._salt = salt
        self._personal = Detectors(tuple(row for row in DETECTORS if not row.secret))
        self._kept = functools.lru_cache(KEPT)(self._made)

    def __call__(self, value: str) -> str:
        """The pseudonym of an id, whatever it is."""
        return self._kept(value)

    def _made(self, value: str) -> str:
        data = value.strip().encode("utf-8", "surrogatepass")
        if 0 < len(data) <= _LONGEST:
            try:
                found = self._personal.find(data)
            except (PilothouseError, re2.error):
                found = []
            if len(found) == 1 and (found[0].start, found[0].end) == (0, len(data)):
                return found[0].detector.digest(self._salt, data)[:16]
        return pseudonym(self._salt, value)
