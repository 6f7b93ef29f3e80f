"""The characters of a JSON string that arrives in pieces of any size."""

import re

_PLAIN = re.compile(r"[^\"\\\x00-\x1f]+")
_HEX = re.compile(r"[0-9a-fA-F]{4}")
_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


class Characters:
    """Reads from behind the opening quote. `raw`: line breaks and tabs may stand unescaped."""

    def __init__(self, *, raw: bool = False) -> None:
        self._raw = raw
        self._escape = ""
        self._high = 0  # the first half of a surrogate pair
        self.ended = False

    def take(self, text: str, at: int) -> tuple[str, int]:
        """Some characters and where to go on; sets `ended` behind the closing quote. ValueError: no JSON string."""
        c = text[at]
        if self._escape:
            return self._escaped(c), at + 1
        if self._high and c != "\\":
            raise ValueError("half a surrogate pair")
        if c == "\\":
            self._escape = c
            return "", at + 1
        if c == '"':
            self.ended = True
            return "", at + 1
        plain = _PLAIN.match(text, at)
        if plain is not None:
            return plain[0], plain.end()
        if self._raw and c in "\n\r\t":
            return c, at + 1
        raise ValueError("a control character in a string")

    def _escaped(self, c: str) -> str:
        """What the escape stands for once it is whole; nothing before."""
        self._escape += c
        escape = self._escape
        if escape[1] == "u":
            if len(escape) < 6:
                return ""
            self._escape = ""
            if _HEX.fullmatch(escape, 2) is None:
                raise ValueError("an escape that JSON has not")
            return self._unit(int(escape[2:], 16))  # noqa: FURB166  # the prefix is not Python's
        self._escape = ""
        if self._high or escape[1] not in _ESCAPES:
            raise ValueError("half a surrogate pair" if self._high else "an escape that JSON has not")
        return _ESCAPES[escape[1]]

    def _unit(self, unit: int) -> str:
        """A UTF-16 unit; two make one character."""
        low = 0xDC00 <= unit <= 0xDFFF
        if bool(self._high) != low:
            raise ValueError("half a surrogate pair")
        if 0xD800 <= unit <= 0xDBFF:
            self._high = unit
            return ""
        if low:
            high, self._high = self._high, 0
            return chr(0x10000 + ((high - 0xD800) << 10) + unit - 0xDC00)
        return chr(unit)
