"""Release notes on one page of Markdown: what changed, what the gate said, how to take it back."""

from datetime import UTC, datetime

from sqlalchemy import Connection

from pilothouse.config.app import RouteConfig
from pilothouse.domain.callers import Callers
from pilothouse.domain.release import Release
from pilothouse.domain.table import env_option
from pilothouse.releases import admission
from pilothouse.releases.compatibility import compare
from pilothouse.releases.diff import PartDiff, diff
from pilothouse.releases.history import rollback_dry_run, target
from pilothouse.releases.plan import back_out, describe, dry_run, plan
from pilothouse.store.state import drills, pointers, releases, runs
from pilothouse.store.state.engine import StateStore

__all__ = ["release_notes", "rollback_dry_run"]

LONGEST_DIFF = 30  # lines of a part's text; the page shows all of it


def release_notes(
    store: StateStore,
    route: str,
    number: int,
    env: str = "prod",
    *,
    config: RouteConfig | None = None,
    callers: Callers | None = None,
) -> str:
    """The notes of release `number` against what `env` serves (or against the release before it); NotFound.

    With the route's `config` the plan stands in them as it is now, with `callers` who would not survive the change.
    """
    planned = _plan(store, config, env, number, callers) if config is not None else []
    with store.read() as conn:
        release = releases.get(conn, route, number)
        before = _before(conn, release, env)
        lines = [f"# {route}, release {number}", "", *_head(release), ""]
        if release.notes:
            lines += [release.notes.strip(), ""]
        lines += _changes(conn, before, release)
        lines += _callers(conn, before, release, callers)
        lines += ["", "## Gate", "", _gate(conn, release)]
        lines += planned
        lines += ["", "## Rollback", "", *_rollback(conn, release, env)]
        lines += _parts(conn, before, release, env)
    return "\n".join(lines) + "\n"


def _plan(store: StateStore, config: RouteConfig, env: str, number: int, callers: Callers | None) -> list[str]:
    steps = plan(store, config, env, number, callers=callers)
    results = dry_run(store, config, env, number, steps)
    told = [f"{at}. {describe(one.step)}: {one.state}" for at, one in enumerate(results, start=1)]
    carry_on = f"pilothouse release apply {config.name} {number}{env_option(env)}"
    return ["", "## Plan", "", *told, "", "```", carry_on, "```"]


def _callers(conn: Connection, before: Release | None, release: Release, callers: Callers | None) -> list[str]:
    if callers is None or before is None or before.number == release.number:
        return []
    if releases.missing(conn, before) or releases.missing(conn, release):
        return []
    found = compare(releases.manifest(conn, before), releases.manifest(conn, release), callers)
    seen = f"compared with {callers.sample:,} of {callers.total:,} requests of the last 7 days"
    if not found:
        return ["", "## Callers", "", f"Nothing that they send or are served is taken away, {seen}."]
    lines = [f"- {'**breaks** ' if one.breaks else ''}{one}" for one in found]
    return ["", "## Callers", "", f"{seen.capitalize()}:", "", *lines]


def _parts(conn: Connection, before: Release | None, release: Release, env: str) -> list[str]:
    """How each part that changed is taken back alone, once the release is live."""
    if before is None:
        return []
    changed = [name for name, address in release.parts.items() if before.parts.get(name) != address]
    if len(changed) < 2:
        return []
    commands = [f"pilothouse rollback {release.route} --part {name}{env_option(env)}" for name in changed]
    last = drills.list_rollbacks(conn, release.route, env, limit=1)
    took = last[0].propagated_ms if last else None
    timed = [] if took is None else ["", f"The last rollback in {env} was on every worker after {took:,.0f} ms."]
    return ["", "One part alone, tried on recorded inputs first:", "", "```", *commands, "```", *timed]


def _before(conn: Connection, release: Release, env: str) -> Release | None:
    live = pointers.get(conn, release.route, env)
    if live is not None and live.stable != release.number:
        return releases.get(conn, release.route, live.stable)
    return releases.get(conn, release.route, release.number - 1) if release.number > 1 else None


def _head(release: Release) -> list[str]:
    made = datetime.fromtimestamp(release.created_us / 1_000_000, tz=UTC).strftime("%Y-%m-%d %H:%M UTC")
    commit = release.vcs_commit[:12] + (" with uncommitted changes" if release.vcs_dirty else "")
    manifest = f"manifest `{release.manifest_hash[:12]}`, commit {commit or 'not recorded'}"
    lines = [f"Made {made} by {release.author or 'unknown'}, {manifest}."]
    if release.floating_alias:
        lines += ["", f"**{release.floating_alias} is not pinned to a version: the provider may change it.**"]
    return lines


def _changes(conn: Connection, before: Release | None, release: Release) -> list[str]:
    if before is None:
        return ["## Changes", "", "The first release: there is none to compare with."]
    found = diff(releases.manifest(conn, before), releases.manifest(conn, release))
    lines = [f"## Changes since release {before.number}", "", "| part | before | after | change |", "|---|---|---|---|"]
    lines += [
        f"| {one.part} | `{one.before_hash[:8]}` | `{one.after_hash[:8]}` | {one.summary.replace('|', '∣')} |"
        for one in found
    ]
    for one in found:
        if one.changed:
            lines += _part(one)
    return lines


def _part(one: PartDiff) -> list[str]:
    text = one.unified.splitlines()[2:]
    if not text:
        return ["", f"`{one.part}`: " + "; ".join(str(path) for path in one.paths)]
    more = len(text) - LONGEST_DIFF
    shown = text[:LONGEST_DIFF] + ([f"… {more} more lines"] if more > 0 else [])
    fence = "`" * max(3, max(len(run) for run in _ticks(shown)) + 1)
    return ["", f"`{one.part}`:", "", f"{fence}diff", *shown, fence]


def _ticks(lines: list[str]) -> list[str]:
    """The runs of back-ticks that begin a line of the diff: a fence must be longer than they are."""
    return ["`" * (len(body) - len(body.lstrip("`"))) for body in (line[1:].lstrip() for line in lines)] or [""]


def _gate(conn: Connection, release: Release) -> str:
    judged = runs.verdict(conn, release.route, release.number)
    if judged is None:
        return "No gate has judged this release."
    against = f" against release {judged.baseline}" if judged.baseline is not None else ""
    return f"**{judged.verdict.verdict}**{against}: {admission.sentence(judged.verdict)}."


def _rollback(conn: Connection, release: Release, env: str) -> list[str]:
    live = pointers.get(conn, release.route, env)
    lines = ["```", back_out(release.route, env), "```", ""]
    if live is None:
        return [*lines, f"Nothing is live in {env} yet: before this release there is none to go back to."]
    if release.number in (live.stable, live.canary):
        found = target(conn, live)
        return [*lines, f"Dry run: {found.reason}." if found.ok else f"**Dry run fails: {found.reason}.**"]
    missing = releases.missing(conn, releases.get(conn, release.route, live.stable))
    if missing:
        return [
            *lines,
            f"**Once live there is no way back: {', '.join(missing)} of release {live.stable} do not resolve.**",
        ]
    return [*lines, f"Dry run: once live, it goes back to release {live.stable}, all 8 parts resolve."]
