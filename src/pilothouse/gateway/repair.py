"""Low-risk repairs of a model's JSON: each undoes a known habit of models, has a name, and invents no value.

The text is read as JSON with a few tolerated departures, in one pass over its characters, so that what stands inside
a string is never mistaken for structure. What is still not JSON afterwards is invalid, with the reason: no guessing.
"""

import json
import re
from typing import Any, NoReturn

import msgspec

_decode = msgspec.json.Decoder().decode
NOT_JSON: Any = object()
TEXT_MAX = 1 << 16  # characters; longer outputs are not repaired, so that no output costs more than milliseconds
DEPTH_MAX = 256
_PAIRS = {"{": "}", "[": "]"}
_WORDS = {"true": "true", "false": "false", "null": "null", "True": "true", "False": "false", "None": "null"}
_CONTROLS = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_SPACE = re.compile(r"[ \t\r\n]*")
_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_WORD = re.compile(r"[A-Za-z]+")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?![0-9A-Za-z.+_-])")
_ESCAPE = re.compile(r"u[0-9a-fA-F]{4}|[\"\\/bfnrt]")
_PLAIN = {'"': re.compile(r"[^\"\\\x00-\x1f]*"), "'": re.compile(r"[^'\"\\\x00-\x1f]*")}
_ENDS_SINGLE = re.compile(r"[ \t\r\n]*(?:[,:}\]]|$)")


class Broken(Exception):
    """The text is no JSON value even with the departures. `unclosed`: it ends before the value does."""

    def __init__(self, why: str, *, unclosed: bool = False) -> None:
        super().__init__(why)
        self.why = why
        self.unclosed = unclosed


class Value(msgspec.Struct, frozen=True):
    """A value found in a text: where it stands, as JSON, and what was repaired in it."""

    start: int
    end: int
    json: str
    edits: tuple[str, ...]


def decode(text: str) -> Any:
    """The JSON value in `text`, or NOT_JSON. NaN and infinities are not JSON, and neither are doubled keys."""
    try:
        value = _decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return NOT_JSON
    return NOT_JSON if "{" in text and doubled_key(text) is not None else value


def doubled_key(text: str) -> str | None:
    """A key that one object of this JSON text has twice, so that readers may differ; None: there is none."""
    try:
        _pairs(text)
    except Broken as error:
        return error.why
    except RecursionError:
        return ""
    except ValueError:
        return None  # not JSON at all
    return None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        raise Broken(next(k for k, _ in pairs if k in seen or seen.add(k)))  # type: ignore[func-returns-value]
    return made


_pairs = json.JSONDecoder(object_pairs_hook=_object, parse_int=str, parse_float=str).decode


def mend(text: str, start: int, *, close: bool) -> Value:
    """The object or array that opens at `start`; raises Broken. `close`: missing closing brackets may be added."""
    return _Reader(text, start).value(close=close)


