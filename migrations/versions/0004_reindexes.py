"""Which space answers questions, and changes of the model that are under way or done."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    """Go one step up."""
    op.create_table(
        "pointers",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("space_id", sa.String(length=64), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["space_id"], ["spaces.id"], name="fk_pointers_space_id_spaces"),
        sa.PrimaryKeyConstraint("name", name="pk_pointers"),
    )
    op.create_table(
        "reindexes",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("before_id", sa.String(length=64), nullable=False),
        sa.Column("before_model", sa.Text(), nullable=False),
        sa.Column("after_id", sa.String(length=64), nullable=False),
        sa.Column("after_model", sa.Text(), nullable=False),
        sa.Column("options", JSON, nullable=False),
        sa.Column("report", JSON, nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.Column("seen", sa.BigInteger(), nullable=False),
        sa.Column("cursor", sa.Uuid(), nullable=True),
        sa.Column("pass_ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("missing", sa.BigInteger(), nullable=True),
        sa.Column("paced_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("paced_done", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("touched_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("swapped_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_owner", sa.String(length=200), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["before_id"], ["spaces.id"], name="fk_reindexes_before_id_spaces"),
        sa.ForeignKeyConstraint(["after_id"], ["spaces.id"], name="fk_reindexes_after_id_spaces"),
        sa.PrimaryKeyConstraint("id", name="pk_reindexes"),
        sa.UniqueConstraint("active", name="uq_reindexes_active"),
    )


def downgrade() -> None:
    """Go one step down."""
    op.drop_table("reindexes")
    op.drop_table("pointers")
