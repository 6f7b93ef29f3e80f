"""`retention:` of pilothouse.yaml: how long each class of records stays, and how much disk they may take."""

from collections.abc import Collection
from typing import Any

import msgspec

from pilothouse.config.quantities import seconds, size_bytes
from pilothouse.config.section import Section

DAY_S = 86_400
FLOOR_DAYS = 30  # what the review's trends look back over, and two days


class Keep(msgspec.Struct, frozen=True, kw_only=True):
    """Days (UTC) that records stay; None: for ever. `requests` are these with their attempts and scores."""

    payloads: int | None = None
    spans: int | None = None
    requests: int | None = None
    floor: int = FLOOR_DAYS  # requests and spans younger than this are never removed, not for lack of disk either


class RetentionConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing is removed unless it is asked for here."""

    general: Keep = Keep()
    metrics: int | None = None
    rollups: int | None = None
    disk_cap: int | None = None  # bytes, of everything that telemetry keeps
    routes: dict[str, Keep] = {}  # those with rules of their own; what they leave out is the general one


def read_retention(top: Section, routes: Collection[str]) -> RetentionConfig:
    """The section; raises ConfigError with file and line."""
    section = top.section("retention")
    if section is None:
        return RetentionConfig()
    general = _keep(section, Keep())
    own = {}
    for name, keep in section.sections("routes"):
        if name not in routes:
            known = ", ".join(sorted(routes)) or "none"
            raise keep.error(f"no route {name!r}", hint=f"routes: {known}")
        own[name] = _keep(keep, general)
        keep.close()
    result = RetentionConfig(
        general=general,
        metrics=section.maybe("metrics", days),
        rollups=section.maybe("rollups", days),
        disk_cap=section.maybe("disk_cap", size_bytes),
        routes=own,
    )
    section.close()
    return result


def days(value: Any) -> int:
    """`30d` → 30; ValueError for what is no whole number of days: whole days are what is removed."""
    found = seconds(value)
    if found < DAY_S or found % DAY_S:
        raise ValueError(f"{value!r} is not a whole number of days such as 30d")
    return int(found) // DAY_S


def _keep(section: Section, base: Keep) -> Keep:
    keep = Keep(
        payloads=section.take("payloads", days, base.payloads),
        spans=section.take("spans", days, base.spans),
        requests=section.take("requests", days, base.requests),
        floor=section.take("floor", _floor, base.floor),
    )
    for name, kept in (("spans", keep.spans), ("requests", keep.requests)):
        if kept is not None and kept < keep.floor:
            node = section.node(name) if name in section else None
            raise section.error(
                f"{name}: {kept}d is under the floor of {keep.floor}d", node,
                hint=f"keep them longer, or write `floor: {kept}d` if nothing needs them",
            )  # fmt: skip
    return keep


def _floor(value: Any) -> int:
    return 0 if str(value).strip() in ("0", "0d") else days(value)
