"""The table: the immutable snapshot of all pointers that a gateway worker holds."""

from typing import Literal

import msgspec

from pilothouse.domain.flag import FlagEntry
from pilothouse.domain.limit import Limit, Rate
from pilothouse.domain.manifest import Manifest
from pilothouse.domain.policy import LogMode

Tier = Literal["high", "standard", "lite"]
Environment = Literal["dev", "staging", "prod"]
ENVIRONMENTS: tuple[Environment, ...] = ("dev", "staging", "prod")


def env_option(env: str) -> str:
    """What a command needs to be about `env`: nothing for prod, which it is about by itself; else ` --env dev`."""
    return "" if env == "prod" else f" --env {env}"


class Live(msgspec.Struct, frozen=True):
    """A release, resolved: what a worker needs to serve it."""

    release: int
    manifest: Manifest
    parts: dict[str, str]  # the 8 part hashes, computed once by control
    hash: str


class Entry(msgspec.Struct, frozen=True):
    """One route in one environment: a stable release and at most one canary."""

    route: str
    env: Environment
    app: str
    tier: Tier
    stable: Live
    canary: Live | None = None
    share: float = 0.0  # of sessions, 0 … 1, that the canary gets
    salt: str = ""  # kept while the canary runs, so that a session stays on its side
    disabled: bool = False
    disabled_reason: str = ""
    pinned_model: str = ""  # `provider/model` that overrides the release's, by an action
    switches: tuple[str, ...] = ()  # keys of the flags that switch a flow of it off, or select a release
    selectable: dict[int, Live] = {}  # the releases that flags may select, by number


class KeyEntry(msgspec.Struct, frozen=True):
    """An API key as a worker knows it: never the key, only HMAC-SHA256(pepper, key) as hex."""

    id: str  # the public 8 characters
    hmac: str
    env: Environment
    name: str
    expires_us: int = 0  # 0: never


class ProviderEntry(msgspec.Struct, frozen=True):
    """How to reach a provider. `key` is a reference (`env://`, `file://`), never a secret's value."""

    name: str
    kind: str  # a name in providers/registry.py
    base_url: str
    key: str = ""
    options: dict[str, str] = {}  # the kind's own settings: `api_version`, `region`, `project` …


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """USD per million tokens, as the app's config says; it wins over any price list."""

    input: float
    output: float
    cache_read: float | None = None  # None: cached input costs as much as other input
    cache_write: float | None = None  # None: as other input
    reasoning: float | None = None  # None: as other output
    cache_write_1h: float | None = None  # None: 1.6 times cache_write, as Anthropic has it
    input_audio: float | None = None  # None: not known
    output_audio: float | None = None  # None: not known


class JournalSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a worker keeps its journal; taken when it starts."""

    fsync: Literal["always", "interval", "never"] = "interval"
    segment_bytes: int = 16 << 20
    reserve_bytes: int = 256 << 20


class CounterSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where limits and budgets are counted; taken when a worker starts. `url`: a reference, for `valkey`.

    `on_error`: what becomes of a request while Valkey does not answer: `open`, counted by the worker alone; `closed`,
    refused.
    """

    kind: Literal["shared", "valkey", "local"] = "shared"
    url: str = ""
    on_error: Literal["open", "closed"] = "open"


class Table(msgspec.Struct, frozen=True):
    """Replaced whole, never edited. Entries are keyed `route@env`, keys by public id, providers by name."""

    revision: int
    issued_us: int
    entries: dict[str, Entry]
    keys: dict[str, KeyEntry]
    providers: dict[str, ProviderEntry]
    anonymous: bool = False  # loopback development without keys: the environment is then `dev`
    prices: dict[str, Price] = {}  # by `provider/model`
    journal: JournalSettings = JournalSettings()
    limits: tuple[Limit, ...] = ()  # the app's own, beside those of each route's policy
    counters: CounterSettings = CounterSettings()
    spans_log: LogMode = "redacted"  # what is kept of apps' spans that name no route
    flags: dict[str, dict[str, FlagEntry]] = {}  # environment → key → flag
    flag_rate: Rate | None = None  # how often a key may read flags, at each worker; None: as often as it likes

    def entry(self, route: str, env: str) -> Entry | None:
        """The entry of `route` in `env`."""
        return self.entries.get(f"{route}@{env}")
