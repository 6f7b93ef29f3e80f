"""Every item of the checklist, in its order. Ids are stable and public."""

from pilothouse.domain.finding import Item
from pilothouse.review.catalogue import (
    cadence,
    cost,
    evaluation,
    governance,
    interpretation,
    monitoring,
    records,
    retrieval,
    rollback,
    runtime,
    security,
    structured,
    versioning,
)

LAYERS: tuple[tuple[Item, ...], ...] = (
    versioning.ITEMS,
    records.ITEMS,
    evaluation.ITEMS,
    structured.ITEMS,
    retrieval.ITEMS,
    runtime.ITEMS,
    cost.ITEMS,
    security.ITEMS,
    monitoring.ITEMS,
    rollback.ITEMS,
    cadence.ITEMS,
    interpretation.ITEMS,
    governance.ITEMS,
)
ITEMS: tuple[Item, ...] = tuple(item for layer in LAYERS for item in layer)
BY_ID: dict[str, Item] = {item.id: item for item in ITEMS}
