"""What each host saw of running canaries and of the rules' metrics, and the table with which each share of a canary
began. Frozen, as every migration is."""

import sqlalchemy as sa
from alembic import op

revision = "v0008"
down_revision = "v0006"


def upgrade() -> None:
    """Create the tables, add the column."""
    op.create_table(
        "canary_counts",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("ident", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("seen_us", sa.BigInteger(), nullable=False),
        sa.Column("told", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["canary_runs.id"], name=op.f("fk_canary_counts_run_id_canary_runs")),
        sa.PrimaryKeyConstraint("run_id", "ident", name=op.f("pk_canary_counts")),
    )
    op.create_table(
        "rule_readings",
        sa.Column("ident", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("seen_us", sa.BigInteger(), nullable=False),
        sa.Column("readings", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("ident", name=op.f("pk_rule_readings")),
    )
    op.add_column("canary_steps", sa.Column("revision", sa.Integer(), server_default="0", nullable=False))
