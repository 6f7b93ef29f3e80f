"""A policy's guardrails at work. Every API's requests, answers and streams go through here, and through nothing else.

A text in which nothing is found goes on as the same object. What happened is in `hits`, never what was found. A
guardrail that fails blocks, unless its policy says `fail: open`.
"""

import asyncio
import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import structlog

from pilothouse.domain.errors import ConfigError, GuardrailBlocked
from pilothouse.domain.policy import Guard
from pilothouse.domain.record import GuardHit
from pilothouse.domain.wires import Detect
from pilothouse.gateway.guards import plugin, walk
from pilothouse.gateway.guards.builtin import BUILT_IN, Options, Sight
from pilothouse.gateway.guards.protocol import At, Found, Seen

log = structlog.get_logger("pilothouse.gateway")

TIMEOUT_S = 2.0  # of an app's own async guardrail, unless its option `timeout` says otherwise
PLUGIN_WINDOW = 256  # characters held back for one in a stream, unless its option `window` says otherwise
_KIND = re.compile(r"[^a-z0-9_.-]+")
_KIND_MAX = 40
Hits = list[GuardHit]


class Rail(msgspec.Struct, frozen=True):
    """One guardrail, ready. `guard` holds its `look`, and `hold` where it has one."""

    rule: Guard
    guard: Any
    window: int = 0  # characters of its longest finding
    timeout_s: float | None = None  # None: it never waits
    whole: bool = False  # it is shown all texts of a request at once
    reads: bool = True  # it looks at texts, not only at tools

    async def look(self, seen: Seen) -> Sequence[Found]:
        """What it finds. Raises whatever a plugin may raise, and TimeoutError."""
        found = self.guard.look(seen)
        if self.timeout_s is not None and inspect.isawaitable(found):
            async with asyncio.timeout(self.timeout_s):
                found = await found
        if not found:
            return ()
        listed = [found] if isinstance(found, Found) else found
        if not isinstance(listed, list | tuple) or not all(isinstance(f, Found) for f in listed):
            raise TypeError("a guardrail returns Found, a list of them, or None")
        if any(not 0 <= start < end <= len(seen.text) for f in listed for start, end in f.spans):
            raise ValueError("a span lies outside of the text")
        return listed

    def hold(self, text: str) -> int:
        """How many characters at the end of `text` it has yet to see the end of."""
        own = getattr(self.guard, "hold", None)
        return int(own(text)) if own is not None else min(self.window + 1, len(text)) if self.window else 0


class _Function:
    """An app's own function as a guardrail."""

    def __init__(self, look: Any) -> None:
        self.look = look


class _Broken:
    """A guardrail that could not be made: it fails whenever it is asked."""

    def __init__(self, error: ConfigError) -> None:
        self._error = error

    def look(self, _seen: Seen) -> None:
        """Raises."""
        raise self._error


class Mask(msgspec.Struct, frozen=True):
    """Characters `start` to `end` are to become `stand_in`."""

    start: int
    end: int
    stand_in: str


class Guards:
    """The guardrails of one policy; shared by all its requests."""

    def __init__(self, rails: Iterable[Rail]) -> None:
        every = tuple(rails)
        self.input_rails = tuple(r for r in every if "input" in r.rule.at)
        self.output_rails = tuple(r for r in every if "output" in r.rule.at)

    @classmethod
    def compile(
        cls, rules: Iterable[Guard], detect: Detect, app_dir: Path | None = None, *, strict: bool = True
    ) -> "Guards":
        """Raises ConfigError where one cannot be made; without `strict` that one fails at each use instead."""
        sight = Sight(detect)
        return cls([_rail(rule, sight, app_dir, strict=strict) for rule in rules])

    async def input(self, body: Any, hits: Hits, route: str = "") -> Any:
        """What may be sent: `body` itself, or a copy with masks. Raises GuardrailBlocked.

        `body`: what the client says, as JSON values: a whole request body, or its messages and variables.
        """
        if not self.input_rails:
            return body
        names = walk.tool_names(body)
        if names:
            await judge(self.input_rails, Seen("", "input", route, tools=names), hits)
        return await _walked(self.input_rails, "input", body, hits, route)

    async def output(self, answer: Any, hits: Hits, route: str = "") -> Any:
        """What may be delivered: `answer` (a whole answer's body, as JSON values) itself, or a copy with masks."""
        if not self.output_rails:
            return answer
        calls = tuple(walk.tool_calls(answer))
        if calls:
            await judge(self.output_rails, Seen("", "output", route, calls=calls), hits)
        return without_logprobs(await _walked(self.output_rails, "output", answer, hits, route), answer)

    async def text(self, text: str, at: At, hits: Hits, route: str = "") -> str:
        """One text, judged and masked."""
        rails = self.input_rails if at == "input" else self.output_rails
        return masked(text, await judge(rails, Seen(text, at, route), hits))


class Book:
    """The compiled guardrails of a worker, by the hash of the policy part that they are from."""

    def __init__(self, detect: Detect, app_dir: Path | None = None) -> None:
        self._detect = detect
        self._app_dir = app_dir
        self._kept: dict[str, Guards] = {}

    def of(self, policy_hash: str, rules: tuple[Guard, ...]) -> Guards | None:
        """None where the policy has none."""
        if not rules:
            return None
        kept = self._kept.get(policy_hash)
        if kept is None:
            if len(self._kept) >= 256:
                self._kept.clear()
            kept = self._kept[policy_hash] = Guards.compile(rules, self._detect, self._app_dir, strict=False)
        return kept


def _rail(rule: Guard, sight: Sight, app_dir: Path | None, *, strict: bool) -> Rail:
    try:
        return _built_in(rule, sight) if ":" not in rule.use else _own(rule, app_dir)
    except ConfigError as error:
        if strict:
            raise
        return Rail(rule, _Broken(error))


