"""The `generate` wire: the edge's own pipeline inside control, for evals and replays, with a journal of its own."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import TypeVar

from pilothouse.domain.errors import Refused
from pilothouse.domain.table import Live, Table
from pilothouse.domain.wires import JournalLine
from pilothouse.gateway.pipeline import Gateway
from pilothouse.security.keys import make_authenticate
from pilothouse.security.pseudonyms import Pseudonyms
from pilothouse.security.redact import Redactor, credentials
from pilothouse.security.secrets import make_secret_reader
from pilothouse.server import equipment
from pilothouse.server.composition import WORKER, Control
from pilothouse.telemetry.journal import Journal

T = TypeVar("T")
_HOSTED = ("local", "scripted")


@contextlib.asynccontextmanager
async def gateway(
    control: Control,
    table: Table,
    secret: Callable[[str], str],
    seen: Callable[[JournalLine], None] = lambda _: None,
) -> AsyncIterator[Gateway]:
    """A Gateway on this event loop. Its records are in the journal at the end; `seen` is told of each as it is made."""
    with contextlib.closing(_journal(control, table)) as journal:
        made = _made(control, table, secret, journal, seen)
        try:
            yield made
        finally:
            await made.close()


def _journal(control: Control, table: Table) -> Journal:
    return Journal(
        control.data.journal, WORKER, control.clock, fsync=table.journal.fsync,
        segment_bytes=table.journal.segment_bytes, reserve_bytes=table.journal.reserve_bytes,
    )  # fmt: skip


def _made(
    control: Control, table: Table, secret: Callable[[str], str], journal: Journal, seen: Callable[[JournalLine], None]
) -> Gateway:
    def sink(line: JournalLine) -> None:
        journal.write(line)
        seen(line)

    return Gateway(
        table=lambda: table,
        sink=sink,
        redact=Redactor(control.secret.salt),
        credentials=credentials(control.secret.salt),
        authenticate=make_authenticate(control.secret.pepper, control.clock),
        secret=secret,
        clock=control.clock,
        pseudonym=Pseudonyms(control.secret.salt),
        worker=WORKER,
        guards=equipment.guards(control.app_dir),
    )


async def generating(control: Control, work: Callable[[Gateway], Awaitable[T]]) -> T:
    """Do `work` with a Gateway on the present table; its records are in the journal when this returns."""
    async with gateway(control, control.current_table(), make_secret_reader(control.app_dir)) as made:
        return await work(made)


def require_providers(control: Control, lives: Iterable[Live]) -> None:
    """Refused where a release needs a provider that only runs under `pilothouse up`, and that is not running."""
    table: Table = control.current_table()
    for live in lives:
        name = live.manifest.model.provider
        provider = table.providers.get(name)
        if provider is not None and provider.kind in _HOSTED and control.link is None:
            raise Refused(
                f"the provider {name!r} runs only under `pilothouse up`", hint="start it first", code="not_running"
            )
