"""Compiled JSON Schemas, kept by the hash of their content: compiling takes milliseconds, validating microseconds."""

from typing import Any

import jsonschema_rs

from pilothouse.domain.errors import ConfigError

KEPT_MAX = 1024
_kept: dict[str, Any] = {}


def validator(schema: dict[str, Any] | bool, schema_hash: str, of: str = "the release's schema") -> Any:
    """The compiled schema; raises ConfigError (`bad_schema`) where it is none. Remote references are not fetched."""
    kept = _kept.get(schema_hash)
    if kept is None:
        try:
            kept = jsonschema_rs.validator_for(schema)
        except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
            raise ConfigError(f"{of} is not a JSON Schema: {error}", code="bad_schema") from error
        if len(_kept) >= KEPT_MAX:
            _kept.clear()
        _kept[schema_hash] = kept
    return kept
