"""The invented fleet's plans, and releases in the making: nothing behind them moves, one is being carried on."""

import msgspec
from fleet import NOW, ROUTES, manifests

from pilothouse.domain.callers import Incompatible
from pilothouse.domain.change import Actor
from pilothouse.domain.errors import BadRequest, Conflict, NotFound
from pilothouse.domain.manifest import PARTS, manifest_from_parts
from pilothouse.releases.edit import Draft, Edit
from pilothouse.server.pages.plan_shown import ApplyAsk, CarriedShown, PlanPages, PlanShown, PlanStep, Start

CARRIED: dict[tuple[str, str], CarriedShown] = {}
LOOKS = {"n": 0}  # how often a plan that is carried on was looked at: it is done after a few
MADE: list[tuple[str, Edit, str, Actor]] = []


def plan(route: str, release: int, env: str) -> PlanShown:
    if route not in ROUTES:
        raise NotFound(f"no route {route!r}")
    spec = ROUTES[route]
    carried = CARRIED.get((route, env))
    if carried is not None and not carried.ended:
        LOOKS["n"] += 1
        carried = CARRIED[route, env] = msgspec.structs.replace(
            carried, done=min(492, 82 * LOOKS["n"]), ended=LOOKS["n"] > 5
        )
    blocked = release == 12
    gate = ("done", "pass: pass rate 0.894 → 0.902, +0.008 [-0.021, +0.037], n=246")
    if blocked:
        gate = ("blocked", "block: pass rate 0.894 → 0.817, -0.077 [-0.114, -0.040], n=246")
    steps = (
        PlanStep(
            kind="check",
            text="check CR.1 T1.3 T10.1 CR.6",
            state="done",
            message="8 of 8 hashes resolve; compatible with 1,000 requests of callers; a rollback goes to release 10",
        ),
        PlanStep(
            kind="gate",
            text="gate 246 cases, margin 3 pp, detects ≥ 4.6 pp at 80 % power, about 0.31 USD, 4 min",
            state=gate[0],
            message=gate[1],
        ),
        PlanStep(
            kind="canary",
            text="canary 5 %, at least 10 min and 20 requests",
            state="ready" if spec["canary"] is None else "waiting",
            message=f"release {release} gets 5 %" if spec["canary"] is None else "held: 21 of 398 requests invalid",
        ),
        PlanStep(
            kind="promote",
            text=f"promote release {release}",
            state="blocked",
            message=f"release {release} must run as a canary in {env} first",
        ),
    )
    state = next(step.state for step in steps if step.state != "done")
    return PlanShown(
        route=route,
        env=env,
        live=spec["stable"],
        to=release,
        revision=41,
        state=state,
        steps=steps,
        back_out=f"pilothouse rollback {route}",
        carried=carried,
    )


async def start(route: str, base: int | None) -> Start:
    if route not in ROUTES:
        raise NotFound(f"no route {route!r}")
    spec = ROUTES[route]
    if base == 0:
        base = spec["stable"]
    old, new = manifests(spec["model"])
    numbers = tuple((spec["top"] - i, ("Answers shorter, two retries", "Cite every source")[i % 2]) for i in range(3))
    return Start(
        route=route,
        base=base,
        manifest=new if base == spec["top"] else old,
        newest=spec["top"],
        releases=numbers,
        stable=spec["stable"],
        models=(spec["model"], "local/smollm2"),
    )


async def draft(route: str, edit: Edit) -> Draft:
    begun = await start(route, edit.base)
    if edit.newest != begun.newest:
        raise Conflict(
            f"release {begun.newest} was made meanwhile by person:ben: shorter",
            where=f"{route}, whose newest release was {edit.newest}",
            hint="see what differs",
            code="base_moved",
        )
    if "colour" in (edit.parts.get("policy") or {}):
        raise BadRequest("there is no key 'colour'", where="parts.policy", hint="a key that nobody knows does nothing")
    plain = {name: begun.manifest.part(name) for name in PARTS}
    after = manifest_from_parts(plain | edit.parts)
    lost = Incompatible(part="schema", path="/citations", what="required field removed", n=212, of=246)
    looser = Incompatible(part="tools", path="[search]", what="tool removed", n=0, of=0)
    found = (lost, looser) if after.schema is None else ()
    return Draft(
        before=begun.manifest,
        after=after,
        against=begun.stable,
        incompatible=found,
        callers=246 if found else None,
        floating_alias=str(after.model) if "2026" not in after.model.name else "",
    )


async def create(route: str, edit: Edit, notes: str, actor: Actor) -> tuple[int, str]:
    MADE.append((route, edit, notes, actor))
    number = ROUTES[route]["top"] + 1
    return (
        number,
        f"Release {number} is made: {', '.join(sorted(edit.parts)) or 'nothing'} changed by {actor}, {notes!r}.",
    )


async def apply(asked: ApplyAsk, actor: Actor) -> str:
    if asked.revision != 41:
        raise Conflict("the pointer has moved since the plan was looked at: release 12 is stable", where=asked.route)
    LOOKS["n"] = 0
    CARRIED[asked.route, asked.env] = CarriedShown(release=asked.release, actor=str(actor), since_us=NOW, total=492)
    return "Gate: under way."


def stop(route: str, env: str) -> bool:
    found = CARRIED.get((route, env))
    if found is None or found.ended:
        return False
    CARRIED[route, env] = msgspec.structs.replace(found, stopped=True, ended=True)
    return True


def plan_pages() -> PlanPages:
    """The fixture's plans."""
    return PlanPages(plan=plan, start=start, draft=draft, create=create, apply=apply, stop=stop)
