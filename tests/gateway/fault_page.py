"""docs/fault-matrix.md, written from the rows of the fault matrix and what was seen of them.

python -m tests.gateway.fault_page          play all rows and write the page
"""

import asyncio
import sys
import tempfile
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

from tests.gateway.fault_clients import CLIENTS
from tests.gateway.fault_matrix import ROWS
from tests.gateway.fault_stage import Row, Seen, play

PAGE = Path(__file__).parents[2] / "docs" / "fault-matrix.md"
HEAD = """\
<!-- Written by tests/gateway/fault_page.py from what the tests saw. Edit fault_matrix.py beside it, run it. -->

# Fault matrix

What comes of {count} faults: each is staged with the [scripted provider](providers.md) behind a whole edge, over real
sockets, in every test run, and the run fails where this page says anything else than what was seen.

- **Client** is what the client gets: the status, whether a stream is complete or ends in an error event, and the
  error's `code`. No stream ends in neither.
- **Calls** are the attempts in the record: what each was for, the model where it is not the route's own, and its error
  or `ok`.
- **USD** is the record's cost. A call that says what it used costs 0.025 USD here (20 + 5 tokens at 0.001 USD) unless
  the row says otherwise. “About” is for tokens that the provider did not report and we counted. “None” is for requests
  that used nothing, as far as anybody said; “unknown” is not 0.
- **Record** is what else is in the journal. There is exactly one record for each request, its cost is the sum of its
  attempts', and from its payload the same upstream body can be made again, byte for byte. The rows check that.

In brackets is the kind of the route's provider; without, it speaks every API itself. `local` speaks chat alone. A
number in the last column is that of a complaint in the [last table](#what-users-of-other-gateways-complain-about).

"""
COMPLAINTS = {  # of section 1.3 of the survey that the product began with, by number
    "7": "A stream is cut, stalls or turns to garbage, or says “overloaded”, and no fallback is called; streams and "
    "other APIs bypass fallback and retry",
    "8": "Tool calls are dropped, merged or come in one burst when formats are bridged",
    "9": "Usage of a stream is undercounted when proxies are chained",
    "10": "Cached tokens are charged twice or at the full price",
    "11": "Budgets are exceeded; some keys, APIs and retries are exempt",
    "12": "Limits are passed by a burst; a token rule makes `max_tokens` mandatory",
    "13": "A failing deployment stays in rotation, above all at low traffic, after retries, and as a fallback; a "
    "request fails that could have waited for the cooldown",
    "14": "No timeout for the first token; no queue instead of 429",
    "15": "A truncated stream looks complete; a 200 holds an error; a guardrail that denies the answer ends the "
    "request; the client's own timeout is not known",
    "16": "A truncation is not signalled",
    "18": "No idle timeout; a route that truncates streams is not benched; a cooldown shorter than Retry-After",
}
KINDS = {"claude": "anthropic", "plain": "local", "chain": "Pilothouse"}
COLUMNS = ("fault", "API", "policy", "client", "calls", "USD", "record", "no.")
TOLD = """\
## What users of other gateways complain about

Complaints that were filed against other gateways, and the rows that stage them. Limits over several workers and hosts,
memory over days and the speed of the path cannot be seen in single requests: they have tests and benchmarks of their
own.
"""


def page(rows: Sequence[Row], seen: Mapping[str, Seen]) -> str:
    """The page's text."""
    lines = [HEAD.format(count=len(rows))]
    for name, members in groupby(rows, key=lambda row: row.group):
        lines += [f"## {name}\n", *_head(*COLUMNS)]
        lines += [_line(row, seen[row.id]) for row in members]
        lines.append("")
    lines += [TOLD, *_head("no.", "complaint", "staged as", "under", "client", "calls", "USD")]
    for number, complaint in COMPLAINTS.items():
        for i, row in enumerate(row for row in rows if row.complaint == number):
            what = (number, complaint) if i == 0 else ("", "")
            end = seen[row.id]
            lines.append(_cells(*what, f"{row.fault}: {_api(row)}", row.policy, end.answer, end.attempts, end.money))
    return "\n".join(lines) + "\n"


def _head(*columns: str) -> list[str]:
    return [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]


def _line(row: Row, seen: Seen) -> str:
    money = "" if seen.record.startswith("none") else seen.money
    said = (row.fault, _api(row), row.policy, seen.answer, seen.attempts, money, seen.record)
    return _cells(*said, row.complaint)


def _cells(*said: str) -> str:
    return "| " + " | ".join(one.replace("|", "\\|").replace("<", "&lt;") for one in said) + " |"


def _api(row: Row) -> str:
    kind = "" if row.at in ("fake", "openai", "gone", "tls", "full") else f" ({KINDS.get(row.at, row.at)})"
    return f"{'`/v1/rerank`' if row.api == 'rerank' else row.api}{' stream' if row.stream else ''}{kind}"


def main() -> None:
    """Play, and write what was seen, where it is what the rows expect."""
    with tempfile.TemporaryDirectory() as folder:
        seen = asyncio.run(play(Path(folder), list(ROWS), CLIENTS))
    wrong = [row.id for row in ROWS if seen[row.id] != row.seen]
    if wrong:
        sys.exit(f"not as expected: {', '.join(wrong)}")
    PAGE.write_text(page(ROWS, seen), encoding="utf-8")


if __name__ == "__main__":
    main()
