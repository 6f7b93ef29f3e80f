"""ClickHouse's HTTP interface over chDB, the same engine in one process: what the tests' client talks to.

    server.py FOLDER [PORT [PASSWORD]]      prints its port, answers on loopback until its standard input ends

Run by an environment of its own (`make chdb`): the engine is 550 MB unpacked and no part of the product. A request has
a connection to the engine of its own, and so has each session: settings and temporary tables are theirs alone.
"""

import base64
import gzip
import os
import re
import sys
import threading
import uuid
from collections import OrderedDict
from contextlib import contextmanager
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlparse

import chdb

FOLDER = Path(sys.argv[1])
PORT = int(sys.argv[2]) if len(sys.argv) > 2 else 0
PASSWORD = sys.argv[3] if len(sys.argv) > 3 else ""
ROOT = chdb.connect(str(FOLDER / "db"))  # the engine ends with its last connection
LOCK = threading.Lock()
FREE: dict = {}  # (database, settings) → connections that nobody uses
SESSIONS: OrderedDict = OrderedDict()  # id → connection
SESSIONS_MAX = 30
_FORMAT = re.compile(r"\bFORMAT\s+(\w+)\s*;?\s*$", re.IGNORECASE)
_INSERT = re.compile(r"^\s*INSERT\s+INTO\b.*?\bFORMAT\s+(\w+)\s*", re.IGNORECASE | re.DOTALL)
_INSERTING = {
    *("insert_deduplication_token", "insert_deduplicate", "max_insert_threads", "max_partitions_per_insert_block"),
    "input_format_parquet_preserve_order",
}
_SETTINGS = {
    *("final", "do_not_merge_across_partitions_select_final", "aggregate_functions_null_for_empty", "join_use_nulls"),
    *(
        "cast_keep_nullable",
        "prefer_column_name_to_alias",
        "mutations_sync",
        "union_default_mode",
        "lightweight_deletes_sync",
    ),
}


def fresh(database, settings):
    connection = chdb.connect(str(FOLDER / "db"))
    if database:
        if database not in FREE:
            connection.query(f"CREATE DATABASE IF NOT EXISTS {database}")
            FREE[database] = []
        connection.query(f"USE {database}")
    if settings:
        connection.query("SET " + ", ".join(f"{name} = '{value}'" for name, value in settings))
    return connection


@contextmanager
def engine(asked):
    """A connection that is this request's alone, or its session's."""
    database = asked.get("database", "")
    settings = tuple(sorted((name, value) for name, value in asked.items() if name in _SETTINGS))
    if ident := asked.get("session_id"):
        with LOCK:
            found = SESSIONS.pop(ident, None) or fresh(database, settings)
            SESSIONS[ident] = found
            while len(SESSIONS) > SESSIONS_MAX:
                SESSIONS.popitem(last=False)[1].close()
        yield found
        return
    with LOCK:
        free = FREE.setdefault((database, settings), [])
        found = free.pop() if free else fresh(database, settings)
    yield found  # one that failed is not used again
    with LOCK:
        free.append(found)


def answer(sql, data, asked, fmt):
    with engine(asked) as connection:
        if inserting := _INSERT.match(sql):
            insert(connection, sql, inserting, data, asked)
            return b"", fmt
        if found := _FORMAT.search(sql):
            fmt, sql = found.group(1), sql[: found.start()]
        values = {name.removeprefix("param_"): value for name, value in asked.items() if name.startswith("param_")}
        result = connection.query(sql, fmt, params=values) if values else connection.query(sql, fmt)
        return (result.bytes() if result is not None else b""), fmt


def insert(connection, sql, found, data, asked):
    path = FOLDER / f"{uuid.uuid4().hex}.data"
    path.write_bytes(sql[found.end() :].encode("utf8", "surrogateescape") + data)
    head = sql[: found.start(1)].rstrip().removesuffix("FORMAT")
    head, _, own = head.partition(" SETTINGS ")
    settings = [own.strip()] if own.strip() else []
    settings += [f"{name} = '{value}'" for name, value in asked.items() if name in _INSERTING]
    head += f" FROM INFILE '{path}'" + (f" SETTINGS {', '.join(settings)}" if settings else "")
    try:
        connection.query(f"{head} FORMAT {found.group(1)}")
    finally:
        path.unlink()


def form(content_type, body):
    parts = BytesParser(policy=HTTP).parsebytes(f"Content-Type: {content_type}\r\n\r\n".encode() + body)
    return {
        str(part.get_param("name", header="content-disposition")): part.get_payload(decode=True).decode()
        for part in parts.iter_parts()
    }


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer's head and body leave together: apart, the second waits 40 ms for the first's receipt
    disable_nagle_algorithm = True

    def log_message(self, *_words):
        pass

    def do_GET(self):
        self.go(b"")

    def do_POST(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.go(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
        body = b""
        while count := int(self.rfile.readline().strip() or b"0", 16):
            body += self.rfile.read(count)
            self.rfile.readline()
        self.rfile.readline()
        return self.go(body)

    def allowed(self):
        given = self.headers.get("Authorization", "").removeprefix("Basic ")
        return not PASSWORD or base64.b64decode(given).decode().partition(":")[2] == PASSWORD

    def go(self, body):
        url = urlparse(self.path)
        asked = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        if url.path == "/ping":
            return self.out(200, b"Ok.\n")
        if not self.allowed():
            return self.out(403, b"Code: 516. DB::Exception: default: Authentication failed. (AUTHENTICATION_FAILED)")
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        if "multipart/form-data" in self.headers.get("Content-Type", ""):  # many parameters are sent as a form
            asked |= form(self.headers["Content-Type"], body)
            body = b""
        sql, data = asked.get("query", ""), body
        if not sql:
            sql, data = body.decode("utf8", "surrogateescape"), b""
        fmt = self.headers.get("X-ClickHouse-Format") or asked.get("default_format") or "TabSeparated"
        try:
            return self.out(200, *answer(sql, data, asked, fmt))
        except Exception as error:  # noqa: BLE001  # whatever the engine says is the answer
            return self.out(500, str(error).encode())

    def out(self, code, body, fmt="TabSeparated"):
        self.send_response(code)
        for name, value in {
            "Content-Length": str(len(body)), "X-ClickHouse-Format": fmt, "X-ClickHouse-Timezone": "UTC",
            "X-ClickHouse-Summary": "{}", "X-ClickHouse-Query-Id": uuid.uuid4().hex,
            **({} if code == 200 else {"X-ClickHouse-Exception-Code": "1000"}),
        }.items():  # fmt: skip
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", PORT), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()
    os._exit(0)  # the engine's own end waits for minutes, and nothing here outlives the tests
