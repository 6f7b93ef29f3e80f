"""JSON answers of the control plane: one way to encode, one shape for errors (OpenAI's)."""

from typing import Any

import msgspec
from starlette.responses import Response

from pilothouse.domain.errors import PilothouseError


def json(value: Any, status: int = 200) -> Response:
    """`value` (structs included) as JSON."""
    return Response(msgspec.json.encode(value), status_code=status, media_type="application/json")


def failure_body(error: PilothouseError) -> dict[str, Any]:
    """An error as OpenAI shapes it, with our `where` and `hint` beside."""
    return {
        "error": {
            "message": str(error),
            "type": type(error).code,
            "code": error.kind,
            "param": None,
            "what": error.what,
            "where": error.where,
            "hint": error.hint,
        }
    }


def failure(error: PilothouseError) -> Response:
    """The HTTP answer to an error of the tree."""
    return json(failure_body(error), error.status)
