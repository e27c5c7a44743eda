"""Attributes come in with the pictures, stand in catalogue and index, and are filtered by; older pictures get them."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image, ImageDraw
from sqlalchemy import create_engine, text

from indexer.pipeline import ingest
from indexer.uploads import add_asset
from indexer.verify import Difference, verify
from phosphene.assemble import Engine
from phosphene.filter_terms import parse_terms
from phosphene.filters import tenant_filter
from phosphene.types import DEFAULT_TENANT as T
from phosphene.vectors.base import VectorQuery
from tests.indexer.conftest import OpenEngine


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    disc = Image.new("RGB", (200, 100), "white")
    ImageDraw.Draw(disc).ellipse((130, 20, 190, 80), fill="#ff8800")
    disc.save(folder / "orange disc.png")
    Image.new("RGB", (90, 120), "#1040c0").save(folder / "blue.png")
    grey = Image.linear_gradient("L").resize((100, 100))
    grey.save(folder / "grey.png")
    clear = grey.convert("RGBA")
    clear.putalpha(80)
    clear.save(folder / "clear.png")
    return folder


def found(engine: Engine, *terms: str) -> set[str]:
    """Titles of the pictures that the index gives under a filter."""
    asked = tenant_filter(T, parse_terms(terms, engine.fields(T)))
    (vector,) = engine.index.vectors([engine.index.scroll(after=None, limit=1)[0].id]).values()
    (points,) = engine.index.query([VectorQuery(vector, 100, asked)])
    return {str(point.payload["title"]) for point in points}


FILTERS = [
    (["colours=orange"], {"orange disc"}),
    (["main_colour=orange|blue"], {"orange disc", "blue"}),
    (["colour=#ff9010"], {"orange disc"}),
    (["colour=#ff9010~0.01"], set()),
    (["colour!=#ffffff", "black_and_white=false"], {"blue"}),
    (["isolated=true"], {"orange disc"}),
    (["copy_space=left", "black_and_white=false"], {"orange disc", "blue"}),
    (["copy_space=right", "black_and_white=false"], {"blue"}),
    (["black_and_white=yes"], {"grey", "clear"}),
    (["transparent=true"], {"clear"}),
    (["aspect>1.5"], {"orange disc"}),
    (["aspect<=0.8", "orientation=portrait"], {"blue"}),
    (["sharpness>0.5"], {"orange disc"}),
]


def test_pictures_are_found_by_what_they_look_like(engine: Engine, pictures: Path) -> None:
    ingest([str(pictures)], engine=engine, tenant=T)
    for terms, titles in FILTERS:
        assert found(engine, *terms) == titles, terms
    assert verify(engine=engine, repair=False).counts == {}


def test_an_upload_has_attributes_too(engine: Engine, pictures: Path) -> None:
    data = (pictures / "orange disc.png").read_bytes()
    registered = add_asset(data, engine=engine, tenant=T, uri="upload:disc", title="disc")
    attributes = engine.catalog.asset(T, registered.asset_id).attributes
    assert attributes is not None
    assert (attributes.main_colour, attributes.ground) == ("orange", "#ffffff")
    assert found(engine, "colour=#f80") == {"disc"}


def test_pictures_of_an_older_catalogue_get_theirs_by_repair(open_with: OpenEngine, pictures: Path) -> None:
    with open_with() as engine:
        ingest([str(pictures)], engine=engine, tenant=T)
        database = engine.catalog.name
    sql = create_engine(database)
    with sql.begin() as connection:
        connection.execute(text("UPDATE assets SET attributes = NULL"))
    sql.dispose()
    with open_with() as engine:
        lost = verify(engine=engine, repair=False)
        assert lost.counts == {Difference.MISSING_ATTRIBUTES: 4, Difference.STALE_PAYLOAD: 4}
        assert engine.catalog.page_assets(tenant=T, after=None, limit=1)[0].attributes is None
        assert verify(engine=engine, repair=True).ok
        assert verify(engine=engine, repair=False).counts == {}
        for terms, titles in FILTERS:
            assert found(engine, *terms) == titles, terms
