"""Who may do what in PostgreSQL: the product's own role adds to the append-only tables and can change nothing in them.

The owner of the tables makes and migrates them and may drop a guard. A role that is not the owner, and has no UPDATE,
DELETE or TRUNCATE there, cannot edit history, whatever was taken over with it.
"""

from sqlalchemy import Connection, text

from pilothouse.domain.errors import StoreError
from pilothouse.store.state.tables import APPEND_ONLY, METADATA

_EDITS = ("UPDATE", "DELETE", "TRUNCATE")
_SCHEMA = "alembic_version"  # which revision the tables have: read, never written
_COUNTERS = """SELECT quote_ident(s.relname) FROM pg_class s JOIN pg_depend d ON d.objid = s.oid
JOIN pg_class t ON t.oid = d.refobjid WHERE s.relkind = 'S' AND t.relname = ANY(:names)
  AND t.relnamespace = current_schema()::regnamespace ORDER BY 1"""
_OWNED = "SELECT pg_has_role(current_user, relowner, 'MEMBER') FROM pg_class WHERE oid = to_regclass('changes')"


def grant(conn: Connection, role: str) -> None:
    """Give `role` what the product needs and no more, as the tables' owner. Raises StoreError where there is no such
    role, or where it may still edit what is append-only: a superuser, the owner, or a member of one.
    """
    if conn.execute(text("SELECT 1 FROM pg_roles WHERE rolname = :role"), {"role": role}).first() is None:
        hint = f"make it first: CREATE ROLE {role} LOGIN PASSWORD '…'"
        raise StoreError(f"the database has no role {role!r}", where="grants", hint=hint)
    for statement in statements(conn, role):
        conn.execute(text(statement))
    if edits := editable(conn, role):
        raise StoreError(
            f"the role {role!r} may still change {', '.join(edits)}",
            where="grants",
            hint="it is a superuser, owns the tables, or is a member of a role that does: take a role of its own",
        )


def statements(conn: Connection, role: str) -> list[str]:
    """What `grant` says to the server, in order."""
    quoted = conn.dialect.identifier_preparer.quote
    names = sorted({*METADATA.tables, _SCHEMA})
    told, who = {name: quoted(name) for name in names}, quoted(role)
    every = ", ".join(told.values())
    free = ", ".join(told[name] for name in names if name not in (*APPEND_ONLY, _SCHEMA))
    added = ", ".join(told[name] for name in names if name in APPEND_ONLY)
    schema = quoted(str(conn.execute(text("SELECT current_schema()")).scalar_one()))
    counters = list(conn.execute(text(_COUNTERS), {"names": names}).scalars())
    return [
        f"REVOKE ALL ON {every} FROM {who}, PUBLIC",
        f"REVOKE CREATE ON SCHEMA {schema} FROM {who}, PUBLIC",
        f"GRANT USAGE ON SCHEMA {schema} TO {who}",
        f"GRANT SELECT ON {every} TO {who}",
        f"GRANT INSERT ON {added} TO {who}",
        f"GRANT INSERT, UPDATE, DELETE ON {free} TO {who}",
        *([f"GRANT USAGE, SELECT ON {', '.join(counters)} TO {who}"] if counters else []),
    ]


def editable(conn: Connection, role: str = "") -> tuple[str, ...]:
    """The append-only tables in which `role` (empty: who is connected) may change or remove rows; none in SQLite,
    where whoever may write the file may write all of it.
    """
    if conn.dialect.name != "postgresql":
        return ()
    asked = text("SELECT has_table_privilege(CAST(coalesce(nullif(:role, ''), current_user) AS name), :name, :edit)")
    return tuple(
        name
        for name in APPEND_ONLY
        if any(conn.execute(asked, {"role": role, "name": name, "edit": edit}).scalar() for edit in _EDITS)
    )


def may_migrate(conn: Connection) -> bool:
    """Whether who is connected may make or change tables: their owner, or who may make them where there are none."""
    if conn.dialect.name != "postgresql":
        return True
    owned = conn.execute(text(_OWNED)).scalar()
    if owned is None:
        owned = conn.execute(text("SELECT has_schema_privilege(current_schema(), 'CREATE')")).scalar()
    return bool(owned)
