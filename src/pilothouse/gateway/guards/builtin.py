"""The guardrails that come with the product: secrets, pii, prompt_size, topics, regex, tools."""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import re2

from pilothouse.domain.errors import ConfigError
from pilothouse.domain.wires import Detect, Sighting
from pilothouse.gateway.guards.protocol import Found, Seen

DETECTED_WINDOW = 512  # characters; no secret's beginning is longer before it is known for one
REGEX_WINDOW = 256  # of a pattern that may match more, unless `window` says otherwise
_WINDOW_MAX = 16_384
_MEMORY = 32 << 20  # bytes per automaton
_NAMED = re.compile(r"pass|pwd|secret|key|token|credential|bearer|basic|://", re.IGNORECASE)  # before a free-form value
_WORDS = re.compile(r"\s*\S+|\s+$")
_NEAR = 64  # characters that are looked at first
_LAST_LATIN = 0x2BF  # detectors' own alphabet ends here: a character behind it ends a finding that has no name before


class Sight:
    """The detector, which remembers the last text: `secrets` and `pii` look at the same one, one after the other."""

    def __init__(self, detect: Detect) -> None:
        self._detect = detect
        self.classes = detect.classes
        self._seen: tuple[str, Sequence[Sighting]] = ("", ())
        self._held: tuple[str, int] = ("", 0)

    def __call__(self, text: str) -> Sequence[Sighting]:
        """What is in `text`."""
        last = self._seen
        if last[0] is not text:
            last = self._seen = (text, self._detect(text))
        return last[1]

    def hold(self, text: str) -> int:
        """The last word; and the words before it while none has a small letter, since digits are written in groups."""
        last = self._held
        if last[0] is not text:
            far = text[-DETECTED_WINDOW:]
            near = far[-_NEAR:]
            size = _tail(near, far)
            if size == len(near) < len(far):
                size = _tail(far, far)
            last = self._held = (text, size)
        return last[1]


def _tail(tail: str, far: str) -> int:
    at = len(tail)
    for word in reversed(_WORDS.findall(tail)):
        small = max((i for i, c in enumerate(word) if c.islower()), default=-1)
        if small >= 0 and at < len(tail):
            at -= len(word) - small - 1  # what is behind its last small letter may begin a group
            break
        at -= len(word)
        if small >= 0:
            break
    held = tail[at:]
    if not held.isascii() and not _NAMED.search(far):
        held = held[1 + max((i for i, c in enumerate(held) if ord(c) > _LAST_LATIN), default=-1) :]
    return len(held)


class _Detected:
    """`secrets` or `pii`: what redaction finds, narrowed by `classes`."""

    window = DETECTED_WINDOW

    def __init__(self, sight: Sight, classes: frozenset[str], *, secret: bool) -> None:
        self._sight = sight
        self._classes = classes
        self._secret = secret
        self.hold = sight.hold

    def look(self, seen: Seen) -> list[Found] | None:
        if len(seen.text) < 6:  # no finding is shorter
            return None
        found: dict[str, list[tuple[int, int]]] = {}
        for sighting in self._sight(seen.text):
            if sighting.secret == self._secret and (not self._classes or sighting.kind in self._classes):
                found.setdefault(sighting.kind, []).append((sighting.start, sighting.end))
        return [Found(kind, tuple(spans)) for kind, spans in found.items()] or None


class _PromptSize:
    """The request as a whole; the engine shows it all its texts at once."""

    whole = True
    window = 0

    def __init__(self, characters: float, tokens: float) -> None:
        self._characters = characters
        self._tokens = tokens

    def look(self, seen: Seen) -> Found | None:
        if len(seen.text) > self._characters or estimated_tokens(seen.text) > self._tokens:
            return Found("prompt_size")
        return None


def estimated_tokens(text: str) -> int:
    """About how many tokens: 4 ASCII characters make one, or 1.5 others. Within a quarter for prose."""
    ascii_only = len(text) if text.isascii() else len(text.encode("ascii", "ignore"))
    return math.ceil(ascii_only / 4 + (len(text) - ascii_only) / 1.5)


