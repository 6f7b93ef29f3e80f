"""The shape of a dialect's table."""

from collections.abc import Mapping

import msgspec


class Flattened(msgspec.Struct, frozen=True):
    """Messages or documents spread over keys: `{prefix}{i}.{infix}{name}`."""

    prefix: str
    infix: str = ""


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """`fields`: field → attribute keys. `operations`: marker key → its value → our operation.

    `tokens` are inclusive totals (input holds cached, output holds reasoning), as OpenTelemetry and OpenInference say.
    """

    name: str
    fields: Mapping[str, tuple[str, ...]] = {}
    tokens: Mapping[str, tuple[str, ...]] = {}
    operations: Mapping[str, Mapping[str, str]] = {}
    input: tuple[str, ...] = ()  # keys that hold what went in, as text or JSON
    output: tuple[str, ...] = ()
    flat_input: tuple[Flattened, ...] = ()
    flat_output: tuple[Flattened, ...] = ()
    documents: tuple[str, ...] = ()  # keys that hold a list of documents
    flat_documents: tuple[Flattened, ...] = ()
