"""Generations: pictures that were asked for; assets tell whether they were generated."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
KEPT = sa.text("state IN ('queued', 'running', 'finished')")


def upgrade() -> None:
    """Go one step up."""
    op.add_column("assets", sa.Column("generated", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_table(
        "generations",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.String(length=200), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("generator", sa.Text(), nullable=False),
        sa.Column("request", JSON, nullable=False),
        sa.Column("withheld", JSON, nullable=True),
        sa.Column("prompt", sa.Text(), nullable=True),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("images", sa.Integer(), nullable=False),
        sa.Column("parents", JSON, nullable=False),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("weights_sha256", sa.String(length=64), nullable=True),
        sa.Column("pictures", JSON, nullable=False),
        sa.Column("progress", JSON, nullable=True),
        sa.Column("preview", sa.LargeBinary(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("cancel_asked", sa.Boolean(), nullable=False),
        sa.Column("lease_owner", sa.String(length=200), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("queued_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("rung_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.id"], name="fk_generations_tenant_id_tenants", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_generations"),
    )
    op.create_index(
        "uq_generations_tenant_id_key",
        "generations",
        ["tenant_id", "key"],
        unique=True,
        sqlite_where=KEPT,
        postgresql_where=KEPT,
    )
    op.create_index("ix_generations_tenant_id_queued_at_id", "generations", ["tenant_id", "queued_at", "id"])
    op.create_index("ix_generations_state_queued_at", "generations", ["state", "queued_at"])
    op.create_index("ix_generations_generator_finished_at", "generations", ["generator", "finished_at"])


def downgrade() -> None:
    """Go one step down."""
    op.drop_table("generations")
    op.drop_column("assets", "generated")
