"""ClickHouse's HTTP interface over chDB, the same engine in one process: what the tests' client talks to.

    server.py FOLDER        prints its port, answers on loopback until its standard input ends

Run by an environment of its own (`make chdb`): the engine is 550 MB unpacked and no part of the product.
"""

import gzip
import os
import re
import sys
import threading
import uuid
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlparse

from chdb import session

FOLDER = Path(sys.argv[1])
ENGINE = session.Session(str(FOLDER / "db"))
LOCK = threading.Lock()
_FORMAT = re.compile(r"\bFORMAT\s+(\w+)\s*;?\s*$", re.IGNORECASE)
_INSERT = re.compile(r"^\s*INSERT\s+INTO\b.*?\bFORMAT\s+(\w+)\s*", re.IGNORECASE | re.DOTALL)
_SETTINGS = {
    *("final", "do_not_merge_across_partitions_select_final", "aggregate_functions_null_for_empty", "join_use_nulls"),
    *("cast_keep_nullable", "prefer_column_name_to_alias", "insert_deduplication_token", "insert_deduplicate"),
}


def answer(sql: str, data: bytes, asked: dict[str, str], fmt: str) -> tuple[bytes, str]:
    settings = ", ".join(f"{name} = '{value}'" for name, value in asked.items() if name in _SETTINGS)
    with LOCK:
        if database := asked.get("database"):
            ENGINE.query(f"CREATE DATABASE IF NOT EXISTS {database}")
            ENGINE.query(f"USE {database}")
        if inserting := _INSERT.match(sql):
            path = FOLDER / f"{uuid.uuid4().hex}.data"
            path.write_bytes(sql[inserting.end() :].encode("utf8", "surrogateescape") + data)
            head = sql[: inserting.start(1)].rstrip().removesuffix("FORMAT")
            head, _, own = head.partition(" SETTINGS ")
            settings = ", ".join(part for part in (own.strip(), settings) if part)
            head += f" FROM INFILE '{path}'" + (f" SETTINGS {settings}" if settings else "")
            try:
                ENGINE.query(f"{head} FORMAT {inserting.group(1)}")
            finally:
                path.unlink()
            return b"", fmt
        if found := _FORMAT.search(sql):
            fmt, sql = found.group(1), sql[: found.start()]
        if settings and re.match(r"\s*(SELECT|WITH|\()", sql, re.IGNORECASE):
            sql = f"SELECT * FROM (\n{sql}\n) SETTINGS {settings}"
        elif settings and re.match(r"\s*CREATE\b.*\bAS\b", sql, re.IGNORECASE | re.DOTALL):
            sql += f"\nSETTINGS {settings}"
        values = {name.removeprefix("param_"): value for name, value in asked.items() if name.startswith("param_")}
        result = ENGINE.query(sql, fmt, params=values) if values else ENGINE.query(sql, fmt)
        return (result.bytes() if result is not None else b""), fmt


def form(content_type: str, body: bytes) -> dict[str, str]:
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

    def go(self, body):
        url = urlparse(self.path)
        asked = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        if url.path == "/ping":
            return self.out(200, b"Ok.\n")
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
        except Exception as error:  # whatever the engine says is the answer
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
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()
    sys.stdout.flush()
    os._exit(0)  # the engine's own end waits for minutes, and nothing here outlives the tests
