"""`store:` of pilothouse.yaml: where state and telemetry are kept when this host's own files are not the place."""

from urllib.parse import parse_qs, urlsplit, urlunsplit

import msgspec

from pilothouse.config.provider import absolute, reference
from pilothouse.config.section import Section, text

_CLICKHOUSE = ("clickhouse", "clickhouses")
_POSTGRESQL = ("postgresql", "postgres")


class StoreConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Addresses without passwords, empty for files in the data directory; passwords by reference.

    `state`: a PostgreSQL database. `telemetry`: a ClickHouse database.
    """

    state: str = ""
    state_password: str = ""
    telemetry: str = ""
    telemetry_password: str = ""


def read_store(top: Section) -> StoreConfig:
    """The section; raises ConfigError with file and line."""
    section = top.section("store")
    if section is None:
        return StoreConfig()
    folder = section.file.parent
    result = StoreConfig(
        state=section.take("state", state_address, ""),
        state_password=absolute(section.take("state_password", reference, ""), folder),
        telemetry=section.take("telemetry", _telemetry, ""),
        telemetry_password=absolute(section.take("telemetry_password", reference, ""), folder),
    )
    for place, secret in (("state", "state_password"), ("telemetry", "telemetry_password")):
        if secret in section and place not in section:
            raise section.error(f"{place!r} is missing", section.node(secret), hint=f"add `{place}: …`")
    section.close()
    return result


def state_address(value: object) -> str:
    """The address of a PostgreSQL database without a password; ValueError where it is none."""
    found = text(value)
    parts = urlsplit(found)
    if parts.scheme not in _POSTGRESQL or not parts.hostname or parts.path in ("", "/"):
        raise ValueError("not an address such as postgresql://user@host/database")
    if parts.password is not None or "password" in parse_qs(parts.query):
        raise ValueError("the password does not belong here: write `state_password: env://NAME`")
    return urlunsplit(parts._replace(scheme="postgresql"))


def _telemetry(value: object) -> str:
    found = text(value)
    parts = urlsplit(found)
    if parts.scheme not in _CLICKHOUSE or not parts.hostname:
        raise ValueError("not an address such as clickhouse://user@host:8123/database")
    if parts.password is not None:
        raise ValueError("the password does not belong here: write `telemetry_password: env://NAME`")
    return found
