"""What security knows, for the review to judge (T1.0, T2.5, T8.*): no thresholds here, None where nothing is known."""

from typing import Literal

import msgspec


class SecretFact(msgspec.Struct, frozen=True, kw_only=True):
    """A secret that the app names by reference; never its value [T8.1 T8.3]."""

    name: str  # of the provider or channel that uses it
    reference: str  # env://NAME, file://PATH
    backend: str  # env, file; empty: none, the secret is written down somewhere
    owner: str = ""
    rotate_s: float | None = None  # how long it may live; None: nobody said
    rotated_us: int | None = None  # when it was last rotated; None: unknown
    envs: tuple[str, ...] = ()  # environments in which routes use it
    fingerprint: str = ""  # short salted digest; empty: the secret could not be read


class PlaintextFact(msgspec.Struct, frozen=True, kw_only=True):
    """A secret found in plain text, without the secret [T8.1 T8.6]."""

    where: str  # file:line, or a table and column
    kind: str  # the detector that found it
    place: Literal["config", "template", "store"] = "config"


class KeyFact(msgspec.Struct, frozen=True, kw_only=True):
    """An API key of ours [T8.3]. `request_envs`: environments of the requests it made in the window."""

    id: str
    name: str
    env: str
    revoked: bool = False
    request_envs: tuple[str, ...] = ()


class AuditFact(msgspec.Struct, frozen=True, kw_only=True):
    """The change log as verified now [T8.4]."""

    ok: bool
    rows: int
    reason: str = ""  # the first break, where there is one
    anchored_us: int | None = None  # when its last hash was kept outside; None: never
    credential_changes: int | None = None  # keys created or revoked, by the store
    credential_rows: int | None = None  # the same, by the log
    reads: int = 0  # of text that was kept in full
    editable: tuple[str, ...] = ()  # append-only tables that the product's own role could edit, in PostgreSQL


class LeakSample(msgspec.Struct, frozen=True, kw_only=True):
    """Stored rows scanned again for what redaction should have taken out [T2.5]."""

    rows: int
    leaks: int  # rows with something in them
    secrets: int  # rows with a secret in them
    classes: dict[str, int] = {}
    sampled_us: int = 0
    scanner: str = ""  # what looked, with its version


class ReconstructSample(msgspec.Struct, frozen=True, kw_only=True):
    """Requests rendered again from their record alone, and compared with what was sent [T1.0]."""

    n: int
    ok: int
    reasons: dict[str, int] = {}  # why not → requests
    sampled_us: int = 0


class SecurityFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Evidence for the security items of a route in an environment."""

    secrets: list[SecretFact] | None = None
    plaintext: list[PlaintextFact] | None = None  # None: nothing was scanned
    files_scanned: int = 0
    keys: list[KeyFact] | None = None
    audit: AuditFact | None = None
    leaks: LeakSample | None = None