class _Regex:
    """Patterns of RE2, by name: their time is linear in the text, whatever the pattern."""

    def __init__(self, patterns: Mapping[str, Any], window: int) -> None:
        self._patterns = patterns
        self.window = window

    def look(self, seen: Seen) -> list[Found] | None:
        found = [Found(name, spans) for name, one in self._patterns.items() if (spans := _spans(one, seen.text))]
        return found or None


def _spans(pattern: Any, text: str) -> tuple[tuple[int, int], ...]:
    return tuple(m.span() for m in pattern.finditer(text) if m.end() > m.start())


class _Topics:
    """Phrases as words, whatever their case and spacing. A denied phrase within an allowed one is none."""

    def __init__(self, deny: list[str], allow: list[str]) -> None:
        self._deny = [_phrase(p) for p in deny]
        self._any = _phrase(*deny)
        self._allow = _phrase(*allow) if allow else None
        self.window = max(len(p) for p in (*deny, *allow)) * 2 + 2  # spacing may be wider than the phrase's own

    def look(self, seen: Seen) -> list[Found] | None:
        text = seen.text.casefold()
        if self._any.search(text) is None:
            return None
        back = _back(seen.text, text)
        allowed = list(_phrases(self._allow, text)) if self._allow is not None else []
        found = []
        for number, pattern in enumerate(self._deny, 1):
            spans = [s for s in _phrases(pattern, text) if not any(a <= s[0] and s[1] <= b for a, b in allowed)]
            if spans:
                found.append(Found(f"topic_{number}", tuple((back(a), back(b)) for a, b in spans)))
        return found or None


def _phrase(*phrases: str) -> Any:
    """The phrases as whole words: what stands beside them is no letter or digit of any script."""
    each = ["[\\s\\pZ]+".join(re2.escape(word) for word in p.casefold().split()) for p in phrases]
    edge = r"[^\pL\pN_]"
    return _compiled(f"(?:^|{edge})({'|'.join(sorted(each, key=len, reverse=True))})(?:$|{edge})")


def _phrases(pattern: Any, text: str) -> Iterator[tuple[int, int]]:
    at = 0
    while (match := pattern.search(text, at)) is not None:
        yield match.span(1)
        at = match.end(1)  # its right edge may be the next one's left


def _back(text: str, folded: str) -> Callable[[int], int]:
    """Offsets in the folded text as offsets in `text`: ß folds to ss."""
    if len(text) == len(folded):
        return int
    offsets = [i for i, c in enumerate(text) for _ in c.casefold()]
    return lambda at: offsets[at] if at < len(offsets) else len(text)


class _Tools:
    """Which tools a request may declare and an answer may call, how many, and with what arguments."""

    window = 0
    reads = False  # it looks at no text

    def __init__(self, allow: frozenset[str], deny: frozenset[str], most: float, arguments: Mapping[str, Any]) -> None:
        self._allow = allow
        self._deny = deny
        self._most = most
        self._arguments = arguments

    def look(self, seen: Seen) -> list[Found] | None:
        found = []
        if any(not self._may(name) for name in seen.tools):
            found.append(Found("tool_declared"))
        if any(not self._may(call.name) for call in seen.calls):
            found.append(Found("tool_called"))
        if len(seen.calls) > self._most:
            found.append(Found("too_many_calls"))
        if any(p.search(c.arguments) for c in seen.calls if (p := self._arguments.get(c.name)) is not None):
            found.append(Found("tool_arguments"))
        return found or None

    def _may(self, name: str) -> bool:
        return name not in self._deny and (not self._allow or name in self._allow)


