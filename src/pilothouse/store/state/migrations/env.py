"""Alembic's entry: migrates over the connection that `engine.upgrade` hands in."""

from alembic import context

from pilothouse.store.state.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
