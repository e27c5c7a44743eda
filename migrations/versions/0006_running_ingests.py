"""Sweeps look every few seconds for ingests that nobody is at: an index, so that those that ended are not read."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go one step up."""
    op.create_index("ix_ingests_state_started_at", "ingests", ["state", "started_at"])


def downgrade() -> None:
    """Go one step down."""
    op.drop_index("ix_ingests_state_started_at", table_name="ingests")
