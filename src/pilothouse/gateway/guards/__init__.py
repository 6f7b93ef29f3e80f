"""Guardrails: what may go to a model and what may come back. One engine for every API, whole answers and streams."""
