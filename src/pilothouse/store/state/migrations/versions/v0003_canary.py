"""What a canary's shares were and when, what each look saw, and what was asked of it again. Frozen, as all are."""

import sqlalchemy as sa
from alembic import op

revision = "v0003"
down_revision = "v0002"


def upgrade() -> None:
    """Create the tables."""
    run = ("canary_runs.id",)
    op.create_table(
        "canary_steps",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("ts_us", sa.BigInteger(), nullable=False),
        sa.Column("share", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], run, name=op.f("fk_canary_steps_run_id_canary_runs")),
        sa.PrimaryKeyConstraint("run_id", "ts_us", name=op.f("pk_canary_steps")),
    )
    op.create_table(
        "canary_looks",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("ts_us", sa.BigInteger(), nullable=False),
        sa.Column("look", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], run, name=op.f("fk_canary_looks_run_id_canary_runs")),
        sa.PrimaryKeyConstraint("run_id", "ts_us", name=op.f("pk_canary_looks")),
    )
    op.create_table(
        "canary_pairs",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("answer_id", sa.Text(), server_default="", nullable=False),
        sa.Column("winner", sa.Text(), server_default="", nullable=False),
        sa.Column("detail", sa.Text(), server_default="", nullable=False),
        sa.Column("cost_usd", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(["run_id"], run, name=op.f("fk_canary_pairs_run_id_canary_runs")),
        sa.PrimaryKeyConstraint("run_id", "request_id", name=op.f("pk_canary_pairs")),
    )
