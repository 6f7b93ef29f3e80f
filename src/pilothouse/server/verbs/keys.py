"""API keys: made, shown once, listed, revoked."""

import asyncio
from typing import Any

from pilothouse.domain.change import Actor
from pilothouse.security import keys as minting
from pilothouse.server.composition import Control
from pilothouse.store.state import keys
from pilothouse.store.state.keys import StoredKey


async def create(control: Control, name: str, env: str, actor: Actor, *, owner: str = "") -> dict[str, Any]:
    """A new key, in every worker's table when this returns; `key` is shown this once. Raises BadRequest."""

    def make() -> tuple[str, StoredKey]:
        minted = minting.mint(env, name, control.secret.pepper, control.clock)
        with control.state.write() as conn:
            return minted.plain, keys.create(conn, minted.entry, actor=actor, clock=control.clock, owner=owner)

    plain, stored = await asyncio.to_thread(make)
    report = await control.publish()
    return {**shown(stored), "key": plain, "workers": report.workers, "late": report.late}


async def revoke(control: Control, key_id: str, actor: Actor) -> dict[str, Any]:
    """End a key on every worker; NotFound where there is none."""

    def end() -> StoredKey:
        with control.state.write() as conn:
            return keys.revoke(conn, key_id, actor=actor, clock=control.clock)

    stored = await asyncio.to_thread(end)
    report = await control.publish()
    return {**shown(stored), "workers": report.workers, "late": report.late, "propagated_ms": report.ms}


def every(control: Control) -> list[dict[str, Any]]:
    """All keys, without what could open anything."""
    with control.state.read() as conn:
        return [shown(stored) for stored in keys.list_keys(conn)]


def shown(stored: StoredKey) -> dict[str, Any]:
    """A key as people may see it."""
    return {
        "id": stored.id,
        "name": stored.name,
        "env": stored.env,
        "owner": stored.owner,
        "created_us": stored.created_us,
        "expires_us": stored.expires_us or None,
        "revoked_us": stored.revoked_us or None,
        "last_used_us": stored.last_used_us or None,
    }
