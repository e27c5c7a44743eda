from __future__ import annotations

from pathlib import Path

from indexer.pipeline import ingest
from indexer.verify import verify
from phosphene.catalog.records import AssetState, IngestState
from phosphene.filters import Equals
from phosphene.types import DEFAULT_TENANT
from phosphene.vectors.base import VectorQuery
from tests.indexer.broken import MAX_BYTES, MAX_PIXELS, write_broken, write_odd
from tests.indexer.conftest import OpenEngine, save_pictures

PICTURES = 1000


def test_of_a_thousand_files_all_good_ones_are_searchable_and_each_other_says_why(
    tmp_path: Path, open_with: OpenEngine
) -> None:
    for part in ("broken", "odd", "plain"):
        (tmp_path / "all" / part).mkdir(parents=True)
    faults = write_broken(tmp_path / "all" / "broken")
    odd = write_odd(tmp_path / "all" / "odd")
    assert len(faults) >= 50
    good = PICTURES - len(faults)
    save_pictures(tmp_path / "all" / "plain", good - len(odd), first=1, suffix=".jpg")
    with open_with(max_pixels=MAX_PIXELS, max_picture_bytes=MAX_BYTES, decode_timeout_s=60, batch_size=64) as engine:
        done = ingest([str(tmp_path / "all")], engine=engine, tenant=DEFAULT_TENANT)
        assert done.state is IngestState.FINISHED
        entries = engine.catalog.quarantined(DEFAULT_TENANT, None, after=None, limit=PICTURES)
        listed = {entry.uri.removeprefix(f"{tmp_path}/all/broken/"): entry for entry in entries}
        assert {name: entry.fault for name, entry in listed.items()} == faults
        for entry in entries:
            assert 10 < len(entry.reason) < 300, entry
            assert "\n" not in entry.reason
        assert (done.counts.added, done.counts.quarantined) == (good, len(faults))
        assert engine.catalog.count_assets(DEFAULT_TENANT, AssetState.INDEXED) == good
        assert engine.index.count(Equals("tenant", DEFAULT_TENANT)) == good
        report = verify(engine=engine, repair=False)
        assert report.counts == {}
        page = engine.index.scroll(after=None, limit=50)
        vectors = engine.index.vectors([point.id for point in page])
        answers = engine.index.query([VectorQuery(vector, limit=1, exact=True) for vector in vectors.values()])
        assert all(answer[0].score > 0.999 for answer in answers)
        again = ingest([str(tmp_path / "all")], engine=engine, tenant=DEFAULT_TENANT)
        assert (again.counts.added, again.counts.unchanged, again.counts.quarantined) == (0, good, len(faults))
