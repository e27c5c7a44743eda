"""Words that models say of pictures, and what they are made with."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    """Go one step up."""
    op.add_column("assets", sa.Column("labels", JSON, nullable=True))
    op.create_table(
        "label_models",
        sa.Column("tenant_id", sa.String(length=200), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("space_id", sa.String(length=64), nullable=False),
        sa.Column("content", JSON, nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.id"], name="fk_label_models_tenant_id_tenants", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["space_id"], ["spaces.id"], name="fk_label_models_space_id_spaces", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "kind", "name", "space_id", name="pk_label_models"),
    )


def downgrade() -> None:
    """Go one step down."""
    op.drop_table("label_models")
    op.drop_column("assets", "labels")
