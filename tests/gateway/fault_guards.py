"""Guardrails of an app that the fault matrix plays."""

from pilothouse.gateway.guards.protocol import Seen


def no(_seen: Seen) -> None:
    raise RuntimeError("no verdict")
