"""The runbook of a route: what to do now, with the ids of now in its commands. Made anew whenever it is asked for."""

from collections.abc import Sequence

from pilothouse.config.app import AppConfig, RouteConfig
from pilothouse.domain.policy import Fallback
from pilothouse.domain.release_facts import Drill, ReleaseFacts
from pilothouse.domain.table import env_option

DAY_US = 86_400_000_000


def runbook(config: AppConfig, route: RouteConfig, facts: ReleaseFacts, drills: Sequence[Drill], now_us: int) -> str:
    """One page of Markdown. Every command can be pasted as it stands."""
    lines = [f"# Runbook of {route.name} in {facts.env}", "", *_who(config, route), ""]
    lines += ["## Something is wrong since the last release", "", *_back(route, facts), ""]
    lines += ["## The model or its provider is the trouble", "", *_models(route, facts, now_us), ""]
    lines += ["## Nothing may be answered", "", *_off(route, facts), ""]
    lines += ["## What happens by itself", "", *_ways(route.manifest.policy.fallback), ""]
    lines += ["## When this was last practised", "", *_drills(route, facts.env, drills, now_us)]
    return "\n".join(lines) + "\n"


def _who(config: AppConfig, route: RouteConfig) -> list[str]:
    def named(ident: str) -> str:
        person = config.people.get(ident)
        if person is None:
            return "nobody"
        told = f", told by {', '.join(url.partition(':')[0] for url in person.notify)}" if person.notify else ""
        return f"{person.name}{told}"

    return [f"Owner: {named(route.owner)}. Backup: {named(route.backup)}. Tier: {route.tier}."]


def _back(route: RouteConfig, facts: ReleaseFacts) -> list[str]:
    if facts.current is None:
        return [f"{route.name} is not live in {facts.env}."]
    env, live = env_option(facts.env), facts.current
    commit = live.vcs_commit[:12] or "unknown"
    lines = [f"Live: release {live.number}, manifest `{live.manifest_hash[:12]}`, commit {commit}."]
    if facts.canary is not None:
        lines += [f"Canary: release {facts.canary.number} at {facts.canary_share:.0%}; the command below ends it."]
    if facts.rollback.ok:
        lines += ["", "```", f"pilothouse rollback {route.name}{env}    # {facts.rollback.reason}", "```"]
    else:
        lines += ["", f"There is no way back: {facts.rollback.reason}."]
    before = facts.rollback.target or max(1, live.number - 1)
    lines += ["", "What changed, and who changed it:", "", "```"]
    lines += [
        f"pilothouse release diff {route.name} {before} {live.number}",
        f"pilothouse release history {route.name}",
        "```",
    ]
    return lines


def _models(route: RouteConfig, facts: ReleaseFacts, now_us: int) -> list[str]:
    own = str(route.manifest.model)
    others = [model for model in dict.fromkeys([*map(str, route.alternates), *facts.alternate_models]) if model != own]
    if not others:
        return [f"No other model than {own} is named: add `alternates:` to the route."]
    now = f"Served by {facts.pinned_model} now." if facts.pinned_model else f"Served by {own}."
    known = {one.model: one for one in facts.alternates}
    lines = [now, ""]
    for model in others:
        wrong = known[model].objections(now_us) if model in known else ["never qualified"]
        lines.append(f"- {model}: {', '.join(wrong) if wrong else 'fit to be switched to'}")
    env = env_option(facts.env)
    back = [f"pilothouse model back {route.name}{env}"] if facts.pinned_model else []
    switch = f'pilothouse model switch {route.name} {others[0]}{env} --reason "…"'
    return [*lines, "", "```", switch, *back, f"pilothouse model qualify {route.name}", "```"]


def _off(route: RouteConfig, facts: ReleaseFacts) -> list[str]:
    verb, state = ("enable", "Switched off now.") if facts.disabled else ("disable", "The route is on.")
    command = f'pilothouse route {verb} {route.name}{env_option(facts.env)} --reason "…"'
    return [state, "", "```", command, "```"]


def _ways(steps: Sequence[Fallback]) -> list[str]:
    if not steps:
        return ["Nothing: no fallback is declared."]
    return [
        f"{n}. on {', '.join(step.on)}: {step.model or step.way}, outcome {step.outcome}"
        for n, step in enumerate(steps, 1)
    ]


def _drills(route: RouteConfig, env: str, drills: Sequence[Drill], now_us: int) -> list[str]:
    newest: dict[str, Drill] = {}
    for drill in drills:
        if drill.env == env and (drill.kind not in newest or drill.ts_us > newest[drill.kind].ts_us):
            newest[drill.kind] = drill
    if not newest:
        return [f"Never. Begin with `pilothouse drill rollback {route.name}`."]
    rows = [
        f"| {kind} | {(now_us - drill.ts_us) / DAY_US:.1f} d ago | {'as promised' if drill.ok else '**failed**'} |"
        for kind, drill in sorted(newest.items())
    ]
    return ["| drill | when | how |", "|---|---|---|", *rows]
