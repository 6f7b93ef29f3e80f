"""What plans, rollbacks, indexes and providers leave behind. Frozen, as every migration is."""

import sqlalchemy as sa
from alembic import op

revision = "v0004"
down_revision = "v0003"


def upgrade() -> None:
    """Create the tables, and give rollbacks their times."""
    op.create_table(
        "step_evidence",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("route", sa.Text(), nullable=False),
        sa.Column("env", sa.Text(), nullable=False),
        sa.Column("release", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("evidence", sa.Text(), server_default="{}", nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("ts_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_step_evidence")),
    )
    op.create_index(op.f("ix_step_evidence_route_env_release"), "step_evidence", ["route", "env", "release"])
    op.create_table(
        "index_versions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("notes", sa.Text(), server_default="", nullable=False),
        sa.Column("documents", sa.BigInteger(), nullable=True),
        sa.Column("built_us", sa.BigInteger(), nullable=True),
        sa.Column("registered_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_index_versions")),
    )
    op.create_index(op.f("ix_index_versions_name_version"), "index_versions", ["name", "version"], unique=True)
    op.create_table(
        "sightings",
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("served_model", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("first_us", sa.BigInteger(), nullable=False),
        sa.Column("last_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("provider", "model", "served_model", "fingerprint", name=op.f("pk_sightings")),
    )
    op.create_table(
        "probe_days",
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("day", sa.Text(), nullable=False),
        sa.Column("ts_us", sa.BigInteger(), nullable=False),
        sa.Column("answers", sa.Text(), nullable=False),
        sa.Column("compared_with", sa.Text(), server_default="", nullable=False),
        sa.Column("p", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("provider", "model", "day", name=op.f("pk_probe_days")),
    )
    op.add_column("rollbacks", sa.Column("part", sa.Text(), server_default="", nullable=False))
    for name in ("t_detect_us", "t_decide_us", "t_flip_us", "t_last_bad_us"):
        op.add_column("rollbacks", sa.Column(name, sa.BigInteger(), nullable=True))
