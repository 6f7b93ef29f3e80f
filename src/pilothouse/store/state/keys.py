"""API keys as the control plane knows them: an HMAC, never the key."""

import msgspec
from sqlalchemy import Connection, RowMapping, insert, or_, select, update

from pilothouse.domain.change import Actor, Change
from pilothouse.domain.clock import Clock
from pilothouse.domain.errors import Conflict, NotFound
from pilothouse.domain.table import KeyEntry
from pilothouse.store.state import changes, pointers
from pilothouse.store.state.rows import as_struct
from pilothouse.store.state.tables import keys


class StoredKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key's life. Times in µs since 1970, 0 where it has not happened."""

    id: str
    hmac: str
    env: str
    name: str
    owner: str = ""
    created_us: int
    expires_us: int = 0
    revoked_us: int = 0
    last_used_us: int = 0

    def live(self, now_us: int) -> bool:
        """Whether it opens anything at `now_us`."""
        return not self.revoked_us and (not self.expires_us or self.expires_us > now_us)


def create(conn: Connection, entry: KeyEntry, *, actor: Actor, clock: Clock, owner: str = "") -> StoredKey:
    """Store a minted key, log `key.create` and count the table's revision up; Conflict where the id exists."""
    if conn.execute(select(keys.c.id).where(keys.c.id == entry.id)).first() is not None:
        raise Conflict(f"there is a key {entry.id} already", hint="mint another")
    stored = StoredKey(
        id=entry.id,
        hmac=entry.hmac,
        env=entry.env,
        name=entry.name,
        owner=owner or str(actor),
        created_us=clock.now_us(),
        expires_us=entry.expires_us,
    )
    conn.execute(insert(keys).values(msgspec.structs.asdict(stored)))
    _log(conn, stored, "key.create", actor, "", clock)
    return stored


def revoke(conn: Connection, key_id: str, *, actor: Actor, clock: Clock, reason: str = "") -> StoredKey:
    """End a key at once, log `key.revoke` and count the table's revision up; a key already revoked stays as it is."""
    stored = get(conn, key_id)
    if stored.revoked_us:
        return stored
    ended = msgspec.structs.replace(stored, revoked_us=clock.now_us())
    conn.execute(update(keys).where(keys.c.id == key_id).values(revoked_us=ended.revoked_us))
    _log(conn, ended, "key.revoke", actor, reason, clock)
    return ended


def get(conn: Connection, key_id: str) -> StoredKey:
    """The key with that public id; NotFound where there is none."""
    row = conn.execute(select(keys).where(keys.c.id == key_id)).mappings().first()
    if row is None:
        raise NotFound(f"there is no key {key_id!r}", hint="`pilothouse keys list` shows the public ids")
    return _stored(row)


def list_keys(conn: Connection, *, revoked: bool = True) -> list[StoredKey]:
    """All keys, oldest first; without the revoked ones where `revoked` is False."""
    query = select(keys).order_by(keys.c.created_us, keys.c.id)
    if not revoked:
        query = query.where(keys.c.revoked_us == 0)
    return [_stored(row) for row in conn.execute(query).mappings()]


def entries(conn: Connection, now_us: int) -> dict[str, KeyEntry]:
    """The keys that open something at `now_us`, by public id, as workers hold them."""
    query = select(keys).where(keys.c.revoked_us == 0, or_(keys.c.expires_us == 0, keys.c.expires_us > now_us))
    return {
        row["id"]: msgspec.convert({name: row[name] for name in KeyEntry.__struct_fields__}, KeyEntry)
        for row in conn.execute(query.order_by(keys.c.id)).mappings()
    }


def touch(conn: Connection, key_id: str, ts_us: int) -> None:
    """Note that the key was used at `ts_us`; an earlier time than the one known changes nothing."""
    conn.execute(update(keys).where(keys.c.id == key_id, keys.c.last_used_us < ts_us).values(last_used_us=ts_us))


def _log(conn: Connection, stored: StoredKey, action: str, actor: Actor, reason: str, clock: Clock) -> None:
    pointers.next_revision(conn)
    detail = {"name": stored.name, "owner": stored.owner, "expires_us": stored.expires_us}
    change = Change(
        actor=actor,
        action=action,
        object_type="key",
        object_id=stored.id,
        env=stored.env,
        reason=reason,
        detail=detail,
    )
    changes.append(conn, change, clock)


def _stored(row: RowMapping) -> StoredKey:
    return as_struct(row, StoredKey)
