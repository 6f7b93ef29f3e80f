"""The edge's paths for flags."""

import asyncio
import urllib.parse
from collections.abc import Callable

from pilothouse.gateway.flag_counts import EVERY_S
from pilothouse.gateway.ofrep import ALL, EVENTS, ONE, Ofrep, Said
from pilothouse.gateway.pipeline import Gateway
from pilothouse.gateway.replies import JSON
from pilothouse.gateway.types import Client
from pilothouse.server.http_account import Handler
from pilothouse.server.http_head import Request

Authorization = Callable[[Request], str | None]


class FlagPaths:
    """Answers over OFREP, and writes once a second how often flags were evaluated."""

    def __init__(self, gateway: Gateway, authorization: Authorization) -> None:
        self.ofrep = Ofrep(gateway.table, gateway.authenticate, gateway.counts, gateway.clock, gateway.pseudonym)
        self._gateway = gateway
        self._authorization = authorization

    def paths(self) -> dict[str, tuple[str, Handler]]:
        """Path → method, and who serves it."""
        return {ALL: ("POST", self._all), EVENTS: ("GET", self._events)}

    def prefixes(self) -> tuple[tuple[str, tuple[str, Handler]], ...]:
        """The same of what begins so."""
        return ((ONE, ("POST", self._one)),)

    async def _all(self, request: Request, client: Client) -> None:
        key, match = self._authorization(request), request.header("if-none-match")
        _answer(client, self.ofrep.all(request.body, key, match, request.refused))

    async def _one(self, request: Request, client: Client) -> None:
        name = request.path.removeprefix(ONE)
        _answer(client, self.ofrep.one(name, request.body, self._authorization(request), request.refused))

    async def _events(self, request: Request, client: Client) -> None:
        asked = urllib.parse.parse_qs(request.query)
        await self.ofrep.events(asked.get("token", [""])[0], client)

    async def keep(self) -> None:
        """Write the counts, until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            self.write()

    def write(self) -> None:
        """Write what was counted since the last time."""
        for line in self._gateway.counts.taken(self._gateway.clock.now_us()):
            self._gateway.sink(line)


def _answer(client: Client, said: Said) -> None:
    client.whole(said.status, [("content-type", JSON), *said.headers], said.body)
