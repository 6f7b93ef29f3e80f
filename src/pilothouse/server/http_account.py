"""What the connections of a worker share: the limits, the handler, the time of day, and the counts."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Protocol

from pilothouse.domain.pace import Pace
from pilothouse.domain.tasks import Tasks
from pilothouse.gateway.types import Client
from pilothouse.server.http_head import Request
from pilothouse.server.http_limits import Limits


class Asker(Client, Protocol):
    """A client whose request is served, and the task that serves it."""

    @property
    def task(self) -> asyncio.Task[None]:
        """The task; to be asked for while the request is served."""
        ...


Handler = Callable[[Request, Asker], Awaitable[None]]


class Kept(Protocol):
    """A connection as the server sees it."""

    def look(self, now: float) -> None:
        """See to what is late; `now` on the loop's clock."""
        ...

    def quit(self) -> None:
        """Close if nothing is under way."""
        ...

    def cut(self) -> None:
        """Close, whatever is under way."""
        ...


class Account:
    """One per server."""

    def __init__(self, handler: Handler, limits: Limits, pace: Pace) -> None:
        self.handler = handler
        self.limits = limits
        self.pace = pace
        self.tasks = Tasks()
        self.connections: set[Kept] = set()
        self.refused: Counter[str] = Counter()  # by reason
        self.left = 0  # clients that left before their answer was complete
        self.held = 0  # bytes of request bodies that came in more than one piece
        self.stopping = False
        self.now = 0.0  # the loop's clock as of the last sweep
        self.date = ""  # the header, as of the last sweep
        self.empty = asyncio.Event()  # stopping, and the last connection is closed

    def admit(self, connection: Kept) -> bool:
        """Whether a new connection is one that is served."""
        self.connections.add(connection)
        return len(self.connections) <= self.limits.connections

    @property
    def crowded(self) -> bool:
        """Whether there are too many connections even to tell them so."""
        return len(self.connections) > self.limits.connections * 5 // 4

    def forget(self, connection: Kept) -> None:
        """A connection is closed."""
        self.connections.discard(connection)
        if self.stopping and not self.connections:
            self.empty.set()

    def metrics(self) -> str:
        """The lines for /metrics."""
        out = [
            "# HELP pilothouse_http_connections Open connections",
            "# TYPE pilothouse_http_connections gauge",
            f"pilothouse_http_connections {len(self.connections)}",
            "# HELP pilothouse_http_held_bytes Bytes held of request bodies that came in pieces",
            "# TYPE pilothouse_http_held_bytes gauge",
            f"pilothouse_http_held_bytes {self.held}",
            "# HELP pilothouse_http_clients_left_total Clients that left before their answer was complete",
            "# TYPE pilothouse_http_clients_left_total counter",
            f"pilothouse_http_clients_left_total {self.left}",
            "# HELP pilothouse_http_refused_total Requests and connections that the HTTP server refused, by reason",
            "# TYPE pilothouse_http_refused_total counter",
        ]
        out += [f'pilothouse_http_refused_total{{reason="{why}"}} {n}' for why, n in sorted(self.refused.items())]
        return "\n".join(out) + "\n"
