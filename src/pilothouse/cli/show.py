"""How the terminal looks: results on stdout, errors on stderr, colour only on a terminal."""

import functools
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, NoReturn, ParamSpec, TypeVar

import typer

from pilothouse.domain.errors import PilothouseError

P = ParamSpec("P")
T = TypeVar("T")

OK, BLOCK, USAGE, INCONCLUSIVE = 0, 1, 2, 3  # exit codes, public
_COLOURS = {"FAIL": "red", "BLOCK": "red", "WARN": "yellow", "PASS": "green", "NO DATA": "blue", "INCONCLUSIVE": "blue"}


def verb(function: Callable[P, T]) -> Callable[P, T]:
    """Turn the errors of the tree into one line on stderr and exit code 2 (1 where a gate blocks)."""

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except PilothouseError as error:
            fail(error)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader left: nothing more to say
            raise typer.Exit(OK) from None

    return guarded


def fail(error: PilothouseError) -> NoReturn:
    """`what — where — what to do` on stderr."""
    typer.secho(str(error), err=True, fg="red" if sys.stderr.isatty() else None)
    raise typer.Exit(BLOCK if error.kind in ("gate_block", "review_block") else USAGE)


def line(text: str = "") -> None:
    """One line for people."""
    typer.echo(text)


def status(word: str) -> str:
    """A status word, coloured on a terminal."""
    colour = _COLOURS.get(word)
    return typer.style(word, fg=colour, bold=True) if colour and sys.stdout.isatty() else word


def json(value: Any) -> None:
    """One JSON document, indented."""
    import msgspec

    typer.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Aligned columns; a narrow terminal loses columns from the right, never wraps a row."""
    import shutil

    body = [list(row) for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(head, *body, strict=True)]
    room = shutil.get_terminal_size((160, 24)).columns if sys.stdout.isatty() else 10_000
    shown, used = 0, 0
    for width in widths:
        if shown and used + width > room:
            break
        used += width + 2
        shown += 1
    for row in [list(head), *body]:
        cells = [cell.ljust(width) for cell, width in zip(row[:shown], widths[:shown], strict=True)]
        typer.echo("  ".join(cells).rstrip()[:room])


def when(ts_us: int | None) -> str:
    """A time as `2026-11-23 14:32:07Z`; a dash where it is none."""
    if not ts_us:
        return "-"
    return datetime.fromtimestamp(ts_us / 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def share(value: float | None) -> str:
    """0.894, or a dash where it is unknown."""
    return "-" if value is None else f"{value:.3f}"


def points(value: float | None) -> str:
    """A difference of shares in percentage points, with a true minus sign; a dash where it is unknown."""
    return "-" if value is None else f"{value * 100:+.1f} pp".replace("-", "−")


def usd(value: float | None) -> str:
    """Money; a dash where the price is unknown, which is not 0."""
    return "-" if value is None else f"${value:.6f}".rstrip("0").rstrip(".") if value else "$0"


@contextmanager
def progress(what: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, nothing elsewhere."""
    if quiet or not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn(f"  {what}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
