"""A picture that kills its decoder, and one that kills the whole worker: given up in the end, at no cost to others."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from indexer.embedding import MAX_ATTEMPTS
from phosphene.catalog.records import AssetState
from phosphene.errors import PictureFault
from phosphene.types import DEFAULT_TENANT as T
from phosphene.types import asset_id, sha256_of
from tests.resilience.conftest import Figure
from tests.resilience.fleet import SLOW_S, eventually, running_fleet

pytestmark = pytest.mark.timeout(SLOW_S)

NEIGHBOURS = 20


def of_one_colour(width: int, height: int) -> bytes:
    out = BytesIO()
    Image.new("RGB", (width, height), (200, 30, 60)).save(out, "PNG", compress_level=1)
    return out.getvalue()


def test_poisoned_pictures_are_given_up_and_their_neighbours_done(tmp_path: Path, figure: Figure) -> None:
    with running_fleet("redis", tmp_path) as fleet:
        # As little memory as a decoder may be given: the largest picture that is allowed dies of it.
        fleet.environment |= {"PHOSPHENE_DECODE_MEMORY_BYTES": str(256 * 2**20), "PHOSPHENE_LEASE_S": "3"}
        folder, neighbours = fleet.pictures(NEIGHBOURS)
        deadly = of_one_colour(64, 64)
        (folder / "00007-deadly.png").write_bytes(deadly)
        (folder / "00009-large.png").write_bytes(of_one_colour(7000, 7000))
        ingest = fleet.send_ingest(folder)
        bad = asset_id(T, sha256_of(deadly))

        def over() -> bool:
            if not any(worker.alive() for worker in fleet.workers):
                fleet.workers = []
                fleet.launch(odd={"deadly": 1})
            return fleet.indexed(neighbours) == NEIGHBOURS and fleet.engine.catalog.asset(T, bad).state is (
                AssetState.FAILED
            )

        eventually("the neighbours are indexed and the deadly one is given up", over, output=fleet.output)
        eventually("the ingest has ended", fleet.idle, output=fleet.output)
        deaths = fleet.notes.read_text().count("deadly")
        told = {
            Path(entry.uri).name: (entry.fault, entry.reason)
            for entry in fleet.engine.catalog.quarantined(T, None, after=None, limit=10)
        }
        figure(f"a picture killed its worker {deaths} times; quarantined: {told}")
        assert deaths == MAX_ATTEMPTS
        assert set(told) == {"00007-deadly.png", "00009-large.png"}
        assert told["00007-deadly.png"][0] is PictureFault.EMBEDDING_FAILED
        assert "in each of 4 attempts" in told["00007-deadly.png"][1]
        assert told["00009-large.png"][0] is PictureFault.DECODER_DIED
        assert "256 MB" in told["00009-large.png"][1]
        counts = fleet.ingest(ingest).counts
        assert (counts.added, counts.quarantined) == (NEIGHBOURS, 2)
