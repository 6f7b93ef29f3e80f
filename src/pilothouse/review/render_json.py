"""The review for machines: one object for each item, its public fields first."""

from typing import Any

import msgspec

from pilothouse.domain.finding import Review, RouteReview

FIELDS = (
    "id", "title", "status", "value", "n", "threshold", "owner", "fallback", "evidence", "fix", "measured_at",
)  # fmt: skip


def to_json(review: Review) -> dict[str, Any]:
    """Plain JSON values. Items are worst first, as on the page; an item has the fields of FIELDS, then further ones."""
    return {
        "measured_at": review.measured_at,
        "window": review.window,
        "ready": review.ready,
        "took_ms": round(review.took_ms, 3),
        "hosts": review.hosts,
        "routes": [_route(route) for route in review.routes],
    }


def _route(route: RouteReview) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(route)
    findings = fields.pop("findings")
    for name in ("observe", "evaluate", "roll_back"):
        fields[name] = None if fields[name] is None else round(fields[name], 4)
    first = set(FIELDS)
    items = [
        {name: found[name] for name in FIELDS}
        | {name: value for name, value in found.items() if name not in first}
        | {"route": route.route, "env": route.env}
        for found in findings
    ]
    return {**fields, "items": items}


def from_json(data: dict[str, Any]) -> Review:
    """The Review that `to_json` made `data` of, so that a client can print it; raises `msgspec.ValidationError`."""
    routes = [{**route, "findings": route["items"]} for route in data["routes"]]
    return msgspec.convert({**data, "routes": routes}, Review)
