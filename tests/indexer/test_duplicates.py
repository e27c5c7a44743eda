"""Duplicates of a catalogue: found among all pictures, as they come in, and told over HTTP and by the command."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image, ImageOps
from sqlalchemy import create_engine, text

from indexer.duplicates import compare_waiting, judged
from indexer.jobs import handlers
from indexer.pipeline import ingest
from phosphene.assemble import Engine
from phosphene.catalog.records import Pair
from phosphene.jobs import JobName
from phosphene.types import DEFAULT_TENANT as T
from phosphene.words.fusion import Blend, Mode
from search_api.arrange import NEAR_DUPLICATES, Arrangement
from search_api.duplicates import page_of_clusters
from search_api.question import SearchQuery
from search_api.search import Hit, run_search
from tests.indexer.conftest import OpenEngine
from tests.pictures.test_looks import drawing


def save(folder: Path, name: str, image: Image.Image, *, quality: int = 75) -> None:
    folder.mkdir(exist_ok=True)
    image.save(folder / name, quality=quality)  # of JPEG


def variants(folder: Path) -> None:
    """Twelve drawings, and a few of them again in other forms."""
    for seed in range(12):
        save(folder, f"{seed:02}.png", drawing(seed))
    save(folder, "00 small.jpg", drawing(0).resize((160, 120)), quality=80)
    save(folder, "00 again.jpg", drawing(0), quality=30)
    save(folder, "03 cut.png", drawing(3).crop((16, 12, 320, 240)))
    save(folder, "07 mirrored.png", ImageOps.mirror(drawing(7)))


def groups(engine: Engine) -> set[frozenset[str]]:
    """Titles of the pictures in each cluster."""
    page = page_of_clusters("near", after=None, limit=100, engine=engine, tenant=T)
    return {frozenset(str(asset.title) for asset in cluster.assets) for cluster in page.clusters}


FOUND = {frozenset({"00", "00 small", "00 again"}), frozenset({"03", "03 cut"}), frozenset({"07", "07 mirrored"})}


def test_variants_are_clusters_with_the_best_to_keep(engine: Engine, tmp_path: Path) -> None:
    variants(tmp_path / "pictures")
    ingest([str(tmp_path / "pictures")], engine=engine, tenant=T)
    assert compare_waiting(engine=engine) == 16
    assert groups(engine) == FOUND
    page = page_of_clusters("near", after=None, limit=100, engine=engine, tenant=T)
    kept = {str(cluster.assets[0].title): cluster.reason for cluster in page.clusters}
    assert kept["00"] == "as large as any (320 x 240) and the least compressed"
    assert kept["03"] == "the largest, 320 x 240"
    assert set(kept) - {"00", "03"} <= {"07", "07 mirrored"}  # as good as each other
    assert page.waiting == 0
    for cluster in page.clusters:
        assert cluster.keep == cluster.assets[0].id
    (turned,) = [pair for cluster in page.clusters for pair in cluster.pairs if pair.mirrored]
    assert turned.bits <= 6
    assert compare_waiting(engine=engine) == 0


def test_a_cluster_without_end_is_shown_in_part(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variants(tmp_path / "pictures")
    ingest([str(tmp_path / "pictures")], engine=engine, tenant=T)
    compare_waiting(engine=engine)
    whole = {one.id: one for one in page_of_clusters("near", after=None, limit=9, engine=engine, tenant=T).clusters}
    monkeypatch.setattr("search_api.duplicates.MAX_SHOWN", 2)
    for part in page_of_clusters("near", after=None, limit=9, engine=engine, tenant=T).clusters:
        assert (part.count, part.keep) == (len(whole[part.id].assets), whole[part.id].keep)
        assert part.assets == whole[part.id].assets[:2]
        shown = {asset.id for asset in part.assets}
        assert set(part.pairs) == {one for one in whole[part.id].pairs if {one.asset_id, one.other_id} <= shown}
    assert sorted(one.count for one in whole.values()) == [2, 2, 3]


def folded(engine: Engine) -> tuple[set[frozenset[str]], int]:
    """Titles of the pictures that a list has in one place, and how many are there by the cosine alone."""
    how = Arrangement(group_by=NEAR_DUPLICATES, group_size=12)
    hits = run_search(SearchQuery(text="a drawing", limit=100, arrangement=how), engine=engine, tenant=T).hits
    places = {frozenset(str(one.asset.title) for one in (hit, *hit.group.others)) for hit in hits if hit.group}
    return {place for place in places if len(place) > 1}, sum(hit.by_cosine for hit in hits)


def test_lists_fold_what_was_compared_and_guess_by_cosine_until_then(engine: Engine, tmp_path: Path) -> None:
    variants(tmp_path / "pictures")
    ingest([str(tmp_path / "pictures" / "*.png")], engine=engine, tenant=T)
    assert folded(engine)[1] > 0  # drawings are so much alike that the cosine joins what is not one
    compare_waiting(engine=engine)
    assert folded(engine) == (FOUND - {frozenset({"00", "00 small", "00 again"})}, 0)
    ingest([str(tmp_path / "pictures")], engine=engine, tenant=T)
    assert folded(engine)[1] > 0
    compare_waiting(engine=engine)
    assert folded(engine) == (FOUND, 0)
    collapsed = run_search(
        SearchQuery(text="a drawing", limit=100, arrangement=Arrangement(collapse=True)), engine=engine, tenant=T
    ).hits
    assert sorted(hit.folded for hit in collapsed) == [0] * 9 + [1, 1, 2]


@pytest.mark.parametrize("mode", [Mode.PICTURE, Mode.HYBRID, Mode.WORDS])
def test_a_list_without_duplicates_goes_on_behind_what_was_arranged(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: Mode
) -> None:
    monkeypatch.setattr("search_api.listing.ARRANGED", 5)
    monkeypatch.setattr("search_api.hybrid.DEPTH", 2)
    variants(tmp_path / "pictures")
    ingest([str(tmp_path / "pictures")], engine=engine, tenant=T)
    compare_waiting(engine=engine)
    asked = SearchQuery(
        text="mirrored again", limit=2, arrangement=Arrangement(collapse=True), blend=Blend(mode), explain=True
    )
    hits: list[Hit] = []
    cursor: str | None = None
    while cursor or not hits:
        answer = run_search(replace(asked, cursor=cursor), engine=engine, tenant=T)
        assert len(answer.hits) == 2 or answer.next_cursor is None
        hits += answer.hits
        cursor = answer.next_cursor
    shown = [str(hit.asset.title) for hit in hits]
    if mode is Mode.WORDS:
        assert sorted(shown) == ["00 again", "07 mirrored"]  # what carries a word; such a list ends there
        return
    assert len(set(shown)) == len(shown) == 12
    assert {name[:2] for name in shown} == {f"{seed:02}" for seed in range(12)}
    if mode is Mode.PICTURE:
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_new_pictures_are_compared_as_they_come_in(engine: Engine, tmp_path: Path) -> None:
    variants(tmp_path / "pictures")
    run = handlers(engine)
    ingest([str(tmp_path / "pictures" / "*.png")], engine=engine, tenant=T)
    run[JobName.SWEEP]()
    assert groups(engine) == FOUND - {frozenset({"00", "00 small", "00 again"})}
    ingest([str(tmp_path / "pictures")], engine=engine, tenant=T)
    run[JobName.SWEEP]()
    assert groups(engine) == FOUND


def test_what_is_interrupted_goes_on_and_finds_the_same(
    open_with: OpenEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indexer.duplicates.AT_ONCE", 5)
    variants(tmp_path / "pictures")
    seen: list[int] = []

    def killed_after_two(*arguments: object, **named: object) -> list[Pair]:
        seen.append(1)
        if len(seen) > 2:
            raise KeyboardInterrupt
        return judged(*arguments, **named)  # type: ignore[arg-type]  # as it was called

    with open_with() as engine:
        ingest([str(tmp_path / "pictures")], engine=engine, tenant=T)
        with monkeypatch.context() as patch:
            patch.setattr("indexer.duplicates.judged", killed_after_two)
            with pytest.raises(KeyboardInterrupt):
                compare_waiting(engine=engine)
    with open_with() as engine:
        assert compare_waiting(engine=engine) == 6
        assert groups(engine) == FOUND


def test_pictures_of_an_older_catalogue_get_their_looks_first(engine: Engine, tmp_path: Path) -> None:
    variants(tmp_path / "pictures")
    ingest([str(tmp_path / "pictures")], engine=engine, tenant=T)
    sql = create_engine(engine.catalog.name)
    with sql.begin() as connection:
        connection.execute(text("DELETE FROM looks"))
        connection.execute(text("DELETE FROM look_bands"))
    sql.dispose()
    assert compare_waiting(engine=engine) == 0
    handlers(engine)[JobName.DUPLICATES](tenant=T)
    assert groups(engine) == FOUND


def test_the_same_bytes_at_two_places_are_listed_with_them(engine: Engine, tmp_path: Path) -> None:
    variants(tmp_path / "pictures")
    save(tmp_path / "pictures", "copy of 05.png", drawing(5))
    ingest([str(tmp_path / "pictures")], engine=engine, tenant=T)
    (cluster,) = page_of_clusters("exact", after=None, limit=9, engine=engine, tenant=T).clusters
    (places,) = cluster.places.values()
    assert [place.rpartition("/")[2] for place in places] == ["05.png", "copy of 05.png"]
