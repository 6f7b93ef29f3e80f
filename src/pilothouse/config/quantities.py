"""Durations, sizes, rates, money and shares as people write them. Each parser raises ValueError with an example."""

import re

_NUMBER = r"([+-]?\d+(?:\.\d+)?)"
_DURATION = re.compile(rf"{_NUMBER}\s*(ms|s|m|min|h|d)")
_SIZE = re.compile(rf"{_NUMBER}\s*(B|kB|KB|KiB|MB|MiB|GB|GiB)")
_SHARE = re.compile(rf"{_NUMBER}\s*(%|pp)")
_MONEY = re.compile(rf"{_NUMBER}\s*(USD)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"B": 1, "kB": 1000, "KB": 1000, "KiB": 1024, "MB": 10**6, "MiB": 2**20, "GB": 10**9, "GiB": 2**30}


def seconds(text: object) -> float:
    """`2s`, `500ms`, `10m`, `1h`, `30d` → seconds. A bare number is refused: its unit would be a guess."""
    match = _DURATION.fullmatch(str(text).strip())
    if match is None or float(match[1]) < 0:
        raise ValueError(f"{text!r} is not a duration such as 500ms, 2s, 10m, 1h or 30d")
    return float(match[1]) * _SECONDS[match[2]]


def size_bytes(text: object) -> int:
    """`10MiB`, `500kB` → bytes."""
    match = _SIZE.fullmatch(str(text).strip())
    if match is None or float(match[1]) < 0:
        raise ValueError(f"{text!r} is not a size such as 64KiB, 16MiB or 2GB")
    return int(float(match[1]) * _BYTES[match[2]])


def share(text: object) -> float:
    """`3pp`, `25%`, `+25%` → 0.03, 0.25, 0.25. A number from 0 to 1 is taken as it is."""
    if isinstance(text, int | float) and not isinstance(text, bool) and 0 <= text <= 1:
        return float(text)
    match = _SHARE.fullmatch(str(text).strip())
    if match is None:
        raise ValueError(f"{text!r} is not a share such as 25 %, 3pp or 0.25")
    return float(match[1]) / 100.0


def usd(text: object) -> float:
    """`0.05 USD` → 0.05."""
    match = _MONEY.fullmatch(str(text).strip())
    if match is None or float(match[1]) < 0:
        raise ValueError(f"{text!r} is not an amount such as 0.05 USD")
    return float(match[1])


def number(text: object) -> float:
    """A plain number, or a share, duration (in ms) or amount written with its unit: for thresholds."""
    if isinstance(text, int | float) and not isinstance(text, bool):
        return float(text)
    for parse in (share, usd, lambda value: seconds(value) * 1000.0):
        try:
            return parse(text)
        except ValueError:
            continue
    raise ValueError(f"{text!r} is not a number, share, duration or amount such as 0.05, 5 %, 800ms or 0.01 USD")
