"""What the releases room can say about a route in an environment; the review judges it."""

import msgspec
from sqlalchemy import Connection

from pilothouse.config.app import AppConfig
from pilothouse.domain.clock import Clock
from pilothouse.domain.manifest import PARTS, Manifest
from pilothouse.domain.release import Pointer, Release
from pilothouse.domain.release_facts import DryRun, ReleaseFacts, StagedChanges
from pilothouse.releases import drift, history, integrity
from pilothouse.store.state import changes, drills, pointers, releases, runs
from pilothouse.store.state.engine import StateStore

WINDOW_US = 90 * 86_400 * 1_000_000
DRIFT_WINDOW_US = 7 * 86_400 * 1_000_000
_OWN_KINDS = ("local", "scripted")


def gather(store: StateStore, config: AppConfig, route: str, env: str, clock: Clock) -> ReleaseFacts:
    """Everything about `route` in `env`, measured now: every part of the live release is read and hashed again."""
    with store.read() as conn:
        pointer = pointers.get(conn, route, env)
        if pointer is None:
            return ReleaseFacts(
                route=route,
                env=env,
                measured_us=clock.now_us(),
                rollback=DryRun(ok=False, reason=f"{route} is not live in {env}"),
                gated=_gated(config, route),
            )
        return _live(conn, config, pointer, clock)


def _live(conn: Connection, config: AppConfig, pointer: Pointer, clock: Clock) -> ReleaseFacts:
    route, env = pointer.route, pointer.env
    current = releases.get(conn, route, pointer.stable)
    missing = releases.missing(conn, current)
    judged = runs.verdict(conn, route, current.number)
    rolled_back = drills.list_rollbacks(conn, route, env, limit=1)
    practised = drills.list_drills(conn, route, env, kind="rollback")
    facts = ReleaseFacts(
        route=route,
        env=env,
        measured_us=clock.now_us(),
        current=current,
        canary=releases.get(conn, route, pointer.canary) if pointer.canary is not None else None,
        canary_share=pointer.share,
        pinned_model=pointer.pinned_model,
        disabled=pointer.disabled,
        hashes_resolvable=len(PARTS) - len(missing),
        hashes_missing=missing,
        vcs_commit=current.vcs_commit,
        vcs_dirty=current.vcs_dirty,
        rollback=history.target(conn, pointer),
        last_rollback=rolled_back[0] if rolled_back else None,
        last_drill=practised[0] if practised else None,
        changes_90d=_changes(conn, pointer, clock.now_us() - WINDOW_US),
        direct_edits=len(
            changes.find(conn, route=route, env=env, actions=(integrity.ACTION,), since_us=clock.now_us() - WINDOW_US)
        ),
        gated=_gated(config, route),
        verdict=judged.verdict if judged else None,
        verdict_baseline=judged.baseline if judged else None,
        verdict_us=judged.created_us if judged else None,
    )
    if missing:
        return facts
    manifest = releases.manifest(conn, current)
    model = pointer.pinned_model or str(manifest.model)
    facts = msgspec.structs.replace(facts, provider_changes=drift.since(conn, model, clock.now_us() - DRIFT_WINDOW_US))
    return _with_manifest(facts, config, current, manifest)


def _with_manifest(facts: ReleaseFacts, config: AppConfig, current: Release, manifest: Manifest) -> ReleaseFacts:
    route = config.routes.get(facts.route)
    others = [str(step.model) for step in manifest.policy.fallback if step.model is not None]
    others += [str(model) for model in route.alternates] if route else []
    provider = config.providers.get(manifest.model.provider)
    # A model that Pilothouse serves itself changes only when somebody here installs another.
    own = provider is not None and provider.kind in _OWN_KINDS
    return msgspec.structs.replace(
        facts,
        floating_alias="" if own else current.floating_alias,
        prompt_tag=(manifest.prompt.version or _short(current, "prompt")) if manifest.prompt else "",
        schema_tag=str(manifest.schema.get("$id") or _short(current, "schema")) if manifest.schema else "",
        alternate_models=tuple(dict.fromkeys(others)),
        index_floating=manifest.index.name if manifest.index and not manifest.index.version else "",
        static_fallback=any(step.static is not None for step in manifest.policy.fallback),
    )


def _changes(conn: Connection, pointer: Pointer, since_us: int) -> StagedChanges:
    taken = history.moves(conn, pointer.route, pointer.env, since_us=since_us)
    begun = [move for move in taken if move.action == "canary.start"]
    direct = [move for move in taken if move.action == history.PROMOTE and not move.staged and not move.first]
    return StagedChanges(
        total=len(begun) + len(direct),
        staged=len(begun),
        direct=len(direct),
        forced=sum(bool(move.forced) for move in begun + direct),
    )


def _gated(config: AppConfig, route: str) -> bool:
    return route in config.routes and config.routes[route].gate is not None


def _short(release: Release, part: str) -> str:
    return release.parts[part][:12]
