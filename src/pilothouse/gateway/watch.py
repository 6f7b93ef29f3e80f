"""Watches a streamed answer as it arrives, and says as soon as it certainly cannot meet its JSON Schema any more.

One pass: each character is looked at once, whatever the size of the pieces. What a schema asks beyond `Shape` is not
judged. `lenient`: the answer will be repaired and coerced afterwards, so what those could mend is no failure: where
the text leaves JSON in another way than that, the watch falls silent and leaves the judgement to the end.
"""

import re
from collections.abc import Callable
from typing import Any, NoReturn

from pilothouse.gateway.characters import Characters
from pilothouse.gateway.shape import Shape, root

PROSE_MAX = 2_000  # characters of words before the value after which none is expected any more
DEPTH_MAX = 256
_OPEN = re.compile(r"[{\[]")
_LEAD = re.compile(r"\s*(?:```[A-Za-z0-9_-]*\s*)?")
_THINK = re.compile(r"\s*<(think|thinking|reasoning)>\s*", re.IGNORECASE)
_SPACE = re.compile(r"[ \t\r\n]+")
_SCALAR = re.compile(r"[0-9A-Za-z+.\-]+")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_WORDS = {"true": True, "false": False, "null": None}
_LENIENT_WORDS = {**_WORDS, "True": True, "False": False, "None": None}
_COERCIBLE = frozenset(("integer", "fraction", "boolean", "null"))
_ANY = root(True)


class _Failed(Exception):
    """The answer certainly fails; the text says why."""


class _Silent(Exception):
    """Nothing more can be said."""


class _Frame:
    """An object or array that is open."""

    __slots__ = ("count", "is_object", "key", "keys", "shape")

    def __init__(self, shape: Shape, *, is_object: bool) -> None:
        self.shape = shape
        self.is_object = is_object
        self.key = ""
        self.keys: set[str] = set()
        self.count = 0


