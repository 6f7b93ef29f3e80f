"""The change log's chain: every kind of tampering is found, and where."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.domain.change import Actor, ChainedChange, Change, link_hash
from pilothouse.security.audit import verify


def chain(n: int) -> list[ChainedChange]:
    rows: list[ChainedChange] = []
    head = ""
    for seq in range(1, n + 1):
        change = Change(
            actor=Actor("person", "ana"),
            action="release.promote",
            object_type="release",
            object_id=str(seq),
            detail={"share": 0.1, "ü": [seq, None]},
        )
        digest = link_hash(head, seq, seq * 1_000, change)
        rows.append(ChainedChange(seq=seq, ts_us=seq * 1_000, change=change, prev_hash=head, hash=digest))
        head = digest
    return rows


def test_a_whole_chain_is_whole() -> None:
    rows = chain(50)
    report = verify(rows)
    assert (report.ok, report.rows, report.head, report.first_bad_seq) == (True, 50, rows[-1].hash, None)


def test_no_rows_are_a_whole_chain() -> None:
    assert verify([]) == verify(iter(()))
    assert verify([]).ok


def test_a_chain_read_back_from_json_is_whole() -> None:
    read = msgspec.json.decode(msgspec.json.encode(chain(5)), type=list[ChainedChange])
    assert verify(read).ok


@given(st.integers(0, 9), st.sampled_from(["reason", "ts", "hash", "drop", "swap", "reseal"]))
def test_tampering_is_found_at_its_row(place: int, how: str) -> None:
    rows = chain(12)
    row = rows[place]
    if how == "reason":
        rows[place] = msgspec.structs.replace(row, change=msgspec.structs.replace(row.change, reason="x"))
    elif how == "ts":
        rows[place] = msgspec.structs.replace(row, ts_us=row.ts_us + 1)
    elif how == "hash":
        rows[place] = msgspec.structs.replace(row, hash="0" * 64)
    elif how == "drop":
        del rows[place]
    elif how == "swap":
        rows[place], rows[place + 1] = rows[place + 1], rows[place]
    else:  # the row is changed and its own hash recomputed: the next row gives it away
        changed = msgspec.structs.replace(row.change, reason="x")
        digest = link_hash(row.prev_hash, row.seq, row.ts_us, changed)
        rows[place] = msgspec.structs.replace(row, change=changed, hash=digest)
    report = verify(rows)
    assert not report.ok
    assert report.rows == place + (how == "reseal")
    assert report.first_bad_seq is not None
    assert report.reason
