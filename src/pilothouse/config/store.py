"""`store:` of pilothouse.yaml: where telemetry is kept."""

from urllib.parse import urlsplit

import msgspec

from pilothouse.config.provider import absolute, reference
from pilothouse.config.section import Section, text

_SCHEMES = ("clickhouse", "clickhouses")


class StoreConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`telemetry`: the address of a ClickHouse database; empty for DuckDB in the data directory."""

    telemetry: str = ""
    password: str = ""  # a reference


def read_store(top: Section) -> StoreConfig:
    """The section; raises ConfigError with file and line."""
    section = top.section("store")
    if section is None:
        return StoreConfig()
    result = StoreConfig(
        telemetry=section.need("telemetry", _address),
        password=absolute(section.take("password", reference, ""), section.file.parent),
    )
    section.close()
    return result


def _address(value: object) -> str:
    found = text(value)
    parts = urlsplit(found)
    if parts.scheme not in _SCHEMES or not parts.hostname:
        raise ValueError(f"{found!r} is no address such as clickhouse://user@host:8123/database")
    if parts.password is not None:
        raise ValueError("a password is named by reference, never written here: use `password: env://NAME`")
    return found
