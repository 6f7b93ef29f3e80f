"""One small pure function for each item that is measured: (evidence, item) → outcome."""

from pilothouse.review.checks import (
    cost,
    deadline,
    governance,
    monitoring,
    overload,
    quality,
    records,
    recovery,
    runtime,
    security,
    structured,
    tokens,
    versioning,
)
from pilothouse.review.result import Check

CHECKS: dict[str, Check] = {
    **versioning.CHECKS,
    **records.CHECKS,
    **quality.CHECKS,
    **structured.CHECKS,
    **runtime.CHECKS,
    **deadline.CHECKS,
    **overload.CHECKS,
    **cost.CHECKS,
    **tokens.CHECKS,
    **security.CHECKS,
    **monitoring.CHECKS,
    **recovery.CHECKS,
    **governance.CHECKS,
}
