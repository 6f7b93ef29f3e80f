"""Two answers to one request, compared without saying whose is which.

An answer that is none (an error, an output that misses its schema) loses to one that is. Where both are answers a
judge is asked, if there is one, in both orders: what it prefers in one order only was its place, and is a tie.
"""

from typing import Any, Literal

import msgspec

from pilothouse.domain.evaluation import Case
from pilothouse.domain.manifest import Manifest
from pilothouse.domain.table import Entry
from pilothouse.domain.wires import Generate, GenerateReply, GenerateRequest
from pilothouse.evals import scorers

Word = Literal["first", "second", "tie"]


class Answer(msgspec.Struct, frozen=True):
    """An answer's text, and whether it is one: no error, and as its schema wants it."""

    text: str
    usable: bool = True


class Compared(msgspec.Struct, frozen=True):
    """Which was preferred, why, and what the judge was asked for it."""

    winner: Literal["canary", "stable", "tie"]
    detail: str
    asked: list[GenerateReply] = []


async def compare(
    generate: Generate, body: dict[str, Any], stable: Answer, canary: Answer, judge: Entry | None
) -> Compared:
    """The better of two answers to `body`; `judge`: the route that is asked where no rule decides."""
    if stable.usable != canary.usable:
        return Compared("canary" if canary.usable else "stable", "only one of them is an answer")
    if not canary.usable or stable.text.strip() == canary.text.strip():
        return Compared("tie", "the same" if canary.usable else "neither is an answer")
    if judge is None:
        return Compared("tie", "both are answers")
    one = await generate(_question(judge, body, stable.text, canary.text))
    other = await generate(_question(judge, body, canary.text, stable.text))
    asked, words = [one, other], (word(one.text), word(other.text))
    match words:
        case ("first", "second"):
            return Compared("stable", "the judge, in both orders", asked)
        case ("second", "first"):
            return Compared("canary", "the judge, in both orders", asked)
        case ("first", "first") | ("second", "second"):
            return Compared("tie", "the judge preferred a place, not an answer", asked)
        case _:
            return Compared("tie", "the judge did not prefer the same one in both orders", asked)


def _question(judge: Entry, body: dict[str, Any], first: str, second: str) -> GenerateRequest:
    said = msgspec.json.encode(body.get("messages") or body.get("prompt") or []).decode()
    text = (
        f"A request:\n{said}\n\nAnswer A:\n{first}\n\nAnswer B:\n{second}\n\n"
        "Which answer serves the request better? Reply with one word: A, B or TIE."
    )
    return GenerateRequest(
        route=judge.route,
        env=judge.env,
        live=judge.stable,
        body={"messages": [{"role": "user", "content": text}]},
        app=judge.app,
        tier=judge.tier,
        source="shadow",
    )


def word(text: str) -> Word:
    """What a judge's reply says: A, B, or neither."""
    said = text.strip().strip("\"'*.`()").upper()
    return "first" if said in ("A", "ANSWER A") else "second" if said in ("B", "ANSWER B") else "tie"


def fits(text: str, manifest: Manifest) -> bool:
    """Whether an output meets the release's schema; true where there is none."""
    if manifest.schema is None:
        return True
    case = Case(id="shadow")
    return scorers.build(["schema"], [case], manifest, str)["schema"](case, text).passed


def text_of(response: str) -> str:
    """The message in a kept answer: a body of chat/completions, or the assembled text of a stream."""
    try:
        body = msgspec.json.decode(response)
        return str(body["choices"][0]["message"]["content"] or "")
    except (msgspec.DecodeError, TypeError, KeyError, IndexError):
        return response
