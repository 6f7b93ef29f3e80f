"""The table: all pointers, resolved, with the keys and providers that a worker needs."""

import msgspec
from sqlalchemy import Connection

from pilothouse.config.app import AppConfig, ProviderConfig
from pilothouse.domain.clock import Clock
from pilothouse.domain.flag import FlagEntry
from pilothouse.domain.release import Pointer
from pilothouse.domain.table import Entry, Environment, JournalSettings, Live, Price, ProviderEntry, Table
from pilothouse.releases import flags, selection
from pilothouse.releases.registry import live
from pilothouse.store.state import keys, pointers, releases
from pilothouse.store.state.engine import StateStore


def build(
    store: StateStore,
    config: AppConfig,
    provider_urls: dict[str, str],
    clock: Clock,
    *,
    allow_anonymous: bool = False,
) -> Table:
    """The table of now. `provider_urls`: name → base URL of the providers that Pilothouse runs itself.

    `anonymous` is set only where `allow_anonymous` is and no key was ever made. A route that the config no
    longer names keeps its entry, since its clients are still there. StoreError where a live release does
    not resolve: workers then keep the table they have.
    """
    now = clock.now_us()
    with store.read() as conn:
        switches = flags.entries(conn, config)
        entries = [_entry(conn, config, pointer, switches.get(pointer.env, {})) for pointer in pointers.every(conn)]
        return Table(
            revision=pointers.revision(conn),
            issued_us=now,
            entries={f"{entry.route}@{entry.env}": entry for entry in entries},
            keys=keys.entries(conn, now),
            providers={name: _provider(one, provider_urls) for name, one in config.providers.items()},
            anonymous=allow_anonymous and not keys.list_keys(conn),
            prices={name: msgspec.convert(price, Price, from_attributes=True) for name, price in config.prices.items()},
            journal=msgspec.convert(config.journal, JournalSettings, from_attributes=True),
            limits=config.limits,
            counters=config.counters,
            spans_log=config.spans_log,
            flags=switches,
            flag_rate=config.flag_rate,
        )


def _entry(conn: Connection, config: AppConfig, pointer: Pointer, entries: dict[str, FlagEntry]) -> Entry:
    route = config.routes.get(pointer.route)
    switches = selection.switches(entries, pointer.route)
    return Entry(
        route=pointer.route,
        env=msgspec.convert(pointer.env, Environment),
        app=route.app if route else "",
        tier=route.tier if route else "standard",
        stable=_live(conn, pointer.route, pointer.stable),
        canary=_live(conn, pointer.route, pointer.canary) if pointer.canary is not None else None,
        share=pointer.share,
        salt=pointer.salt,
        disabled=pointer.disabled,
        disabled_reason=pointer.disabled_reason,
        pinned_model=pointer.pinned_model,
        switches=switches,
        selectable=selection.selectable(conn, config, pointer, entries) if switches else {},
    )


def _live(conn: Connection, route: str, number: int) -> Live:
    found = releases.get(conn, route, number)
    return live(found, releases.manifest(conn, found))


def _provider(provider: ProviderConfig, urls: dict[str, str]) -> ProviderEntry:
    return ProviderEntry(
        name=provider.name,
        kind=provider.kind,
        base_url=urls.get(provider.name, provider.base_url),
        key=provider.key,
        options=provider.options,
    )
