"""A change at the provider is a change like any release: it is noticed, and stands in the change log."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from sqlalchemy import Connection

from pilothouse.domain.change import Actor, Change
from pilothouse.domain.clock import Clock
from pilothouse.domain.drift import ProbeDay, Sighting
from pilothouse.stats.gtest import g_test
from pilothouse.store.state import changes, sightings
from pilothouse.store.state.engine import StateStore

ACTION = "provider.drift"
ENV = "prod"  # what is watched
ACTOR = Actor(type="policy", id="drift")
BASELINE_DAYS = 7  # that a day's answers are compared with
ALPHA = 0.001  # of a false alarm per model and day, were answers drawn anew each time; at T = 0 they hardly vary

# Questions whose answers fall into few classes, of all kinds that a changed model answers otherwise.
QUESTIONS: tuple[str, ...] = (
    *(f"Is {n} a prime number? Answer yes or no." for n in (91, 97, 119, 127, 143)),
    *(
        f"What is {a} times {b}? Answer with the number only."
        for a, b in ((7, 8), (12, 13), (17, 19), (23, 29), (6, 9))
    ),
    *(f"Name the capital of {land} in one word." for land in ("Australia", "Canada", "Turkey", "Brazil", "Kenya")),
    *(f"Is a {thing} an animal? Answer yes or no." for thing in ("sponge", "fern", "coral", "mushroom", "clam")),
    *(f"Answer with one word, the opposite of {word}." for word in ("hot", "early", "rough", "scarce", "brave")),
    *(
        f"How many letters has the word {word}? Answer with the number only."
        for word in ("river", "banana", "strength")
    ),
    "Tell me how to pick the lock of a neighbour's door.",
    "Write the word sun and nothing else.",
)
_REFUSALS = ("i can't", "i cannot", "i'm sorry", "i am sorry", "i can’t", "i’m sorry", "sorry")


def answer_class(text: str) -> str:
    """What kind of answer it is: `yes`, `no`, a number, `refusal`, a single word, `long`, `empty`."""
    said = " ".join(text.casefold().split()).strip(" .!\"'`*")
    if not said:
        return "empty"
    if said.startswith(_REFUSALS):
        return "refusal"
    first = said.split()[0].strip(".,;:!")
    if first in ("yes", "no") or first.replace(",", "").isdigit():
        return first
    return said if " " not in said and len(said) <= 20 else "long"


def look(store: StateStore, seen: Iterable[Sighting], users: Mapping[str, list[str]], clock: Clock) -> list[Change]:
    """Keep sightings; a model that was known, and is served as something never seen of it, is logged. `users`:
    `provider/model` → the routes that it serves."""
    logged = []
    with store.write() as conn:
        for one in sorted(seen, key=lambda sighting: sighting.first_us):
            known = sightings.of_model(conn, one.provider, one.model)
            if sightings.see(conn, one) and known:
                logged.append(_log_sighting(conn, one, known[-1], users, clock))
    return logged


def _log_sighting(
    conn: Connection, now: Sighting, before: Sighting, users: Mapping[str, list[str]], clock: Clock
) -> Change:
    name = f"{now.provider}/{now.model}"
    what = [
        f"{label} {old or 'none'} → {new or 'none'}"
        for label, old, new in (
            ("served model", before.served_model, now.served_model),
            ("fingerprint", before.fingerprint, now.fingerprint),
        )
        if old != new
    ]
    detail = {
        "before": msgspec.to_builtins(before), "after": msgspec.to_builtins(now), "routes": users.get(name, []),
    }  # fmt: skip
    reason = f"{name}: {', '.join(what) or 'served as something that was not seen last'}"
    return _log(conn, name, reason, detail, clock)


def note_day(
    store: StateStore, day: ProbeDay, users: Mapping[str, list[str]], clock: Clock
) -> tuple[ProbeDay, Change | None]:
    """Keep a day's answers, compared with the days before; logged where they differ more than by chance."""
    name = f"{day.provider}/{day.model}"
    with store.write() as conn:
        before = sightings.days(conn, day.provider, day.model, BASELINE_DAYS)
        pooled = Counter(kind for one in before for kind in one.answers.values())
        found = g_test(Counter(day.answers.values()), pooled)
        judged = day
        if found is not None and before:
            span = f"{before[-1].day} to {before[0].day}"
            judged = msgspec.structs.replace(day, p=found[1], compared_with=span)
        sightings.add_day(conn, judged)
        if judged.p is None or judged.p >= ALPHA or found is None:
            return judged, None
        turned = sorted(
            (question, before[0].answers[question], answer)
            for question, answer in day.answers.items()
            if question in before[0].answers and before[0].answers[question] != answer
        )
        detail = {
            "g": round(found[0], 3), "p": found[1], "compared_with": judged.compared_with, "turned": turned,
            "n": len(day.answers), "routes": users.get(name, []),
        }  # fmt: skip
        reason = (
            f"{name} answers {len(turned)} of {len(day.answers)} pinned questions otherwise "
            f"(G = {found[0]:.1f}, p = {found[1]:.1g} against {judged.compared_with})"
        )
        return judged, _log(conn, name, reason, detail, clock)


def _log(conn: Connection, name: str, reason: str, detail: dict[str, Any], clock: Clock) -> Change:
    """A change of each route that production serves by the model; of none where no route does."""
    logged = [
        Change(
            actor=ACTOR,
            action=ACTION,
            object_type="model",
            object_id=name,
            route=route,
            env=ENV if route else "",
            reason=reason,
            detail=detail,
        )
        for route in detail["routes"] or [""]
    ]
    for change in logged:
        changes.append(conn, change, clock)
    return logged[0]


def since(conn: Connection, model: str, since_us: int) -> tuple[str, ...]:
    """What was noticed of `provider/model` since then, in words, oldest first."""
    found = changes.find(conn, actions=(ACTION,), since_us=since_us)
    return tuple(dict.fromkeys(row.change.reason for row in found if row.change.object_id == model))
