"""The way to a ClickHouse server: over HTTP, with the official client; what it refuses is said as ours."""

import importlib
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pilothouse.domain.errors import StoreError
from pilothouse.store.telemetry.clickhouse_sql import SETTINGS, Params, translate

_PORTS = {"clickhouse": 8123, "clickhouses": 8443}
_ERRNO = re.compile(r"\[Errno -?\d+\] ([\w ]+)")
CONNECT_S, ANSWER_S = 5, 120
# A file is inserted in the same blocks each time, so that each is known again; it may hold any number of days.
_INSERTING = {
    "insert_deduplicate": 1,
    "max_insert_threads": 1,
    "input_format_parquet_preserve_order": 1,
    "max_partitions_per_insert_block": 0,
}


class Server:
    """A database on a server. Its methods may be called from any thread, and raise StoreError."""

    def __init__(self, url: str, password: str) -> None:
        self.url = url
        library = _library()
        parts = _address(url)
        with self.said("ClickHouse cannot be reached", "is it running, and are user and password right?"):
            self._client = library.get_client(
                host=parts.hostname,
                port=parts.port or _PORTS[parts.scheme],
                username=unquote(parts.username or "default"),
                password=password,
                database=parts.path.strip("/") or "default",
                secure=parts.scheme == "clickhouses",
                autogenerate_session_id=False,
                tz_mode="naive_utc",
                connect_timeout=CONNECT_S,
                send_receive_timeout=ANSWER_S,
            )

    def ask(self, sql: str, params: Params = (), session: str = "") -> Any:
        """The client's answer to a question in the store's SQL; a session keeps temporary tables."""
        text, bound = translate(sql, params)
        settings = SETTINGS | ({"session_id": session} if session else {})
        with self.said("the telemetry store refused a query"):
            if text.lstrip()[:6].upper() in ("CREATE", "DROP T"):
                return self._client.command(text, parameters=bound, settings=settings)
            return self._client.query(text, parameters=bound, settings=settings)

    def command(self, text: str, bound: dict[str, Any] | None = None) -> None:
        """A statement in ClickHouse's own words, done when this returns."""
        with self.said("the telemetry store refused a statement"):
            self._client.command(text, parameters=bound or {}, settings={"mutations_sync": 1})

    def insert(self, table: str, columns: Sequence[str], parquet: Path, token: str) -> None:
        """Insert a file's rows, once for a token."""
        with self.said("rows cannot be sent to the telemetry store"), parquet.open("rb") as file:
            self._client.raw_insert(
                table,
                column_names=list(columns),
                insert_block=file.read(),
                fmt="Parquet",
                settings=_INSERTING | {"insert_deduplication_token": token},
            )

    def fetch(self, sql: str, into: Path) -> None:
        """The answer as a Parquet file."""
        text, bound = translate(sql)
        with (
            self.said("the telemetry store refused a query"),
            into.open("wb") as file,
            self._client.raw_stream(text, parameters=bound, settings=SETTINGS, fmt="Parquet") as stream,
        ):
            shutil.copyfileobj(stream, file)

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()

    @contextmanager
    def said(self, what: str, hint: str = "") -> Iterator[None]:
        """What the client or its server says, as ours: the first line."""
        errors: tuple[type[Exception], ...] = (
            importlib.import_module("clickhouse_connect.driver.exceptions").ClickHouseError,
            OSError,
        )
        try:
            yield
        except errors as error:
            reason = str(error).strip().partition("\n")[0][:500]
            if errno := _ERRNO.search(str(error)):  # around it the client says all that it had asked
                reason = errno.group(1)
            raise StoreError(f"{what}: {reason}", where=self.url, hint=hint) from error


def _library() -> Any:
    try:
        return importlib.import_module("clickhouse_connect")
    except ImportError as error:
        raise StoreError(
            "ClickHouse needs the extra `clickhouse`", where="store", hint="pip install 'pilothouse[clickhouse]'"
        ) from error


def is_address(text: str) -> bool:
    """Whether this names a ClickHouse server, and no file."""
    return text.startswith(tuple(f"{scheme}://" for scheme in _PORTS))


def _address(url: str) -> Any:
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise StoreError("this is no ClickHouse address", where=url, hint="clickhouse://user@host:8123/database")
    return parts
