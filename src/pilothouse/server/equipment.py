"""What a gateway works with beside its wires and counters: guardrails, and the cache."""

import importlib.util
from pathlib import Path

from pilothouse.domain.clock import Clock
from pilothouse.domain.table import CounterSettings
from pilothouse.domain.wires import SecretReader
from pilothouse.gateway.cache import Answers
from pilothouse.gateway.guards.engine import Book
from pilothouse.gateway.semantic import Near
from pilothouse.security.detect import Detector
from pilothouse.store.cache.memory import Memory
from pilothouse.store.cache.valkey import ValkeyAnswers


def guards(app_dir: Path | None) -> Book:
    """The guardrails of every policy; an app's own are found in `app_dir`."""
    return Book(Detector(), app_dir)


def answers(settings: CounterSettings, clock: Clock, secret: SecretReader) -> Answers:
    """The cache: in memory, or in the Valkey that also counts. Compares by meaning where the extra is installed."""
    backend = ValkeyAnswers(secret(settings.url), clock) if settings.kind == "valkey" else Memory(clock)
    near = Near() if importlib.util.find_spec("wordllama") is not None else None
    return Answers(backend, clock, near)
