from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from phosphene.errors import InvalidInput, SpaceMismatch
from phosphene.types import (
    PixelSpec,
    RawEmbeddings,
    Sha256,
    Space,
    TenantId,
    UnitEmbeddings,
    asset_id,
    point_id,
    sha256_of,
)

SPACE = Space("ViT-B-32/laion2b", 4, Sha256("a" * 64), PixelSpec(size=224))
ROWS = arrays(np.float32, (3, 4), elements=st.floats(-100, 100, width=32).filter(lambda value: abs(value) > 1e-3))


@given(ROWS)
def test_unit_and_norm_give_the_raw_embedding_back(rows: np.ndarray) -> None:
    raw = RawEmbeddings(SPACE, rows)
    unit = raw.unit()
    np.testing.assert_allclose(np.linalg.norm(unit.rows, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(unit.raw(raw.norms).rows, rows, rtol=1e-5)


def test_embeddings_of_two_spaces_are_never_compared() -> None:
    ours = RawEmbeddings(SPACE, np.ones((1, 4), np.float32)).unit()
    other_weights = replace(SPACE, weights_sha256=Sha256("b" * 64))
    theirs = RawEmbeddings(other_weights, np.ones((1, 4), np.float32)).unit()
    assert ours.cosines(ours)[0, 0] == pytest.approx(1)
    with pytest.raises(SpaceMismatch, match=theirs.space.id):
        ours.cosines(theirs)


def test_a_space_is_its_exact_weights_and_preprocessing() -> None:
    assert SPACE.id.startswith("vit-b-32-laion2b-")
    others = [
        replace(SPACE, weights_sha256=Sha256("b" * 64)),
        replace(SPACE, pixels=PixelSpec(size=256)),
        replace(SPACE, pixels=PixelSpec(size=224, interpolation="bilinear")),
    ]
    assert len({SPACE.id, *(other.id for other in others)}) == 4
    assert replace(SPACE).id == SPACE.id


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        (np.ones((2, 5), np.float32), r"shape \(n, 4\), not \(2, 5\)"),
        (np.ones(4, np.float32), "shape"),
        (np.ones((2, 4), np.float64), "float32, not float64"),
        (np.array([[1, 2, np.nan, 4]], np.float32), r"finite; rows \[0\]"),
    ],
)
def test_wrong_arrays_are_refused(rows: np.ndarray, complaint: str) -> None:
    with pytest.raises(InvalidInput, match=complaint):
        RawEmbeddings(SPACE, rows)


def test_what_has_no_direction_or_another_length_is_no_unit_embedding() -> None:
    with pytest.raises(InvalidInput, match="length 0"):
        RawEmbeddings(SPACE, np.zeros((1, 4), np.float32)).unit()
    with pytest.raises(InvalidInput, match="length 1"):
        UnitEmbeddings(SPACE, np.full((1, 4), 2, np.float32))


def test_ids_follow_from_the_bytes_the_tenant_and_the_space() -> None:
    sha = sha256_of(b"picture")
    ours = asset_id(TenantId("a"), sha)
    assert ours == asset_id(TenantId("a"), sha)
    assert ours != asset_id(TenantId("b"), sha)
    other = replace(SPACE, dimension=8)
    assert point_id(ours, SPACE.id) == point_id(ours, SPACE.id)
    assert point_id(ours, SPACE.id) != point_id(ours, other.id)
