"""A text that arrives in pieces, let go only as far as every guardrail has seen all that could be found in it.

A finding is judged once nothing that still comes can change it; until then it is held from its first character, so
that no part of it leaves before the verdict, wherever the pieces are cut.
"""

from pilothouse.domain.errors import GuardrailBlocked
from pilothouse.domain.record import GuardHit
from pilothouse.gateway.guards.engine import Hits, Mask, Rail, findings, merged, settle
from pilothouse.gateway.guards.protocol import Found, Seen

CONTEXT = 512  # characters let go before that are still shown, since what stands before tells a password
HELD_MAX = 65_536  # characters; a finding that is still growing then blocks


class Holdback:
    """One text of a stream. `rails`: those that block or mask. `hits` is filled in."""

    def __init__(self, rails: tuple[Rail, ...], hits: Hits, route: str = "") -> None:
        readers = [r for r in rails if r.reads and not r.whole]
        self._rails = tuple(r for r in readers if r.rule.action != "flag")
        self._flags = tuple(r for r in readers if r.rule.action == "flag")
        self._hits = hits
        self._route = route
        self._context = CONTEXT + max((r.window for r in self._rails), default=0)
        self._text = ""  # some of what was let go, and all that is held
        self._gone = 0  # characters of it that were let go
        self._all: list[str] = []  # for guardrails that only flag: they look once, at the end

    async def feed(self, piece: str) -> str:
        """More of the text: what may be let go now. Raises GuardrailBlocked."""
        if self._flags:
            self._all.append(piece)
        if not self._rails or not piece:
            return piece if not self._rails else ""
        self._text += piece
        return await self._look(end=False)

    async def end(self) -> str:
        """The text is complete: what is left of it. Raises GuardrailBlocked."""
        rest = await self._look(end=True) if self._rails else ""
        whole, self._all = "".join(self._all), []
        for rail in self._flags if whole else ():
            seen = Seen(whole, "output", self._route)
            for found in await findings(rail, seen, self._hits):
                settle(rail, "output", found, found.spans, self._hits)
        return rest

    async def _look(self, *, end: bool) -> str:
        text = self._text
        size = len(text)
        sure = size if end else size - max(min(rail.hold(text), size) for rail in self._rails)
        if sure <= self._gone and size - self._gone <= HELD_MAX and not end:
            return ""
        seen = Seen(text, "output", self._route)
        found = [(rail, one) for rail in self._rails for one in await findings(rail, seen, self._hits)]
        to = _settled_to(self._gone, max(sure, self._gone), [span for _, one in found for span in one.spans])
        if size - to > HELD_MAX:
            raise self._too_long()
        masks = merged([m for rail, one in found for m in self._settled(rail, one, to)])
        out = _between(text, self._gone, to, masks)
        self._gone = to
        self._forget()
        return out

    def _too_long(self) -> GuardrailBlocked:
        self._hits.append(GuardHit("stream", "output", "block", "too_long"))
        return GuardrailBlocked(
            f"a finding in the stream is longer than {HELD_MAX} characters: without its end there is no verdict",
            where="output",
            output=True,
        )

    def _settled(self, rail: Rail, one: Found, to: int) -> list[Mask]:
        """What is to be done about the part of a finding that can no longer change."""
        if not one.spans:
            return settle(rail, "output", one, (), self._hits)
        spans = [(s, e) for s, e in one.spans if self._gone < e <= to]
        return settle(rail, "output", one, spans, self._hits) if spans else []

    def _forget(self) -> None:
        """Keep what may tell later findings, from the beginning of a word."""
        spare = self._gone - self._context
        if spare <= self._context:  # not at each piece
            return
        cut = next((i for i in range(spare, min(spare + CONTEXT // 2, self._gone)) if self._text[i].isspace()), spare)
        self._text = self._text[cut:]
        self._gone -= cut


def _settled_to(gone: int, to: int, spans: list[tuple[int, int]]) -> int:
    """Back from `to` to the first character of whatever may still grow; not behind what is `gone`."""
    while to > gone:
        first = min((start for start, end in spans if start < to < end), default=to)
        if first == to:
            break
        to = max(first, gone)
    return to


def _between(text: str, start: int, end: int, masks: list[Mask]) -> str:
    """The characters from `start` to `end` with their masks; a mask that began before `start` covers its rest."""
    parts, at = [], start
    for mask in masks:
        if mask.end <= at or mask.start >= end:
            continue
        parts += [text[at : max(mask.start, at)], mask.stand_in]
        at = mask.end
    return "".join([*parts, text[at:end]])
