"""What the releases room can say about a route in an environment, for the review to judge."""

import msgspec

from pilothouse.domain.alternate import Alternate
from pilothouse.domain.evaluation import Verdict
from pilothouse.domain.release import Release, Rollback


class DryRun(msgspec.Struct, frozen=True, kw_only=True):
    """What a rollback would do now, without doing it. `target`: the release that would be live after it."""

    ok: bool
    from_release: int | None = None
    target: int | None = None
    missing: tuple[str, ...] = ()  # part hashes that do not resolve
    reason: str = ""  # one sentence, also when ok


class StagedChanges(msgspec.Struct, frozen=True, kw_only=True):
    """Changes of the last 90 days to a route that was live already. total = staged + direct."""

    total: int = 0
    staged: int = 0  # canaries begun, whatever became of them
    direct: int = 0  # promotions without one
    forced: int = 0  # of either, those that went over a refusal


class Drill(msgspec.Struct, frozen=True, kw_only=True):
    """An exercise that produced evidence. `detail`: what was measured, in ms unless its name says otherwise."""

    id: int
    kind: str
    route: str
    env: str
    ts_us: int
    ok: bool
    detail: dict[str, str | int | float | bool | None] = {}


class ReleaseFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Measured now over the state store. None means not known, never zero."""

    route: str
    env: str
    measured_us: int
    current: Release | None = None  # the stable release; None: the route is not live in this environment
    canary: Release | None = None
    canary_share: float = 0.0
    pinned_model: str = ""
    disabled: bool = False
    hashes_resolvable: int = 0  # of the 8 parts of the current release, found and equal to their address
    hashes_missing: tuple[str, ...] = ()
    floating_alias: str = ""  # the model's name where it is not pinned to a version
    vcs_commit: str = ""
    vcs_dirty: bool = False
    prompt_tag: str = ""  # the prompt's own version, or the first 12 characters of its hash; empty: no prompt
    schema_tag: str = ""  # likewise; empty: no schema
    alternate_models: tuple[str, ...] = ()  # `provider/model` of the policy's fallbacks
    static_fallback: bool = False
    rollback: DryRun = DryRun(ok=False, reason="not measured")
    last_rollback: Rollback | None = None
    last_drill: Drill | None = None
    changes_90d: StagedChanges = StagedChanges()
    gated: bool = False  # the route's config names a gate
    verdict: Verdict | None = None  # the newest of the current release
    verdict_baseline: int | None = None
    verdict_us: int | None = None
    direct_edits: int = 0  # of the pointer in the database, in 90 days; each was put back
    provider_changes: tuple[str, ...] = ()  # noticed at the model's provider in 7 days, in words
    index_floating: str = ""  # the index's name where the release names no version of it
    way_back_breaks: tuple[str, ...] = ()  # what callers of today would miss after a rollback, in words
    alternates: tuple[Alternate, ...] = ()  # as last measured