class Watch:
    """`feed` the text in pieces; the first reason that it gives is final."""

    def __init__(self, schema: Any, *, lenient: bool = False, prose_max: int = PROSE_MAX) -> None:
        self._root = root(schema)
        self._lenient = lenient
        self._prose_max = prose_max
        self._why: str | None = None
        self._silent = False
        self._stack: list[_Frame] = []
        self._want = "value"
        self._lead = ""
        self._step: Callable[[str, int], int] = self._before if lenient else self._between
        self._shape = self._root  # of the value that is being read
        self._token = ""  # of a number or word
        self._text: list[str] = []  # of a string, where it matters
        self._length = 0
        self._characters = Characters()
        self._left: list[str] | None = None  # options that a string may still become
        self._offset = 0

    def feed(self, text: str) -> str | None:
        """Why the answer fails whatever comes next; None while it may still be right."""
        at = 0
        try:
            while at < len(text) and self._why is None and not self._silent:
                at = self._step(text, at)
        except _Failed as failed:
            self._why = str(failed)
        except _Silent:
            self._silent = True
        return self._why

    # What stands before the value.

    def _before(self, text: str, at: int) -> int:
        """Words, a fence, reasoning in tags: up to the first bracket."""
        found = _OPEN.search(text, at)
        end = found.start() if found else len(text)
        self._lead += text[at : min(end, at + self._prose_max - len(self._lead))]
        thinks = _THINK.match(self._lead)
        if thinks:
            self._lead, self._token = f"</{thinks[1]}>", ""
            self._step = self._reasoning
            return at
        if found is None:
            if len(self._lead) >= self._prose_max:
                self._fail("words instead of a JSON value")
            return end
        if _LEAD.fullmatch(self._lead) is None or not self._root.kinds & {"object", "array"}:
            raise _Silent  # which of the values in words is meant is not known before the end
        self._step = self._between
        return end

    def _reasoning(self, text: str, at: int) -> int:
        """Up to the tag that closes it."""
        tag, seen = self._lead, self._token + text[at:]
        end = re.search(re.escape(tag), seen, re.IGNORECASE)
        if end is None:
            self._token = seen[-len(tag) :]
            return len(text)
        past = end.end() - len(self._token) + at
        self._lead = self._token = ""
        self._step = self._before
        return past

    # Structure.

    def _between(self, text: str, at: int) -> int:
        """White space and punctuation between the parts."""
        space = _SPACE.match(text, at)
        if space:
            return space.end()
        c, want = text[at], self._want
        if want == "end":
            self._bad("more text after the value")
        if want in ("colon", "next", "close") or c in "}]":
            return self._punctuation(c, at)
        if want == "key" or (want == "first" and self._stack[-1].is_object):
            if c != '"':
                self._bad("a key without double quotes")
            self._begin_string(None)
            return at + 1
        return self._begin(c, at)

    def _punctuation(self, c: str, at: int) -> int:
        if self._want == "colon":
            if c != ":":
                self._bad("a key without a colon")
            self._want = "value"
            return at + 1
        frame = self._stack[-1] if self._stack else None
        if frame is not None and c == ("}" if frame.is_object else "]") and self._want in ("next", "first"):
            self._close(frame)
            return at + 1
        if c != "," or self._want != "next" or frame is None:
            self._bad("a comma or bracket that is out of place")
        self._want = "key" if frame.is_object else "value"
        return at + 1

    def _close(self, frame: _Frame) -> None:
        if frame.is_object:
            absent = sorted(name for name in frame.shape.required - frame.keys if not self._may_add(frame, name))
            if absent:
                self._fail(f"an object without “{absent[0]}”", whole=True)
        elif frame.count < frame.shape.min_items:
            least = frame.shape.min_items
            self._fail(f"an array of {frame.count} items, allowed are at least {least}", whole=True)
        self._stack.pop()
        self._done()

    def _may_add(self, frame: _Frame, name: str) -> bool:
        """Whether coercion could put null in an absent key's place."""
        shape = frame.shape.property(name) if self._lenient else None
        return shape is not None and "null" in shape.kinds

    def _done(self) -> None:
        """A value is complete."""
        self._step = self._between
        self._want = "next" if self._stack else "end"
        if not self._stack and self._lenient:
            raise _Silent

    def _begin(self, c: str, at: int) -> int:
        """The first character of a value."""
        self._shape = self._next_shape()
        if c in "{[":
            self._open(is_object=c == "{")
        elif c == '"':
            self._begin_string(self._shape)
        elif c in "-0123456789" or c.isalpha():
            self._token = ""
            self._step = self._scalar
            return at
        else:
            self._bad("a character that begins no JSON value")
        return at + 1

    def _next_shape(self) -> Shape:
        if not self._stack:
            return self._root
        frame = self._stack[-1]
        if frame.is_object:
            return frame.shape.property(frame.key) or _ANY
        frame.count += 1
        limit = frame.shape.max_items
        if limit is not None and frame.count > limit:
            self._fail(f"more than {limit} items")
        return frame.shape.item()

    def _open(self, *, is_object: bool) -> None:
        kind = "object" if is_object else "array"
        if kind not in self._shape.kinds:
            self._fail(f"found an {kind}, allowed is {self._allowed()}")
        if len(self._stack) >= DEPTH_MAX:
            raise _Silent
        self._stack.append(_Frame(self._shape, is_object=is_object))
        self._want = "first"

    # Strings.

    def _begin_string(self, shape: Shape | None) -> None:
        """`shape` None: a key."""
        self._text, self._length, self._left = [], 0, None
        self._characters = Characters(raw=self._lenient)
        self._step = self._key if shape is None else self._string
        if shape is None:
            return
        if "string" not in shape.kinds:
            if not self._lenient or not shape.kinds & (_COERCIBLE | {"array"}):
                self._fail(f"found a string, allowed is {self._allowed()}")
        elif shape.options is not None and not (self._lenient and "array" in shape.kinds):
            options = [option for option in shape.options if isinstance(option, str)]
            self._left = [option.casefold() for option in options] if self._lenient else options
            self._offset = 0

    def _key(self, text: str, at: int) -> int:
        at = self._take(text, at)
        if self._characters.ended:
            key, frame = "".join(self._text), self._stack[-1]
            frame.key = key
            if key in frame.keys:
                self._fail("the key is there twice")
            frame.keys.add(key)
            if frame.shape.property(key) is None:
                self._fail("the key is not allowed")
            self._step, self._want = self._between, "colon"
        return at

    def _string(self, text: str, at: int) -> int:
        at = self._take(text, at)
        if self._characters.ended:
            self._check_string()
            self._done()
        return at

    def _take(self, text: str, at: int) -> int:
        """Some of a string, and where it went on to."""
        try:
            piece, at = self._characters.take(text, at)
        except ValueError as error:
            self._bad(str(error))
        if piece:
            self._grow(piece)
        return at

    def _grow(self, piece: str) -> None:
        self._length += len(piece)
        if self._step == self._key:
            self._text.append(piece)
            return
        shape = self._shape
        if "string" not in shape.kinds:
            if self._length <= 64:
                self._text.append(piece)
            return
        if shape.max_length is not None and self._length > shape.max_length and "array" not in shape.kinds:
            self._fail(f"a string of more than {shape.max_length} characters")
        if self._left is not None:
            part = piece.casefold() if self._lenient else piece
            self._left = [option for option in self._left if option.startswith(part, self._offset)]
            self._offset += len(part)
            if not self._left:
                self._fail(f"a string that is not in the list, allowed is {self._allowed()}")

    def _check_string(self) -> None:
        """At the string's end."""
        shape = self._shape
        if "array" in shape.kinds and self._lenient:
            return
        if "string" not in shape.kinds:
            text = "".join(self._text) if self._length <= 64 else ""
            if not (_NUMBER.fullmatch(text) or text in _LENIENT_WORDS or shape.options is not None):
                self._fail(f"found a string, allowed is {self._allowed()}")
        elif self._left is not None and not any(len(option) == self._offset for option in self._left):
            self._fail(f"a string that is not in the list, allowed is {self._allowed()}")
        elif self._length < shape.min_length:
            self._fail(f"a string of {self._length} characters, allowed are at least {shape.min_length}")

    # Numbers and words.

    def _scalar(self, text: str, at: int) -> int:
        """Up to a character that ends it: only then is it known."""
        found = _SCALAR.match(text, at)
        end = found.end() if found else at
        self._token += text[at:end]
        if len(self._token) > 400:
            self._bad("a number or word without an end")
        numeric = not self._token[0].isalpha()
        if not numeric and not any(word.startswith(self._token) for word in _LENIENT_WORDS):
            self._bad("a word that is no JSON value")
        if numeric and not self._shape.kinds & {"integer", "fraction"} and not self._excused("string"):
            self._fail(f"found a number, allowed is {self._allowed()}")
        if end < len(text):
            self._check_scalar(self._token)
            self._done()
        return end

    def _check_scalar(self, token: str) -> None:
        words = _LENIENT_WORDS if self._lenient else _WORDS
        if token in words:
            self._check_word(words[token])
        elif _NUMBER.fullmatch(token):
            self._check_number(float(token))
        else:
            self._bad("a word that is no JSON value")

    def _check_word(self, value: bool | None) -> None:
        shape = self._shape
        kind = "null" if value is None else "boolean"
        if kind not in shape.kinds:
            if value is None or not self._excused():
                self._fail(f"found {'null' if value is None else 'a boolean'}, allowed is {self._allowed()}")
        elif shape.options is not None and not any(o is value for o in shape.options) and not self._excused():
            self._fail(f"a value that is not in the list, allowed is {self._allowed()}")

    def _check_number(self, value: float) -> None:
        shape = self._shape
        if abs(value) >= 2**53 or self._excused("string"):
            return
        kind = "integer" if value.is_integer() else "fraction"
        if kind not in shape.kinds:
            self._fail(f"found {'an integer' if kind == 'integer' else 'a number'}, allowed is {self._allowed()}")
        numbers = [o for o in shape.options or () if isinstance(o, int | float) and not isinstance(o, bool)]
        if shape.options is not None and value not in numbers:
            self._fail(f"a number that is not in the list, allowed is {self._allowed()}")
        limit = shape.out_of_range(value)
        if limit:
            self._fail(f"a number beyond {limit}")

    # Verdicts.

    def _excused(self, *kinds: str) -> bool:
        """Whether coercion could still make something else of a scalar here."""
        return self._lenient and not self._shape.kinds.isdisjoint(("array", *kinds))

    def _allowed(self) -> str:
        options = self._shape.options
        if options is not None:
            return ", ".join(repr(option) for option in options[:8]) + (" …" if len(options) > 8 else "")
        names = sorted({"number" if kind == "fraction" else kind for kind in self._shape.kinds})
        if "number" in names and "integer" in names:
            names.remove("integer")
        return " or ".join(names) or "nothing"

    def _bad(self, why: str) -> NoReturn:
        """Not JSON: a failure, unless it may be repaired."""
        if self._lenient:
            raise _Silent
        self._fail(f"not JSON: {why}")

    def _fail(self, why: str, *, whole: bool = False) -> NoReturn:
        """`whole`: it is about the innermost object or array that is open, not about a part of it."""
        open_ = self._stack[:-1] if whole else self._stack
        path = [frame.key if frame.is_object else str(max(frame.count - 1, 0)) for frame in open_]
        raise _Failed(f"{'/'.join(['', *path]) or '/'}: {why}")
