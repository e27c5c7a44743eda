"""What pictures look like, which are near-duplicates, and the clusters of those."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go one step up."""
    op.create_table(
        "looks",
        *_owned("looks"),
        sa.Column("look", sa.LargeBinary(), nullable=False),
        sa.Column("rule", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("asset_id", name="pk_looks"),
    )
    op.create_index("ix_looks_rule_asset_id", "looks", ["rule", "asset_id"])
    op.create_table(
        "look_bands",
        *_owned("look_bands"),
        sa.Column("band", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("asset_id", "band", name="pk_look_bands"),
    )
    op.create_index("ix_look_bands_tenant_id_band", "look_bands", ["tenant_id", "band"])
    op.create_table(
        "duplicates",
        *_owned("duplicates"),
        sa.Column("other_id", sa.Uuid(), nullable=False),
        sa.Column("probability", sa.Float(), nullable=False),
        sa.Column("bits", sa.Integer(), nullable=False),
        sa.Column("likeness", sa.Float(), nullable=False),
        sa.Column("cosine", sa.Float(), nullable=False),
        sa.Column("recoloured", sa.Float(), nullable=False),
        sa.Column("mirrored", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["other_id"], ["assets.id"], name="fk_duplicates_other_id_assets", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("asset_id", "other_id", name="pk_duplicates"),
    )
    op.create_index("ix_duplicates_other_id", "duplicates", ["other_id"])
    op.create_table(
        "clusters",
        *_owned("clusters"),
        sa.Column("cluster_id", sa.Uuid(), nullable=False),
        sa.PrimaryKeyConstraint("asset_id", name="pk_clusters"),
    )
    op.create_index("ix_clusters_tenant_id_cluster_id", "clusters", ["tenant_id", "cluster_id"])


def _owned(table: str) -> tuple[sa.Column[object] | sa.ForeignKeyConstraint, ...]:
    return (
        sa.Column("asset_id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.String(length=200), nullable=False),
        sa.ForeignKeyConstraint(["asset_id"], ["assets.id"], name=f"fk_{table}_asset_id_assets", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.id"], name=f"fk_{table}_tenant_id_tenants", ondelete="CASCADE"
        ),
    )


def downgrade() -> None:
    """Go one step down."""
    for name in ("clusters", "duplicates", "look_bands", "looks"):
        op.drop_table(name)
