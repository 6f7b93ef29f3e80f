"""The invented fleet's flags, for the pages' fixture."""

import math

from fleet import NOW

from pilothouse.domain.change import Actor
from pilothouse.domain.errors import Conflict, NotFound
from pilothouse.domain.flag_facts import FlagTrouble, FlagUse
from pilothouse.server.pages.flag_shown import FlagAsk, FlagBoard, FlagPages, FlagRow, RuleShown

DAY = 86_400_000_000
STALE = FlagTrouble("stale", "unchanged for 74 days and everybody gets the same")
UNUSED = FlagTrouble("unused", "nothing has read it for 90 days")


def rows(env: str) -> tuple[FlagRow, ...]:
    """Five flags, two of which somebody should look at."""
    common = {"env": env, "owner": "ana", "changed_us": NOW - 3 * DAY, "last_us": NOW - 4_000_000}
    return (
        FlagRow(
            key="checkout-copy", type="string", kind="experiment", said="short to 50 %, long to the rest",
            tags=("growth",), description="Which words stand above the button.", evaluations=48_210,
            revision=4, changed_here=True, **common,
        ),
        FlagRow(
            key="docs-prompt", type="integer", kind="release", route="docs-answer", revision=1, evaluations=12_004,
            said="live, behind 1 rule", description="Tries the prompt of release 12 on staff.", **common,
        ),
        FlagRow(
            key="new-summary", type="boolean", kind="release", said="on", evaluations=9_120, expires="2026-10-01",
            troubles=(STALE, FlagTrouble("expired", "it was to be gone by 2026-10-01")),
            **common | {"changed_us": NOW - 74 * DAY},
        ),
        FlagRow(
            key="old-banner", type="boolean", kind="release", said="off",
            troubles=(UNUSED, FlagTrouble("unowned", "nobody answers for it")),
            **common | {"owner": "", "last_us": None, "changed_us": NOW - 120 * DAY},
        ),
        FlagRow(
            key="refunds", type="boolean", kind="flow", route="ticket-triage", said="disabled, gives off",
            enabled=False, evaluations=731, off_us=NOW - 60_000_000, changed_here=True, revision=7,
            description="Whether refunds are answered by the model.", **common,
        ),
    )  # fmt: skip


def board(key: str, env: str) -> FlagBoard:
    """One of them."""
    found = {row.key: row for row in rows(env)}
    if key not in found:
        raise NotFound(f"there is no flag {key!r}", hint=f"flags: {', '.join(found)}")
    row = found[key]
    flow = row.kind == "flow"
    variants = {"on": True, "off": False} if row.type == "boolean" else {"short": "Pay", "long": "Pay now, safely"}
    named = list(variants)
    counts = {name: tuple(round(60 + 40 * math.sin(i / 3 + at)) for i in range(57)) for at, name in enumerate(named)}
    return FlagBoard(
        row=row,
        variants=variants,
        default="on" if flow else named[-1],
        rollout={} if flow else {named[0]: 0.5},
        rules=(RuleShown("staff", 'email ends with "@example.org" and app_version is a version >=2.1.0', named[0]),),
        uses=tuple(FlagUse(flag=key, env=env, variant=n, n=sum(c), last_us=NOW - 4_000_000) for n, c in counts.items()),
        others=tuple(row for other in ("dev", "staging") for row in rows(other) if row.key == key),
        part="prompt" if row.route and not flow else "",
        off="off" if flow else "",
        since_us=NOW - 7 * DAY,
        until_us=NOW,
        series=counts,
        history=(
            {"seq": 41, "ts_us": NOW - 3 * DAY, "env": env, "action": "flag.rollout", "actor": "person:ana",
             "reason": "half of them, to compare", "said": row.said, "hash": "ab" * 32},
            {"seq": 12, "ts_us": NOW - 40 * DAY, "env": env, "action": "flag.declare", "actor": "policy:files",
             "reason": "", "said": "", "hash": "cd" * 32},
        ),
    )  # fmt: skip


async def change(asked: FlagAsk, actor: Actor) -> str:
    """Says what it was asked."""
    if asked.revision is not None and asked.revision != board(asked.key, asked.env).row.revision:
        raise Conflict("the flag has changed since", hint="read it again and decide again")
    given = f" {asked.variant}" if asked.variant else ""
    share = f" to {asked.share:.0%}" if asked.share else ""
    return f"{asked.key} in {asked.env}: {asked.what}{given}{share} by {actor}, on 2 of 2 workers in 0.02 s."


def flag_pages(empty: bool) -> FlagPages:
    """The fixture's flags; none where `empty`."""
    return FlagPages(rows=(lambda _: ()) if empty else rows, board=board, change=change)
