"""One small pure function for each item that is measured: (evidence, item) → outcome."""

from pilothouse.review.checks import (
    cost,
    governance,
    monitoring,
    quality,
    records,
    recovery,
    runtime,
    security,
    versioning,
)
from pilothouse.review.result import Check

CHECKS: dict[str, Check] = {
    **versioning.CHECKS,
    **records.CHECKS,
    **quality.CHECKS,
    **runtime.CHECKS,
    **cost.CHECKS,
    **security.CHECKS,
    **monitoring.CHECKS,
    **recovery.CHECKS,
    **governance.CHECKS,
}
