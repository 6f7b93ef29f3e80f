"""The change log: verified and listed."""

from typing import Any

import msgspec

from pilothouse.security import audit
from pilothouse.server.composition import Control
from pilothouse.store.state import changes


def verify(control: Control) -> dict[str, Any]:
    """Walk the whole chain; `ok` False names the first row that does not fit."""
    with control.state.read() as conn:
        report = audit.verify(changes.rows(conn))
    return msgspec.structs.asdict(report)


def newest(control: Control, route: str | None, limit: int) -> dict[str, Any]:
    """The newest changes, newest first."""
    with control.state.read() as conn:
        return {"changes": changes.find(conn, route=route, limit=limit)[::-1]}
