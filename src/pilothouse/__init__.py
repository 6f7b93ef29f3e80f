"""Pilothouse: a self-hosted control plane for LLM apps."""

__version__ = "0.1.0"
