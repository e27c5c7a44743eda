"""docs/scaling.md says what the profiles come to: the tables, by other arithmetic, and what they take of the demo."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import scaling
from indexer.payload import payload_of
from phosphene.assemble import Engine
from phosphene.settings import Settings
from phosphene.types import DEFAULT_TENANT, FieldKind
from phosphene.vectors.base import PayloadValue
from phosphene.vectors.conditions import WORDS
from phosphene.vectors.profiles import NAMES, PROFILES, Codes, Profile, Tier
from phosphene.vectors.server_collection import _TURBO_BITS

DOCS = Path(__file__).parents[2] / "docs" / "scaling.md"


def test_the_page_shows_what_the_script_prints() -> None:
    shown = re.search(r"<!-- python -m benchmarks.scaling -->\n(.*)\n<!-- end -->", DOCS.read_text(), re.DOTALL)
    assert shown
    assert shown[1].strip() == scaling.tables()


def test_a_hundred_million_by_hand() -> None:
    """512 numbers, 4 bits and 8 bytes; 16 links, both ways, 4 bytes, a fifth more; 52; twice 445; two copies, 20 %."""
    a_vector = (512 // 2 + 8) + 16 * 2 * 4 * 1.2 + 52 + 2 * 445
    found = scaling.cluster(PROFILES["100m"], 512)
    assert found.memory == pytest.approx(a_vector * 100e6 * 2 * 1.2)
    assert found.disk == pytest.approx((a_vector + 2048 + 1.5 * 783) * 100e6 * 2 * 1.2)
    assert found.nodes == 6  # 326 GB in nodes of 64
    cost = scaling.query(PROFILES["100m"], 512, 10)
    assert (cost.reads, cost.read_bytes) == (12 * 30, 12 * 30 * 4096)
    assert scaling.query(PROFILES["100m"], 1536, 10).read_bytes == 12 * 30 * 2 * 4096  # two pages each


@settings(deadline=None)
@given(st.sampled_from(list(PROFILES.values())), st.integers(64, 4096))
def test_the_arithmetic_holds_together(profile: Profile, dimension: int) -> None:
    found, part = scaling.cluster(profile, dimension), scaling.footprint(profile, dimension)
    assert 0 < scaling.memory(profile, dimension) <= part.disk
    assert found.memory <= found.nodes * scaling.NODE_GB[profile.name] * scaling.GB
    assert profile.vectors * profile.replicas <= found.nodes * scaling.NODE_VECTORS
    assert profile.shards * profile.replicas % found.nodes == 0
    assert profile.replicas <= found.nodes
    larger = scaling.footprint(profile, dimension + 1)
    assert larger.disk > part.disk
    assert (part.codes - scaling.CODE_EXTRA[profile.codes]) * 8 == dimension * profile.codes.bits
    warm = replace(profile, originals_in=Tier.CACHED)
    assert scaling.memory(warm, dimension) == pytest.approx(scaling.memory(profile, dimension) + part.originals)


def test_payloads_are_as_large_as_the_demos(demo: Engine) -> None:
    assets = demo.catalog.page_assets(tenant=DEFAULT_TENANT, after=None, limit=5000)
    indexed = {field.name for field in demo.fields(DEFAULT_TENANT) if field.kind is not FieldKind.TEXT}
    places = demo.catalog.places([asset.id for asset in assets])
    payloads = [payload_of(asset, places[asset.id]) for asset in assets]
    written = [len(json.dumps(one, ensure_ascii=False, separators=(",", ":")).encode()) for one in payloads]
    assert sum(written) / len(written) == pytest.approx(scaling.PAYLOAD_BYTES, rel=0.02)
    names = indexed | {"tenant", "asset_id", WORDS}
    sizes = [sum(_size(one.get(name)) for name in names) for one in payloads]
    assert sum(sizes) / len(sizes) == pytest.approx(scaling.FIELD_BYTES, rel=0.02)
    assert f"{scaling.FIELD_BYTES} bytes in {len(names)} fields" in DOCS.read_text()


def _size(value: PayloadValue) -> int:
    if isinstance(value, list):
        return sum(map(_size, value))
    return 0 if value is None else len(value.encode()) if isinstance(value, str) else 8


def test_every_profile_can_be_named_and_every_code_has_its_bits() -> None:
    assert get_args(Settings.model_fields["qdrant_profile"].annotation) == NAMES == tuple(PROFILES)
    assert set(_TURBO_BITS) == {codes for codes in Codes if codes.value.startswith("turbo")}
    assert scaling.CODE_EXTRA.keys() == set(Codes)
    for codes in _TURBO_BITS:
        assert codes.value == f"turbo{codes.bits}"
        assert codes.before_turbo.bits >= codes.bits
