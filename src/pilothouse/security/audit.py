"""Is the change log whole? Recomputes the chain: every row's hash holds all rows before it."""

from collections.abc import Iterable

import msgspec

from pilothouse.domain.change import ChainedChange, link_hash


class AuditReport(msgspec.Struct, frozen=True):
    """`rows` verified before the end or the first bad one; `head` is the last good hash, to keep elsewhere."""

    ok: bool
    rows: int
    head: str
    first_bad_seq: int | None = None
    reason: str = ""


def verify(rows: Iterable[ChainedChange]) -> AuditReport:
    """Check the whole log, from row 1, in order.

    Finds an edited, removed, inserted or reordered row. A log that was rewritten whole, or lost its newest rows, is
    consistent in itself: compare `head` and `rows` with those kept outside.
    """
    seq, head = 0, ""
    for row in rows:
        reason = _fault(row, seq + 1, head)
        if reason:
            return AuditReport(ok=False, rows=seq, head=head, first_bad_seq=row.seq, reason=reason)
        seq, head = row.seq, row.hash
    return AuditReport(ok=True, rows=seq, head=head)


def _fault(row: ChainedChange, seq: int, head: str) -> str:
    """What is wrong with a row that should be number `seq` and follow `head`; empty where nothing is."""
    if row.seq != seq:
        return f"row {seq} is missing: row {row.seq} stands in its place"
    if row.prev_hash != head:
        return f"row {seq} does not follow the row before it: one of the two was changed"
    if row.hash != link_hash(head, row.seq, row.ts_us, row.change):
        return f"row {seq} was changed after it was written: its content does not give its hash"
    return ""
