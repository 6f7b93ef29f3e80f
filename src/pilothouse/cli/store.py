"""`pilothouse store`: the telemetry store itself."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pilothouse.cli import options, show

if TYPE_CHECKING:
    from pilothouse.config.store import StoreConfig
    from pilothouse.server.datadir import DataDir
    from pilothouse.store.telemetry import TelemetryStore
    from pilothouse.telemetry.migration import Migrated

app = typer.Typer(no_args_is_help=True)
SPOOL = "migrating"  # in the data directory: writes to the target under way

Place = "clickhouse://USER@HOST:8123/DATABASE, or the path of a DuckDB file."


@app.command("migrate")
@show.verb
def migrate(
    to: Annotated[str, typer.Option("--to", help=f"The target: {Place}")],
    source: Annotated[str, typer.Option("--from", help="The source; the store in use if absent.")] = "",
    to_password: Annotated[str, typer.Option("--to-password", help="Reference: env://NAME or file://PATH.")] = "",
    from_password: Annotated[str, typer.Option("--from-password", help="Likewise, of `--from`.")] = "",
    data: options.Data = options.DATA,
    folder: options.App = options.APP,
    as_json: options.Json = False,
) -> None:
    """Copy all telemetry to another store and compare every row. Goes on where an earlier run was cut off."""
    import msgspec

    from pilothouse.config.store import StoreConfig
    from pilothouse.domain.errors import StateError
    from pilothouse.server.datadir import DataDir, control_address, supervisor_state

    home = DataDir(data.absolute())
    if control_address(home) is not None or supervisor_state(home) is not None:
        raise StateError(
            "control holds the store and goes on writing to it", where=str(home.path),
            hint="stop `pilothouse up` first", code="already_running",
        )  # fmt: skip
    home.make()
    asked = StoreConfig(telemetry=source, telemetry_password=from_password) if source else _configured(folder)
    _refuse_nothing(asked, home)
    first = _opened(asked, home, folder, home.spool)
    try:
        second = _opened(StoreConfig(telemetry=to, telemetry_password=to_password), home, folder, home.path / SPOOL)
        try:
            found = _followed(first, second, quiet=as_json)
        finally:
            second.close()
    finally:
        first.close()
    if as_json:
        show.json({"from": str(first.path), "to": str(second.path), **msgspec.to_builtins(found)})
    else:
        _tell(found, str(second.path))
    if found.differences:
        raise typer.Exit(show.BLOCK)


@app.command("grants")
@show.verb
def grants(
    role: Annotated[str, typer.Argument(help="The role that `store.state` names.")],
    owner: Annotated[str, typer.Option("--owner", help="postgresql://OWNER@HOST/DATABASE: who owns the tables.")],
    owner_password: Annotated[str, typer.Option("--owner-password", help="Reference: env://NAME or file://PATH.")] = "",
    folder: options.App = options.APP,
    as_json: options.Json = False,
) -> None:
    """Make or migrate the state's tables in PostgreSQL as their owner, and let ROLE add to history but not edit it."""
    from pilothouse.config.store import state_address
    from pilothouse.domain.errors import BadRequest
    from pilothouse.security.secrets import read_secret
    from pilothouse.store.state import grants as roles
    from pilothouse.store.state.engine import HEAD, StateStore
    from pilothouse.store.state.postgres import Server
    from pilothouse.store.state.tables import APPEND_ONLY

    try:
        url = state_address(owner)
    except ValueError as error:
        raise BadRequest(str(error), where="--owner", hint="postgresql://OWNER@HOST/DATABASE") from error
    secret = read_secret(owner_password, folder.absolute()) if owner_password else ""
    server = Server(url=url, password=secret)
    state = StateStore(server)
    try:
        with state.write() as conn:
            roles.grant(conn, role)
    finally:
        state.close()
    if as_json:
        show.json({"role": role, "database": str(server), "schema": HEAD, "append_only": list(APPEND_ONLY)})
        return
    show.line(f"  {role} may read and write in {server} (schema {HEAD}); {', '.join(APPEND_ONLY)}: add, no more")


def _configured(folder: Path) -> "StoreConfig":
    from pilothouse.config.app import load

    return load(folder).store


def _opened(asked: "StoreConfig", home: "DataDir", folder: Path, spool: Path) -> "TelemetryStore":
    from pilothouse.server.opening import password
    from pilothouse.store.telemetry import TelemetryStore
    from pilothouse.store.telemetry.clickhouse import ClickHouseStore
    from pilothouse.store.telemetry.clickhouse_client import is_address

    if is_address(asked.telemetry):
        return ClickHouseStore(asked.telemetry, spool, password(asked, folder.absolute()))
    return TelemetryStore(Path(asked.telemetry).absolute() if asked.telemetry else home.telemetry)


def _refuse_nothing(asked: "StoreConfig", home: "DataDir") -> None:
    """A source that is not there would be made, empty."""
    from pilothouse.domain.errors import StateError
    from pilothouse.store.telemetry.clickhouse_client import is_address

    path = Path(asked.telemetry or home.telemetry)
    if not is_address(asked.telemetry) and not path.is_file():
        raise StateError(
            "there is no store here", where=str(path), hint="name it with --from, or its directory with --data"
        )


def _followed(source: "TelemetryStore", target: "TelemetryStore", *, quiet: bool) -> "Migrated":
    from pilothouse.telemetry.migration import migrate as work

    with show.progress("migrate", quiet=quiet) as advance:
        return work(source, target, advance)


def _tell(found: "Migrated", to: str) -> None:
    rows = sum(found.rows.values())
    if found.differences:
        show.line(
            f"{len(found.differences)} of {found.slices} slices are not the same in {to}; the source is as it was"
        )
        table = [
            (one.table, show.when(one.since_us), f"{one.rows:,}", f"{one.found:,}") for one in found.differences[:50]
        ]
        show.table(("table", "from", "rows", "found"), table)
        return
    again = f", {found.known} of them by an earlier run" if found.known else ""
    show.line(f"{rows:,} rows in {found.slices} slices{again}: all are the same in {to}")
    show.table(("table", "rows"), [(name, f"{count:,}") for name, count in found.rows.items() if count])
    if repeated := sum(found.repeated.values()):
        show.line(f"{repeated:,} rows had been stored more than once, and are there once now")
    show.line("name the store under `store:` in pilothouse.yaml before the next `pilothouse up`")
