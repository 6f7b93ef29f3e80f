"""Saved views: filters of the traces list under a name, a person's own or everybody's."""

import msgspec
from sqlalchemy import Connection, delete, func, or_, select

from pilothouse.domain.change import Actor, Change
from pilothouse.domain.clock import Clock
from pilothouse.domain.errors import NotFound, Refused
from pilothouse.store.state import changes
from pilothouse.store.state.rows import upsert
from pilothouse.store.state.tables import views

NAME_MAX = 60
VIEWS_MAX = 200  # of a person, and of everybody


class View(msgspec.Struct, frozen=True, kw_only=True):
    """A filter and how far back it looks. `owner`: a person's id; empty: everybody's."""

    name: str
    owner: str = ""
    filter: str = ""
    age: str = ""


def put(conn: Connection, view: View, *, actor: Actor, clock: Clock) -> None:
    """Store a view, in the place of one of the same name; Refused without a name or beyond the limit."""
    if not 0 < len(view.name.strip()) <= NAME_MAX:
        raise Refused(f"a view has a name of 1 to {NAME_MAX} characters", where="name", hint="type one")
    values = {**msgspec.structs.asdict(view), "updated_us": clock.now_us()}
    count = conn.execute(select(func.count()).select_from(views).where(views.c.owner == view.owner)).scalar() or 0
    if count >= VIEWS_MAX:
        raise Refused(f"there are {VIEWS_MAX} views already", where="views", hint="delete one first")
    upsert(conn, views, values, (views.c.owner, views.c.name))
    _log(conn, "view.save", view.name, actor, clock)


def drop(conn: Connection, name: str, owner: str, *, actor: Actor, clock: Clock) -> None:
    """Delete a view; NotFound where there is none."""
    gone = conn.execute(delete(views).where(views.c.name == name, views.c.owner == owner))
    if not gone.rowcount:
        raise NotFound(f"there is no view {name!r}")
    _log(conn, "view.delete", name, actor, clock)


def visible(conn: Connection, person: str) -> list[View]:
    """A person's own and everybody's, by name."""
    query = select(views).where(or_(views.c.owner == person, views.c.owner == "")).order_by(views.c.name)
    return [
        View(name=row["name"], owner=row["owner"], filter=row["filter"], age=row["age"])
        for row in conn.execute(query).mappings()
    ]


def _log(conn: Connection, action: str, name: str, actor: Actor, clock: Clock) -> None:
    changes.append(conn, Change(actor=actor, action=action, object_type="view", object_id=name), clock)
