"""`pilothouse demo`: the whole product on a real model, told step by step; each step names the command that did it."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pilothouse.cli import show

HERE = Path(".pilothouse-demo")


@show.verb
def demo(
    stop: Annotated[bool, typer.Option("--exit", help="End after the review instead of serving on.")] = False,
    json: Annotated[Path | None, typer.Option("--json", help="Write what happened to this file.")] = None,
    folder: Annotated[
        Path, typer.Option("--folder", help="Where the demo's app and data go; made anew each time.")
    ] = HERE,
    requests: Annotated[int, typer.Option("--requests", help="Requests to each route before the release.")] = 32,
    port: Annotated[int, typer.Option("--port", help="Gateway; a free one where it is taken.")] = 4000,
    control_port: Annotated[int, typer.Option("--control-port", help="Pages; a free one where it is taken.")] = 4001,
    otlp_port: Annotated[int, typer.Option("--otlp-port", help="OpenTelemetry; a free one where it is taken.")] = 4318,
) -> None:
    """Watch a real LLM app run through Pilothouse: served, gated, released, taken back, reviewed."""
    import msgspec

    from pilothouse.cli.demo_app import lay_out, started
    from pilothouse.cli.demo_story import Story, tell

    app = lay_out(folder)
    result: dict[str, Any]
    with started(app, (port, control_port, otlp_port)) as running:
        result = tell(Story(app, running, requests))
        if json is not None:
            json.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")
        if not stop:
            running.serve_on()
    raise typer.Exit(show.OK if result["ok"] else show.BLOCK)
