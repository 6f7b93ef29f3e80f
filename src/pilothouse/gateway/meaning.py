"""What of two texts must agree before one may be answered with the other's answer, however alike they sound."""

import re
from collections.abc import Callable

import msgspec


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*|\d+(?:[.,:/-]\d+)*|[$€£%+*/=<>^-]", re.UNICODE)
_QUOTED = re.compile(r"“([^”]*)”|\"([^\"]*)\"|`([^`]*)`|(?<!\w)'([^']+)'(?!\w)|«([^»]*)»")
_SENTENCE = re.compile(r"(?:^|[.!?:;\n]\s*)$")
_NEVER = _words(
    """
    not no never none without except unless cannot neither nor nobody nothing only instead stop avoid
    """
)  # negations: as many in one text as in the other
_DIRECTION = _words(
    """
    from to into onto than before after over under versus vs between minus by above below
    """
)
_EMPTY = _words(
    """
    a an the i me my mine we us our you your it its is are am be been being do does doing have has having can
    could would please kindly hi hello hey thanks thank and or so just also then there this that these those of
    for in on at with about as if how what way possible want wants need needs help know tell explain give show let
    make get like try trying go going ok okay much appreciated wondering wonder anyone someone able us some any
    """
)  # words without which a question asks the same
_CLOSED = _words(
    """
    january february march april may june july august september october november december monday tuesday wednesday
    thursday friday saturday sunday mon tue wed thu fri sat sun today tomorrow yesterday husband wife brother
    sister mother father son daughter boy girl man woman male female he she his her they their who when where why
    which was were will did should must many few more less most least first last north south east west one two
    three four five six seven eight nine ten all every each morning evening night day week month year red green
    blue black white
    """
)  # words that have no like
_STARTERS = (
    _EMPTY
    | _NEVER
    | _CLOSED
    | _words(
        """
    list write find describe compare summarize summarise translate convert create delete remove update change
    reset cancel order buy check track return send open close where who when why which should did was were will
    may forgot lost recommend suggest define calculate count name add set turn enable disable play call book
    """
    )
)  # capitalised for their place, not as names
_PREFIX = 3  # letters
_ENDINGS = _words("s es d ed e ing y ies ied") | {""}
_SUFFIX = 4  # letters; words that end alike but begin otherwise are opposites: import and export


class Said(msgspec.Struct, frozen=True):
    """What of a text must agree. `words` in order, without the empty ones."""

    numbers: tuple[str, ...]
    names: tuple[str, ...]
    quoted: tuple[str, ...]
    closed: tuple[str, ...]
    never: int
    directed: tuple[str, ...]
    words: tuple[str, ...]


def said(text: str) -> Said:
    """The text's own facts."""
    numbers, names, closed, directed, words = [], [], [], [], []
    never = 0
    for match in _WORD.finditer(text):
        word = match[0]
        low = word.casefold().replace("’", "'")
        if not word[0].isalpha():
            numbers.append(word)
        elif low in _NEVER or low.endswith("n't"):
            never += 1
        elif _is_name(text, match.start(), word, low):
            names.append(low.removesuffix("'s"))
        elif low in _DIRECTION:
            directed.append(low)
        elif low in _CLOSED:
            closed.append(low)
        elif low not in _EMPTY:
            words.append(low)
    quoted = tuple(next((g for g in m.groups() if g is not None), "").casefold() for m in _QUOTED.finditer(text))
    return Said(tuple(numbers), tuple(names), quoted, tuple(sorted(closed)), never, tuple(directed), tuple(words))


def _is_name(text: str, at: int, word: str, low: str) -> bool:
    """Capitalised, and not only because a sentence begins; abbreviations are names too."""
    if not word[0].isupper() or low == "i" or low.startswith("i'"):
        return False
    begins = _SENTENCE.search(text[max(0, at - 4) : at]) is not None
    return not begins or (low not in _STARTERS and len(word) > 1)


def agree(one: Said, other: Said, like: Callable[[str, str], bool]) -> bool:
    """Whether two texts that sound alike ask the same."""
    hard = ("numbers", "names", "quoted", "closed", "never", "directed")
    if any(getattr(one, field) != getattr(other, field) for field in hard):
        return False
    shared = set(one.words) & set(other.words)  # who is first matters: a dog bites a man
    if [w for w in one.words if w in shared] != [w for w in other.words if w in shared]:
        return False
    return _covered(one.words, other.words, like) and _covered(other.words, one.words, like)


def _covered(words: tuple[str, ...], by: tuple[str, ...], like: Callable[[str, str], bool]) -> bool:
    return all(word in by or any(like(word, candidate) for candidate in by) for word in words)


def opposed(one: str, other: str) -> bool:
    """Words that are spelt alike and are not the same word: legal and illegal, employer and employee.

    Forms of one word (reset, resetting) are not meant.
    """
    if one[-_SUFFIX:] == other[-_SUFFIX:] and one[:1] != other[:1]:
        return True
    same = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return same >= _PREFIX and not (_is_ending(one, same) and _is_ending(other, same))


def _is_ending(word: str, at: int) -> bool:
    rest = word[at:]
    return rest in _ENDINGS or (rest[:1] == word[at - 1] and rest[1:] in _ENDINGS)
