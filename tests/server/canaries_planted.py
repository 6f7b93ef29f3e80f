"""Canary secrets: one of each class for every place that they are sent through, and the search for them on disk."""

import base64
import json
import random
import sqlite3
import string
import sys
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import duckdb

from pilothouse.security.checks import luhn

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ALNUM = string.ascii_letters + string.digits
CORE = 10  # bytes of a form by which it is looked for first


class Canaries:
    """What was planted, by place."""

    def __init__(self) -> None:
        self.planted: dict[str, str] = {}  # the secret → class and place

    def text(self, place: str) -> str:
        """Words with a secret of each class, this place's own."""
        r = random.Random(place)
        key = "sk-ant-api03-q7Z" + "".join(r.choices(ALNUM, k=60))
        token = "ghp_q7Z" + "".join(r.choices(ALNUM, k=33))
        mail = f"canary{r.randrange(10**9)}@leak{r.randrange(10**6)}.example.org"
        body = "4" + "".join(r.choices(string.digits, k=14))
        card = body + next(c for c in string.digits if luhn((body + c).encode()))
        password = "q7Z" + "".join(r.choices(ALNUM, k=14))
        named = {"api key": key, "token": token, "email": mail, "card": card, "password": password}
        self.planted |= {value: f"{name} in {place}" for name, value in named.items()}
        return f"use {key} or {token}, mail {mail}, card {card} and password={password} ok"

    def forms(self) -> dict[bytes, str]:
        """Every form in which one could stand somewhere → which it is."""
        out: dict[bytes, str] = {}
        for value, where in self.planted.items():
            raw = value.encode()
            escaped = "".join(f"\\u{ord(c):04x}" for c in value)
            for form in (raw, urllib.parse.quote(value, safe="").encode(), escaped.encode(), raw.hex().encode()):
                out[form] = where
            for shift in range(3):
                coded = base64.b64encode(b"\0" * shift + raw)[4:-4]
                out[coded] = out[coded.replace(b"+", b"-").replace(b"/", b"_")] = where
        return out

    def leaks(self, *folders: Path) -> list[str]:
        """Where a canary stands in any file below, as bytes or as what the file holds packed."""
        cores: dict[bytes, list[bytes]] = {}
        forms = self.forms()
        for form in forms:
            cores.setdefault(form[-CORE:], []).append(form)
        found = set()
        for folder in folders:
            for name, data in contents(folder):
                pieces = {data[i : i + CORE] for i in range(len(data))} & cores.keys()
                near = (form for piece in pieces for form in cores[piece])
                found |= {f"{forms[form]} stands in {name}" for form in near if form in data}
        return sorted(found)


def contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file's bytes, and what is packed in it."""
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        data = path.read_bytes()
        name = str(path.relative_to(folder))
        yield name, data
        if data[:4] == b"\x28\xb5\x2f\xfd":
            yield f"{name} unpacked", zstd.decompress(data)
        elif data[:4] == b"PAR1":
            with duckdb.connect() as conn:
                yield f"{name} read", _rows(conn.execute(f"SELECT * FROM read_parquet('{path}')").fetchall())
        elif data[:15] == b"SQLite format 3":
            with sqlite3.connect(path) as db:
                yield f"{name} read", "\n".join(db.iterdump()).encode()
        elif data[8:12] == b"DUCK":
            with duckdb.connect(str(path), read_only=True) as conn:
                for (table,) in conn.execute("SELECT table_name FROM duckdb_tables()").fetchall():
                    yield f"{name} {table}", _rows(conn.execute(f'SELECT * FROM "{table}"').fetchall())
        yield f"the name of {name}", name.encode()


def _rows(rows: list[tuple[object, ...]]) -> bytes:
    return "\n".join(json.dumps(row, default=str, ensure_ascii=False) for row in rows).encode()
