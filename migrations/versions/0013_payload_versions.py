"""What the points of a space carry: by which version, and which pictures may carry less."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go one step up."""
    op.add_column("spaces", sa.Column("payload_version", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.add_column("spaces", sa.Column("payload_since", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    """Go one step down."""
    with op.batch_alter_table("spaces") as batch:
        batch.drop_column("payload_since")
        batch.drop_column("payload_version")
