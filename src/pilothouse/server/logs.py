"""Logs of our processes: one JSON object a line, tracebacks without local variables, which may hold secrets."""

import sys
from typing import TextIO

import structlog


def configure(out: TextIO | None = None, *, level: str = "info") -> None:
    """Log to `out` (stderr where not given) from now on."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,  # plain traceback text: no locals
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: structlog.WriteLogger(out or sys.stderr),  # stderr as it is when something is said
    )
