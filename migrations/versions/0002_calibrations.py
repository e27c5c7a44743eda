"""Calibrations: how to tell matches, for each tenant, space and kind of question."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    """Go one step up."""
    op.create_table(
        "calibrations",
        sa.Column("tenant_id", sa.String(length=200), nullable=False),
        sa.Column("space_id", sa.String(length=64), nullable=False),
        sa.Column("modality", sa.String(length=16), nullable=False),
        sa.Column("content", JSON, nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.id"], name="fk_calibrations_tenant_id_tenants", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["space_id"], ["spaces.id"], name="fk_calibrations_space_id_spaces", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "space_id", "modality", name="pk_calibrations"),
    )


def downgrade() -> None:
    """Go one step down."""
    op.drop_table("calibrations")
