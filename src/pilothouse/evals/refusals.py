"""Whether an answer declines, by the phrases with which assistants do."""

import re

_NOT = r"(?:do not|don't|does not|doesn't|did not|didn't|cannot|can not|can't|could not|couldn't|will not|won't)"
_ABLE = r"(?:am|are|is|was|'m|'re)? ?(?:not able|unable) to"
_SAYS = r"(?:answer|say|tell|find|know|see|assist|provide|mention|cover|contain|include|describe|address|specify)"
_HAVE = r"have (?:any |enough |that |this |the )?(?:information|answer|details?|data|access|context)"
_GIVEN = r"(?:mentioned|covered|documented|described|contained|included|provided|in the)"
_DECLINES = re.compile(
    rf"\b{_NOT} (?:\w+ )?{_SAYS}\b"
    rf"|\b(?:i|we) {_NOT} (?:\w+ )?help\b"
    rf"|\b{_NOT} be (?:answered|found|determined|known)\b"
    rf"|{_ABLE} {_SAYS}\b"
    rf"|\b(?:i|we) {_NOT} (?:\w+ )?{_HAVE}\b"
    rf"|\b(?:is|are|was) ?(?:not|n't) (?:\w+ )?{_GIVEN}\b"
    r"|\bno (?:\w+ )?(?:information|answer|mention|documentation)\b"
    r"|\b(?:i'm|i am|we're|we are) (?:\w+ )?(?:not sure|sorry, but|afraid)\b"
    r"|\boutside (?:of )?(?:the|my|our) (?:scope|documentation|knowledge)\b",
    re.IGNORECASE,
)


def declines(output: str) -> bool:
    """True where the output holds a phrase of declining; curly apostrophes and runs of white space aside."""
    return _DECLINES.search(" ".join(output.replace("’", "'").split())) is not None