def _built_in(rule: Guard, sight: Sight) -> Rail:
    options = Options(rule.use, rule.options)
    make = BUILT_IN.get(rule.use)
    if make is None:
        raise options.error(f"there is none of this name: use {', '.join(BUILT_IN)}, or module:function")
    guard = make(options, sight)
    options.close()
    whole = getattr(guard, "whole", False)
    if rule.action == "mask" and guard.window == 0:
        raise options.error("it has nothing to mask: use block or flag")
    if whole and rule.at == ("output",):
        raise options.error("it looks at requests: at: [input]")
    return Rail(rule, guard, guard.window, whole=whole, reads=getattr(guard, "reads", True))


def _own(rule: Guard, app_dir: Path | None) -> Rail:
    options = Options(rule.use, rule.options)
    timeout_s, window = options.number("timeout", TIMEOUT_S), options.number("window", PLUGIN_WINDOW)
    look, waits = plugin.resolve(rule.use, options.rest(), app_dir)
    return Rail(rule, _Function(look), int(window), timeout_s if waits else None)


async def _walked(rails: tuple[Rail, ...], at: At, value: Any, hits: Hits, route: str) -> Any:
    """Every text in `value`, judged; what is JSON inside a string is judged as what it says."""
    changes: dict[walk.Path, str] = {}
    said: list[str] = []
    for path, text, role in walk.texts(value):
        said.append(text)
        inside = walk.inner(text) if path[-1:] in _JSON_FIELDS else None
        if inside is not None:
            clean = await _walked(tuple(r for r in rails if not r.whole), at, inside, hits, route)
            if clean is not inside:
                changes[path] = walk.outer(clean)
        elif masks := await judge(rails, Seen(text, at, route, role), hits):
            changes[path] = masked(text, masks)
    if any(r.whole for r in rails) and at == "input":
        await judge([r for r in rails if r.whole], Seen("\n".join(said), at, route), hits, whole=True)
    return walk.replaced(value, changes)


_JSON_FIELDS = (("arguments",), ("partial_json",))  # texts that are JSON by their API


async def judge(rails: Iterable[Rail], seen: Seen, hits: Hits, *, whole: bool = False) -> list[Mask]:
    """All masks for `seen`, in order. Raises GuardrailBlocked."""
    masks: list[Mask] = []
    for rail in rails:
        if rail.whole is not whole or not (rail.reads or seen.tools or seen.calls):
            continue
        for found in await findings(rail, seen, hits):
            masks += settle(rail, seen.at, found, found.spans, hits)
    return merged(masks)


async def findings(rail: Rail, seen: Seen, hits: Hits) -> Sequence[Found]:
    """What this guardrail finds; its own failure blocks, or is noted where policy is open."""
    try:
        return await rail.look(seen)
    except Exception as error:  # noqa: BLE001  # plugin call: whatever a guardrail raises is its failure, recorded
        # Its name alone: what it says may quote the text.
        log.warning("a guardrail failed", guardrail=rail.rule.use, at=seen.at, error=type(error).__name__)
        _note(hits, GuardHit(rail.rule.use, seen.at, "error", type(error).__name__))
        if rail.rule.fail == "open":
            return ()
        raise GuardrailBlocked(
            f"the guardrail “{rail.rule.use}” failed ({type(error).__name__}), and without its verdict nothing passes",
            where=seen.at,
            hint="see the gateway's log; `fail: open` in the policy lets requests pass without it",
            output=seen.at == "output",
            code="guardrail_failed",
        ) from None  # the failure may quote the text


def settle(rail: Rail, at: At, found: Found, spans: Iterable[tuple[int, int]], hits: Hits) -> list[Mask]:
    """Note a finding and do what the policy says: masks, or GuardrailBlocked. What cannot be masked is blocked."""
    kind = _KIND.sub("_", found.kind.lower())[:_KIND_MAX] or "found"
    action = rail.rule.action
    if action == "mask" and not found.spans:
        action = "block"
    _note(hits, GuardHit(rail.rule.use, at, action, kind))
    if action == "flag":
        return []
    if action == "mask":
        return [Mask(start, end, f"[{kind.upper()}]") for start, end in spans]
    raise GuardrailBlocked(
        f"the guardrail “{rail.rule.use}” refused the {at}: {kind}",
        where=at,
        hint="change the request" if at == "input" else "ask in another way",
        output=at == "output",
    )


def _note(hits: Hits, hit: GuardHit) -> None:
    if hit not in hits:
        hits.append(hit)


def merged(masks: list[Mask]) -> list[Mask]:
    """In order; of those that overlap, one over all of them with the name of the first."""
    if len(masks) < 2:
        return masks
    out: list[Mask] = []
    for mask in sorted(masks, key=lambda m: (m.start, -m.end)):
        if out and mask.start < out[-1].end:
            last = out[-1]
            out[-1] = Mask(last.start, max(last.end, mask.end), last.stand_in)
        else:
            out.append(mask)
    return out


def masked(text: str, masks: Iterable[Mask]) -> str:
    """`text` with its masks; itself where there are none."""
    parts, at = [], 0
    for mask in masks:
        parts += [text[at : mask.start], mask.stand_in]
        at = mask.end
    return "".join([*parts, text[at:]]) if parts else text


def without_logprobs(answer: Any, before: Any) -> Any:
    """An answer that was masked says its tokens nowhere else."""
    if answer is before or not isinstance(answer, Mapping) or not isinstance(answer.get("choices"), list):
        return answer
    choices = [{k: v for k, v in c.items() if k != "logprobs"} if isinstance(c, dict) else c for c in answer["choices"]]
    return {**answer, "choices": choices}
