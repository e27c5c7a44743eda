"""Ingests that workers take up again: what was sent for them, and who is at them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    """Go one step up."""
    op.add_column("ingests", sa.Column("job", JSON, nullable=True))
    op.add_column("ingests", sa.Column("rung_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("ingests", sa.Column("attempts", sa.Integer(), nullable=False, server_default=sa.text("0")))
    op.add_column("ingests", sa.Column("lease_owner", sa.String(length=200), nullable=True))
    op.add_column("ingests", sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    """Go one step down."""
    for name in ("lease_until", "lease_owner", "attempts", "rung_at", "job"):
        op.drop_column("ingests", name)
