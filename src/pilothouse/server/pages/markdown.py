"""The little Markdown that our own pages are written in, as blocks for a template: nothing in it becomes HTML."""

import re
from typing import Literal

import msgspec

Kind = Literal["h1", "h2", "text", "code", "list", "steps", "table"]
_LIST = re.compile(r"^(?:- |(\d+)\. )(.*)$")
_SPAN = re.compile(r"(`[^`]+`|\*\*[^*]+\*\*)")


class Span(msgspec.Struct, frozen=True):
    """A stretch of a line; `tag`: code, b or none."""

    text: str
    tag: str = ""


class Block(msgspec.Struct, frozen=True):
    """A block: `lines` of a text or a list, `rows` of a table (its head first), `code` as it stands."""

    kind: Kind
    lines: tuple[tuple[Span, ...], ...] = ()
    rows: tuple[tuple[tuple[Span, ...], ...], ...] = ()
    code: str = ""


def blocks(text: str) -> tuple[Block, ...]:
    """Headings, paragraphs, lists, fenced code and tables; everything else is text."""
    found: list[Block] = []
    fence: list[str] | None = None
    for line in [*text.split("\n"), ""]:
        if line.startswith("```"):
            if fence is not None:
                found.append(Block("code", code="\n".join(fence)))
            fence = [] if fence is None else None
        elif fence is not None:
            fence.append(line)
        else:
            _line(found, line)
    if fence:
        found.append(Block("code", code="\n".join(fence)))
    return tuple(block for block in found if block.kind != "text" or block.lines)


def _line(found: list[Block], line: str) -> None:
    """Add a line to the last block where it goes on there, else begin one."""
    last = found[-1] if found else Block("text")
    if not line.strip():
        found.append(Block("text"))
    elif line.startswith("#"):
        level, _, title = line.partition(" ")
        found.append(Block("h1" if level == "#" else "h2", (spans(title),)))
    elif item := _LIST.match(line):
        kind: Kind = "steps" if item[1] else "list"
        _go_on(found, Block(kind, (*(last.lines if last.kind == kind else ()), spans(item[2]))))
    elif line.startswith("|"):
        cells = tuple(spans(cell.strip()) for cell in line.strip("|").split("|"))
        if not line.startswith("|--"):
            _go_on(found, Block("table", rows=(*(last.rows if last.kind == "table" else ()), cells)))
    else:
        _go_on(found, Block("text", (*(last.lines if last.kind == "text" else ()), spans(line))))


def _go_on(found: list[Block], block: Block) -> None:
    if found and found[-1].kind == block.kind:
        found[-1] = block
    else:
        found.append(block)


def spans(line: str) -> tuple[Span, ...]:
    """A line with its `code` and **strong** parts apart."""
    made = []
    for piece in _SPAN.split(line):
        if piece.startswith("`") and len(piece) > 2:
            made.append(Span(piece[1:-1], "code"))
        elif piece.startswith("**") and len(piece) > 4:
            made.append(Span(piece[2:-2], "b"))
        elif piece:
            made.append(Span(piece))
    return tuple(made)
