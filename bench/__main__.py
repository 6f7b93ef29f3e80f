"""`python -m bench`: every figure of docs/benchmarks.md, in one run on one machine.

--seconds N    of load per figure (default 4)
--only NAME    edge, flags, ingest, redaction, review, questions or footprint
--no-peers     leave the comparisons out
--write        put the tables into docs/benchmarks.md
"""

import argparse
import os
import platform
import re
from pathlib import Path

import psutil

from bench import edge, flags, footprint, ingest, questions, redaction, review

PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"


def main() -> None:
    """Run what was asked for, print it as Markdown, and write it into the docs with --write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--only", choices=["edge", "flags", "ingest", "redaction", "review", "questions", "footprint"])
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    tables: dict[str, str] = {"machine": machine()}
    if options.only in (None, "footprint"):
        tables["footprint"] = footprint.table()
    if options.only in (None, "review"):
        tables["review"] = review.table()
    if options.only in (None, "questions"):
        tables["questions"] = questions.table()
    if options.only in (None, "redaction"):
        tables["redaction"] = redaction.table()
    if options.only in (None, "flags"):
        tables["flags"] = flags.table()
    if options.only in (None, "ingest"):
        tables["ingest"] = ingest.table(peers=not options.no_peers)
    if options.only in (None, "edge"):
        tables["edge"] = edge.table(options.seconds, peers=not options.no_peers)
    for name, table in tables.items():
        print(f"\n## {name}\n\n{table}", flush=True)
        if options.write:
            write(name, table)


def machine() -> str:
    """What the figures were measured on."""
    load = os.getloadavg()[0]
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{psutil.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}, load at the start {load:.1f}."
    )


def write(name: str, table: str) -> None:
    """Replace what stands between the page's markers for `name`."""
    text = PAGE.read_text(encoding="utf-8")
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if begin not in text:
        raise SystemExit(f"{PAGE} has no marker {begin}")
    changed = re.sub(
        re.escape(begin) + ".*?" + re.escape(end), lambda _: f"{begin}\n{table}\n{end}", text, flags=re.DOTALL
    )
    PAGE.write_text(changed, encoding="utf-8")


if __name__ == "__main__":
    main()
