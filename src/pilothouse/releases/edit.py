"""A release that is made by editing another one, or the app's files, and what it would be."""

from typing import Any

import msgspec

from pilothouse.domain.callers import Incompatible
from pilothouse.domain.manifest import Manifest
from pilothouse.domain.release import SchemaWarning


class Edit(msgspec.Struct, frozen=True, kw_only=True):
    """What a release is made of beside the app's files: `base`, an earlier release; `parts`, in the manifest's form.

    `newest`: the newest release when the edit was begun (0: none). `begun`: the manifest's hash that it began with.
    Where either is another now, nothing is made; empty: nobody minds.
    """

    base: int | None = None
    parts: dict[str, Any] = {}
    newest: int | None = None
    begun: str = ""


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """What would be made. `against`: what the environment serves; `callers`: requests compared with, None: no need."""

    before: Manifest
    after: Manifest
    against: int | None
    incompatible: tuple[Incompatible, ...] = ()
    callers: int | None = None
    warnings: tuple[SchemaWarning, ...] = ()
    floating_alias: str = ""
    same_as: int | None = None  # the newest release, where it holds exactly this
