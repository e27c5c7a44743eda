"""What was told from the pixels of each picture."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    """Go one step up."""
    op.add_column("assets", sa.Column("attributes", JSON, nullable=True))


def downgrade() -> None:
    """Go one step down."""
    op.drop_column("assets", "attributes")
