"""What people say of the fields they declare."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go one step up."""
    op.add_column("fields", sa.Column("description", sa.Text(), nullable=True))
    op.add_column("fields", sa.Column("facet", sa.Boolean(), nullable=True))


def downgrade() -> None:
    """Go one step down."""
    op.drop_column("fields", "facet")
    op.drop_column("fields", "description")
