"""`store:` of pilothouse.yaml: where state is kept when this host's own files are not the place."""

import urllib.parse
from typing import Any

import msgspec

from pilothouse.config.provider import absolute, reference
from pilothouse.config.section import Section


class StoreConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`state`: a PostgreSQL address without a password, empty for this host's file; its password by reference."""

    state: str = ""
    state_password: str = ""


def read_store(top: Section) -> StoreConfig:
    """The section; raises ConfigError with file and line."""
    section = top.section("store")
    if section is None:
        return StoreConfig()
    result = StoreConfig(
        state=section.take("state", _address, ""),
        state_password=absolute(section.take("state_password", reference, ""), section.file.parent),
    )
    section.close()
    return result


def _address(value: Any) -> str:
    parts = urllib.parse.urlsplit(str(value))
    if parts.scheme not in ("postgresql", "postgres") or not parts.hostname or parts.path in ("", "/"):
        raise ValueError("not an address such as postgresql://user@host/database")
    if parts.password is not None or "password" in urllib.parse.parse_qs(parts.query):
        raise ValueError("the password does not belong here: write `state_password: env://NAME`")
    return urllib.parse.urlunsplit(parts._replace(scheme="postgresql"))
