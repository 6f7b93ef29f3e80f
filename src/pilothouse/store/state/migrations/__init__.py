"""Alembic's scripts for the state store; run by `engine.upgrade` inside the opener's transaction."""
