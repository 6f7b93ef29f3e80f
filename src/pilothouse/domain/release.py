"""A release and the pointer that makes it live."""

from typing import Any

import msgspec


class SchemaWarning(msgspec.Struct, frozen=True):
    """What the release's provider will refuse or ignore in a schema. `pointer`: into the part (`schema`, `tools`)."""

    part: str
    pointer: str
    what: str
    advice: str


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """A manifest with a number and where it came from. Immutable; numbers count up per route from 1."""

    route: str
    number: int
    manifest_hash: str
    parts: dict[str, str]  # the 8 part hashes
    author: str = ""
    notes: str = ""
    vcs_commit: str = ""
    vcs_dirty: bool = False
    floating_alias: str = ""  # the model's name where it names no version: it may change under us
    created_us: int = 0
    reused: bool = False  # `create` found this one, equal to what was asked for; not stored
    warnings: tuple[SchemaWarning, ...] = ()  # of the schemas, for this release's provider; kept in the change log


class Pointer(msgspec.Struct, frozen=True, kw_only=True):
    """What a route points at in an environment. `revision` counts its moves, for optimistic concurrency."""

    route: str
    env: str
    stable: int
    canary: int | None = None
    share: float = 0.0  # of sessions, 0 … 1
    salt: str = ""  # kept while the canary runs
    canary_started_us: int = 0
    disabled: bool = False
    disabled_reason: str = ""
    pinned_model: str = ""
    revision: int = 0
    updated_us: int = 0


class CanaryRun(msgspec.Struct, frozen=True, kw_only=True):
    """A canary from its first request to its end, with the measured times of its abort."""

    id: int
    route: str
    env: str
    release: int
    baseline: int
    state: str  # running, promoted, aborted, superseded
    started_us: int
    stepped_us: int  # when its present share began
    ended_us: int | None = None
    decision: str = ""  # the last word: hold, step, promote, abort, no_data, inconclusive
    evidence: dict[str, Any] = {}
    t_detect_us: int | None = None  # when the evidence that decided was read
    t_decide_us: int | None = None
    t_flip_us: int | None = None  # when the pointer had moved
    t_last_bad_us: int | None = None  # when the last request on the bad release began


class CanaryLook(msgspec.Struct, frozen=True, kw_only=True):
    """What the watch saw at a time. `rails`: guardrail → [evidence, its threshold, difference, low, high, margin, n],
    None where unknown."""

    ts_us: int
    share: float
    decision: str
    requests: int  # on the canary so far
    rails: dict[str, list[float | None]]


class Rollback(msgspec.Struct, frozen=True, kw_only=True):
    """A rollback that happened. `propagated_ms`: command to last worker's acknowledgement; None until known.

    `part`: the one part that was taken back, empty for all of the release. Times in µs since 1970, None where not
    known: nobody tells when a person saw the harm.
    """

    id: int
    route: str
    env: str
    from_release: int
    to_release: int
    ts_us: int
    propagated_ms: float | None = None
    workers: int | None = None
    actor: str = ""
    reason: str = ""
    part: str = ""
    t_detect_us: int | None = None  # when the alert or the canary that called for it saw the harm
    t_decide_us: int | None = None  # when the command came
    t_flip_us: int | None = None  # when the pointer had moved
    t_last_bad_us: int | None = None  # when the last request on the release that was left began


class StepEvidence(msgspec.Struct, frozen=True, kw_only=True):
    """What a step of a plan rested on when its state changed. `step`: its line as shown; `actor`: who carried it on."""

    route: str
    env: str
    release: int
    kind: str
    step: str
    state: str
    message: str
    evidence: dict[str, Any] = {}
    actor: str = ""
    ts_us: int = 0


class IndexVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A version of a retrieval index, as its indexer registered it. None: not said."""

    name: str
    version: str
    author: str = ""
    notes: str = ""
    documents: int | None = None
    built_us: int | None = None
    registered_us: int = 0
