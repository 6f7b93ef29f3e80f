"""`pilothouse up` and `pilothouse status`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pilothouse.cli import options, show

if TYPE_CHECKING:
    from pilothouse.server.supervisor import Ready


@show.verb
def up(
    folder: options.App = options.APP,
    data: options.Data = options.DATA,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; others than loopback need keys.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="Gateway; 0 takes a free one.")] = 4000,
    control_port: Annotated[int, typer.Option("--control-port", help="Pages and API; 0 takes a free one.")] = 4001,
    otlp_port: Annotated[int, typer.Option("--otlp-port", help="OpenTelemetry receiver; 0 takes a free one.")] = 4318,
    otlp_grpc_port: Annotated[
        int | None, typer.Option("--otlp-grpc-port", help="OTLP over gRPC too (usually 4317); needs pilothouse[grpc].")
    ] = None,
    workers: Annotated[int, typer.Option("--workers", help="Gateway processes.")] = 1,
    admin_password_file: Annotated[
        Path | None, typer.Option("--admin-password-file", help="File with the pages' password.")
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option("--allow-host", help="Further host name under which the pages are reached.")
    ] = None,
    host_name: Annotated[
        str,
        typer.Option("--host-name", envvar="PILOTHOUSE_HOST", help="Name among other hosts; the machine's if none."),
    ] = "",
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing when ready.")] = False,
    as_json: options.Json = False,
) -> None:
    """Start the gateway, the recorder and the pages, and keep them running until Ctrl-C."""
    import asyncio

    from pilothouse.server.supervisor import UpOptions, supervise

    asked = UpOptions(
        app=folder,
        data=data,
        host=host,
        port=port,
        control_port=control_port,
        otlp_port=otlp_port,
        otlp_grpc_port=otlp_grpc_port,
        workers=workers,
        admin_password_file=admin_password_file,
        allow_hosts=tuple(allow_host or ()),
        host_name=host_name,
    )
    _log_to_file(data)

    def announce(ready: "Ready") -> None:
        if not quiet:
            typer.echo(_ready_line(ready, as_json=as_json))

    if not asyncio.run(supervise(asked, announce)):
        typer.echo("not everything drained in time — logs/ — a request or a load took over 10 s", err=True)
        raise typer.Exit(show.USAGE)


def _ready_line(ready: "Ready", *, as_json: bool) -> str:
    if as_json:
        import msgspec

        return msgspec.json.encode({"ready": True, **msgspec.structs.asdict(ready)}).decode()
    return f"ready in {ready.took_s:.1f} s   gateway {ready.gateway}   pages {ready.control}   otlp {ready.otlp}"


def _log_to_file(data: Path) -> None:
    """The supervisor's own log goes beside the others': the terminal keeps its one line."""
    from pilothouse.server import logs

    folder = data / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    logs.configure((folder / "supervisor.log").open("a", encoding="utf-8"))


@show.verb
def status(
    data: options.Data = options.DATA,
    link: Annotated[bool, typer.Option("--link", help="Print a fresh one-time address of the pages.")] = False,
    as_json: options.Json = False,
) -> None:
    """Show what runs on this data directory."""
    import msgspec

    from pilothouse.cli.control import connect
    from pilothouse.domain.errors import StateError
    from pilothouse.server.datadir import DataDir, control_address, supervisor_state

    folder = DataDir(data.absolute())
    if control_address(folder) is None and supervisor_state(folder) is None:
        raise StateError("nothing runs here", where=str(folder.path), hint="pilothouse up", code="not_running")
    with connect(data, Path()) as control:
        if link:
            show.line(f"{control.url}/?token={control.post('/api/v1/sign-in-links')['token']}")
            return
        told = control.get("/api/v1/status")
    state = supervisor_state(folder)
    told["supervisor"] = msgspec.to_builtins(state) if state else None
    if as_json:
        show.json(told)
        return
    _tell(told)


def _tell(told: dict[str, Any]) -> None:
    show.line(f"gateway {told['gateway']}   table revision {told['revision']}")
    holding = {worker["worker"]: worker["revision"] for worker in told["workers"]}
    children = told["supervisor"]["children"] if told["supervisor"] else []
    rows = [
        (
            child["name"],
            str(child["pid"] or "-"),
            str(child["restarts"]),
            str(holding.get(child["name"], "-")),
            child["last_exit"] or "-",
        )
        for child in children
    ]
    show.table(("process", "pid", "restarts", "table", "last exit"), rows)
    for loop in told["loops"]:
        if loop["failing"]:
            show.line(f"loop {loop['name']} fails: {loop['last_error']}")
    if told["config_error"]:
        show.line(f"the app's files are not in use: {told['config_error']}")
