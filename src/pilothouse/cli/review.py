"""`pilothouse review`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from pilothouse.cli import options, show
from pilothouse.cli.control import connect

Format = Literal["text", "md", "html", "json"]


@show.verb
def review(
    route: Annotated[str, typer.Argument(help="Route; all where not given.")] = "",
    form: Annotated[Format, typer.Option("--format", help="text, md, html or json.")] = "text",
    gate: Annotated[bool, typer.Option("--gate", help="Exit code 1 where not ready, 3 where data is missing.")] = False,
    sign: Annotated[
        bool, typer.Option("--sign", help="Keep the review of now under your name, with --reason.")
    ] = False,
    reason: options.Reason = "",
    env: options.Env = "prod",
    data: options.Data = options.DATA,
    folder: options.App = options.APP,
    as_json: options.Json = False,
) -> None:
    """Print the production-readiness review: every line measured."""
    import shutil
    import sys

    import msgspec

    from pilothouse.domain.finding import Review
    from pilothouse.review import judge, render

    if sign:
        _sign(route, env, reason, (data, folder, as_json))
        return
    with connect(data, folder) as control:
        told = control.get("/api/v1/review", route=route, env=env)
    made = msgspec.convert(told, Review)
    if as_json or form == "json":
        show.json(render.to_json(made))
    elif form == "text":
        terminal = sys.stdout.isatty()
        width = shutil.get_terminal_size().columns if terminal else None
        typer.echo(render.text(made, width=width, colour=terminal), nl=False, color=terminal)
    else:
        show.line(render.markdown(made) if form == "md" else render.html(made))
    if gate:
        raise typer.Exit(judge.exit_code(made))


def _sign(route: str, env: str, reason: str, at: tuple[Path, Path, bool]) -> None:
    from pilothouse.domain.errors import BadRequest

    data, folder, as_json = at
    if not route:
        raise BadRequest("a review is signed for one route", where="--sign", hint="pilothouse review ROUTE --sign")
    with connect(data, folder) as control:
        done = control.post(f"/api/v1/routes/{route}/review/sign", env=env, reason=reason)
    if as_json:
        show.json(done)
        return
    closed = f", closes {', '.join(done['closed'])}" if done["closed"] else ""
    show.line(f"  review {done['review'][:12]} of {done['route']} in {done['env']} signed{closed}")
