"""The hosts that share the store, listed and forgotten."""

from typing import Any

import msgspec

from pilothouse.domain.change import Actor, Change
from pilothouse.domain.errors import NotFound, Refused
from pilothouse.server.composition import Control
from pilothouse.store.state import changes, hosts, pointers


def every(control: Control) -> dict[str, Any]:
    """All hosts, and the revision that they should hold."""
    with control.state.read() as conn:
        found = hosts.every(conn)
        revision = pointers.revision(conn)
    shown = [{**msgspec.structs.asdict(one), "cut_off": one.cut_off} for one in found]
    return {"revision": revision, "hosts": shown}


def forget(control: Control, host: str, actor: Actor) -> dict[str, Any]:
    """Take a host off the list; Refused where it runs, NotFound where there is none."""
    with control.state.write() as conn:
        known = {one.host: one for one in hosts.every(conn)}
        if host not in known:
            raise NotFound(f"there is no host {host!r}", hint=f"hosts: {', '.join(known) or 'none'}")
        if not known[host].cut_off:
            raise Refused(f"{host} was heard {known[host].age_s:.1f} s ago", hint="stop it first")
        hosts.forget(conn, host)
        change = Change(actor=actor, action="host.forget", object_type="host", object_id=host)
        changes.append(conn, change, control.clock)
    return {"host": host, "forgotten": True}
