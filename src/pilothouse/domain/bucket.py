"""Where a key stands among all keys: canaries and flags draw their shares by it, so that a key stays on its side."""

import hashlib

_SPAN = float(1 << 64)


def bucket(salt: str, key: str) -> float:
    """A point in [0, 1) that is the same for the same salt and key always, and evenly spread over keys."""
    return int.from_bytes(hashlib.sha256(f"{salt}\0{key}".encode()).digest()[:8], "big") / _SPAN
