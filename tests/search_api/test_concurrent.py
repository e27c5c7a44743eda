"""Twenty clients at once, over HTTP: one run of the model for many texts, and lists that stay whole meanwhile."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
import pytest

from phosphene.encoders import Encoder
from phosphene.types import Pixels, RawEmbeddings, Space
from search_api.cursor import SAME_SCORE
from tests.search_api.served import Served, ingested_folder, png, serving
from tests.search_api.test_operations import value

CLIENTS = 20


class HeldEncoder:
    """The real encoder, whose first run waits until it is let go."""

    def __init__(self, inner: Encoder) -> None:
        self._inner = inner
        self.batches: list[int] = []
        self.entered, self.gate = threading.Event(), threading.Event()

    @property
    def space(self) -> Space:
        return self._inner.space

    @property
    def logit_scale(self) -> float:
        return self._inner.logit_scale

    def encode_pixels(self, pixels: Pixels) -> RawEmbeddings:
        return self._inner.encode_pixels(pixels)

    def encode_texts(self, texts: Sequence[str]) -> RawEmbeddings:
        self.batches.append(len(texts))
        self.entered.set()
        assert self.gate.wait(60)
        return self._inner.encode_texts(texts)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    shutil.copytree(ingested_folder(), tmp_path / "data")
    with serving(tmp_path / "data") as served:
        yield served


def ask(served: Served, **body: Any) -> dict[str, Any]:  # noqa: ANN401  JSON
    with httpx2.Client(base_url=served.url, timeout=60) as client:  # a connection of its own
        response = client.post("/v1/search", json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def counted(served: Served) -> dict[str, float]:
    text = served.client.get("/metrics").text
    by_result = {
        result: value(text, "phosphene_text_embeddings_total", result=result) for result in ("hit", "shared", "miss")
    }
    runs = {name: value(text, f"phosphene_text_batch_texts_{name}") for name in ("count", "sum")}
    return {**by_result, **runs}


def test_clients_who_ask_at_the_same_time_share_a_run_of_the_model(served: Served) -> None:
    served.search(text="a first question, which looks at the background of the catalogue")
    texts = [f"question number {number}" for number in range(CLIENTS - 4)] + ["all ask this"] * 4
    held = HeldEncoder(served.engine.encoder)
    served.engine.texts._encoder = held
    before = counted(served)
    with ThreadPoolExecutor(CLIENTS + 1) as clients:
        first = clients.submit(ask, served, text="the one that the others wait for")
        assert held.entered.wait(60)
        asked = [clients.submit(ask, served, text=text) for text in texts]
        while sum(counted(served)[result] - before[result] for result in ("miss", "shared")) < CLIENTS + 1:
            threading.Event().wait(0.02)
        held.gate.set()
        answers = [one.result() for one in [first, *asked]]
    grew = {name: now - before[name] for name, now in counted(served).items()}
    assert held.batches == [1, CLIENTS - 3]
    assert grew == {"hit": 0, "miss": CLIENTS - 2, "shared": 3, "count": 2, "sum": CLIENTS - 2}
    assert all({"embed", "vectors", "match", "catalogue", "total"} <= set(one["timing_ms"]) for one in answers)
    with ThreadPoolExecutor(CLIENTS) as clients:
        again = list(clients.map(lambda text: ask(served, text=text), texts))
    assert counted(served)["hit"] - before["hit"] == CLIENTS
    assert held.batches == [1, CLIENTS - 3]
    assert [one["hits"] for one in again] == [one["hits"] for one in answers[1:]]


def walk(served: Served, **body: Any) -> list[dict[str, Any]]:  # noqa: ANN401  JSON
    """Go through a list to its end."""
    hits, cursor = [], None
    while True:
        page = ask(served, limit=9, **body, **({} if cursor is None else {"cursor": cursor}))
        hits += page["hits"]
        cursor = page.get("next_cursor")
        if cursor is None:
            return hits


def test_lists_stay_whole_while_pictures_come_and_go(served: Served) -> None:
    there = [hit["asset_id"] for hit in walk(served, text="a dog")]
    going = set(there[1::6])
    done = threading.Event()

    def come_and_go() -> None:
        for seed, asset in enumerate(sorted(going)):
            assert served.client.post("/v1/assets", files={"image": png(seed)}).status_code == 201
            assert served.client.delete(f"/v1/assets/{asset}").status_code == 204
        done.set()

    with ThreadPoolExecutor(CLIENTS + 1) as clients:
        changing = clients.submit(come_and_go)
        walks = list(clients.map(lambda _: walk(served, text="a dog"), range(CLIENTS)))
        changing.result()
    for hits in walks:
        shown = [hit["asset_id"] for hit in hits]
        assert len(shown) == len(set(shown))
        assert set(there) - going <= set(shown)
        assert all(a["score"] >= b["score"] - 2 * SAME_SCORE for a, b in pairwise(hits))
    assert not going & {hit["asset_id"] for hit in walk(served, text="a dog")}