class Options:
    """A guardrail's options, each taken once and with its type; what is left over is an error."""

    def __init__(self, use: str, given: Mapping[str, Any]) -> None:
        self._use = use
        self._left = dict(given)

    def error(self, what: str) -> ConfigError:
        """Says which guardrail it is about."""
        return ConfigError(f"guardrail “{self._use}”: {what}", where="policy.guards", code="bad_guardrail")

    def words(self, name: str) -> list[str]:
        """A list of texts, or one; empty where it is not given."""
        value = self._left.pop(name, [])
        value = [value] if isinstance(value, str) else value
        if not isinstance(value, list | tuple) or not all(isinstance(v, str) and v.strip() for v in value):
            raise self.error(f"{name} is a list of texts")
        return list(value)

    def number(self, name: str, default: float) -> float:
        """A number, 0 or more."""
        value = self._left.pop(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
            raise self.error(f"{name} is a number, 0 or more")
        return value

    def pairs(self, name: str) -> dict[str, str]:
        """Names and texts."""
        value = self._left.pop(name, {})
        if not isinstance(value, dict) or not all(isinstance(v, str) and v for v in value.values()):
            raise self.error(f"{name} holds names and texts")
        return {str(k): v for k, v in value.items()}

    def rest(self) -> dict[str, Any]:
        """All that was not taken."""
        left, self._left = self._left, {}
        return left

    def close(self) -> None:
        """An option that nobody took is an error."""
        if self._left:
            raise self.error(f"unknown option {', '.join(sorted(self._left))}")


def _compiled(pattern: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MEMORY
    return re2.compile(pattern, options)


def _pattern(pattern: str, options: Options) -> Any:
    try:
        compiled = _compiled(pattern)
    except re2.error as error:
        raise options.error(f"the pattern {pattern!r} is not one of RE2: {error}") from error
    if compiled.search("") is not None:
        raise options.error(f"the pattern {pattern!r} matches nothing at all: it would be found everywhere")
    return compiled


def _detected(options: Options, sight: Sight, *, secret: bool) -> _Detected:
    classes = frozenset(options.words("classes"))
    if unknown := sorted(classes - sight.classes):
        raise options.error(f"unknown class {', '.join(unknown)}: there are {', '.join(sorted(sight.classes))}")
    return _Detected(sight, classes, secret=secret)


def _prompt_size(options: Options, _sight: Sight) -> _PromptSize:
    characters, tokens = options.number("max_chars", math.inf), options.number("max_tokens", math.inf)
    if characters == tokens == math.inf:
        raise options.error("max_chars or max_tokens is needed")
    return _PromptSize(characters, tokens)


def _regex(options: Options, _sight: Sight) -> _Regex:
    given = options.pairs("named") | {f"pattern_{i}": p for i, p in enumerate(options.words("patterns"), 1)}
    if not given:
        raise options.error("patterns, or named ones, are needed")
    known = all(not set(p) & set("*+{") for p in given.values())  # each match is then no longer than its pattern
    usual = max(len(p) for p in given.values()) if known else REGEX_WINDOW
    window = min(int(options.number("window", usual)), _WINDOW_MAX)
    return _Regex({name: _pattern(p, options) for name, p in given.items()}, window)


def _topics(options: Options, _sight: Sight) -> _Topics:
    deny = options.words("deny")
    if not deny:
        raise options.error("deny is needed: a list of phrases")
    return _Topics(deny, options.words("allow"))


def _tools(options: Options, _sight: Sight) -> _Tools:
    allow, deny = frozenset(options.words("allow")), frozenset(options.words("deny"))
    arguments = {name: _pattern(p, options) for name, p in options.pairs("arguments").items()}
    return _Tools(allow, deny, options.number("max_calls", math.inf), arguments)


BUILT_IN: Mapping[str, Callable[[Options, Sight], Any]] = {
    "secrets": lambda options, sight: _detected(options, sight, secret=True),
    "pii": lambda options, sight: _detected(options, sight, secret=False),
    "prompt_size": _prompt_size,
    "topics": _topics,
    "regex": _regex,
    "tools": _tools,
}