class _Reader:
    """Reads one object or array and writes it down as JSON. No recursion: the brackets that are open are a stack."""

    def __init__(self, text: str, start: int) -> None:
        self._text = text
        self._start = self._at = start
        self._out: list[str] = []
        self._edits: list[str] = []
        self._open: list[str] = []

    def value(self, *, close: bool) -> Value:
        """See `mend`."""
        want = "value"  # or: first (key or item, or the end), key, colon, next (comma or the end)
        while True:
            self._space()
            if self._at >= len(self._text):
                return self._unfinished(want, close=close)
            want = self._token(want, self._text[self._at])
            if not self._open:
                return self._made()

    def _made(self) -> Value:
        return Value(self._start, self._at, "".join(self._out), tuple(dict.fromkeys(self._edits)))

    def _unfinished(self, want: str, *, close: bool) -> Value:
        """At the end of the text: the missing brackets are added only where nothing else can be missing."""
        if not close or want != "next":
            raise Broken("it ends in the middle of a value", unclosed=True)
        self._edits.append("closers")
        self._out.extend(reversed(self._open))
        return self._made()

    def _token(self, want: str, c: str) -> str:
        """Take what stands here; what is wanted after it."""
        if want == "colon":
            if c != ":":
                self._fail("a colon")
            self._take(":")
            return "value"
        if c in "}]":
            return self._closed(want, c)
        if want == "next":
            if c != ",":
                self._fail("a comma or a closing bracket")
            self._take(",")
            return "key" if self._open[-1] == "}" else "value"
        if want in ("key", "first") and self._open[-1] == "}":
            if c not in "\"'":
                self._fail("a key in double quotes")
            self._string(c)
            return "colon"
        return self._item(c)

    def _item(self, c: str) -> str:
        """A value: a bracket that opens, a string, a number or a word."""
        if c in _PAIRS:
            self._open.append(_PAIRS[c])
            if len(self._open) > DEPTH_MAX:
                raise Broken(f"it is nested more than {DEPTH_MAX} deep")
            self._take(c)
            return "first"
        if c in "\"'":
            self._string(c)
            return "next"
        number = _NUMBER.match(self._text, self._at)
        if number:
            self._take(number[0])
            return "next"
        word = _WORD.match(self._text, self._at)
        if word is None or word[0] not in _WORDS:
            self._fail("a value")
        if _WORDS[word[0]] != word[0]:
            self._edits.append("python_literals")
        self._out.append(_WORDS[word[0]])
        self._at += len(word[0])
        return "next"

    def _closed(self, want: str, c: str) -> str:
        """A closing bracket; a comma before it goes."""
        if c != self._open[-1]:
            self._fail(f"“{self._open[-1]}”")
        if want in ("key", "value"):
            if not self._drop_comma():
                self._fail("a value")
            self._edits.append("trailing_comma")
        self._open.pop()
        self._take(c)
        return "next"

    def _drop_comma(self) -> bool:
        """Take back the comma written last, white space left as it is."""
        last = next((i for i in range(len(self._out) - 1, -1, -1) if not self._out[i].isspace()), None)
        if last is None or self._out[last] != ",":
            return False
        self._out[last] = ""
        return True

    def _take(self, token: str) -> None:
        self._out.append(token)
        self._at += len(token)

    def _space(self) -> None:
        """White space as it is; comments go."""
        while True:
            space = _SPACE.match(self._text, self._at)
            if space and space[0]:
                self._take(space[0])
            comment = _COMMENT.match(self._text, self._at) if self._text.startswith(("//", "/*"), self._at) else None
            if comment is None:
                return
            self._edits.append("comments")
            self._at = comment.end()

    def _string(self, quote: str) -> None:
        """A string in either quote, written in double quotes."""
        if quote == "'":
            self._edits.append("single_quotes")
        out, text, at = ['"'], self._text, self._at + 1
        while True:
            plain = _PLAIN[quote].match(text, at)
            if plain:
                out.append(plain[0])
                at = plain.end()
            c = text[at : at + 1]
            if c == quote and self._ends(quote, at):
                break
            if not c:
                raise Broken("a string is not closed", unclosed=True)
            piece, at = self._piece(quote, c, at)
            out.append(piece)
        self._out.append("".join(out) + '"')
        self._at = at + 1

    def _ends(self, quote: str, at: int) -> bool:
        """A single quote ends its string only before punctuation: the one in “it's” does not."""
        return quote == '"' or _ENDS_SINGLE.match(self._text, at + 1) is not None

    def _piece(self, quote: str, c: str, at: int) -> tuple[str, int]:
        """One character of a string that does not stand for itself, as JSON, and where the next one is."""
        text = self._text
        if c == "\\":
            escape = _ESCAPE.match(text, at + 1)
            if escape:
                return "\\" + escape[0], escape.end()
            if text[at + 1 : at + 2] == "'":
                if quote == '"':
                    self._edits.append("escapes")
                return "'", at + 2
            raise Broken(f"“{text[at : at + 2]}” in a string is no escape of JSON")
        if c == '"':
            return '\\"', at + 1  # inside single quotes
        if c == "'":
            if text[at - 1].isalnum() and text[at + 1 : at + 2].isalnum():
                return c, at + 1
            raise Broken("a single quote inside a string may end it or not")
        if c not in _CONTROLS:
            raise Broken("a control character stands in a string")
        self._edits.append("control_characters")
        return _CONTROLS[c], at + 1

    def _fail(self, wanted: str) -> NoReturn:
        found = self._text[self._at : self._at + 12].split("\n")[0]
        raise Broken(f"{wanted} is missing before “{found}” (character {self._at})")
