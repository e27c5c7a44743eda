"""Health, concurrency, and how the server starts and stops."""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from phosphene.encoders import Encoder
from phosphene.errors import InvalidSettings, Unavailable
from phosphene.text_embedding import TextEmbedder
from phosphene.types import DEFAULT_TENANT, Pixels, RawEmbeddings, Space
from search_api.serving import Server, refuse_open_door
from tests.search_api.served import KEYS, Served, serving, settings_for


class CountingEncoder:
    """The real encoder, which notes the size of each batch of texts."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self.batches: list[int] = []

    @property
    def space(self) -> Space:
        return self.encoder.space

    @property
    def logit_scale(self) -> float:
        return self.encoder.logit_scale

    def encode_pixels(self, pixels: Pixels) -> RawEmbeddings:
        return self.encoder.encode_pixels(pixels)

    def encode_texts(self, texts: Sequence[str]) -> RawEmbeddings:
        self.batches.append(len(texts))
        return self.encoder.encode_texts(texts)


def test_parallel_questions_share_batches_and_get_their_own_answers(data: Path) -> None:
    things = ["cat", "car", "tree", "cup", "hat", "key", "sun", "egg"]
    texts = [f"a drawing of a {thing}, number {n}" for n in range(4) for thing in things]
    with serving(data) as served:
        alone = {text: served.search(text=text, limit=5)["hits"] for text in texts}
        counting = CountingEncoder(served.engine.encoder)
        served.engine.texts.close()
        served.engine.current._texts = TextEmbedder(counting)
        barrier = threading.Barrier(len(texts))

        def ask(text: str) -> list[object]:
            with httpx2.Client(base_url=served.url, timeout=60) as client:
                barrier.wait()
                found: list[object] = client.post("/v1/search", json={"text": text, "limit": 5}).json()["hits"]
                return found

        with ThreadPoolExecutor(len(texts)) as pool:
            together = dict(zip(texts, pool.map(ask, texts), strict=True))
        for text in texts:
            assert [h["asset_id"] for h in together[text]] == [h["asset_id"] for h in alone[text]]  # type: ignore[index]
        assert sum(counting.batches) == len(texts)
        assert len(counting.batches) <= len(texts) // 2

        counting.batches.clear()
        served.search(text=texts[0])
        assert counting.batches == [], "a text asked before is not embedded again"


def test_readiness_names_the_store_that_does_not_answer(data: Path) -> None:
    with serving(data) as served:
        assert served.client.get("/livez").json() == {"status": "ok"}
        ready = served.client.get("/readyz")
        assert ready.status_code == 200
        told = ready.json()
        assert (told["ready"], told["reasons"]) == (True, [])
        assert told["stores"] == {"catalogue": "ok", "blobs": "ok", "vectors": "ok"}
        assert {"model", "requests", "thread generate", "thread jobs"} <= set(told["work"])
        assert set(told["work"].values()) == {"ok"}
        served.engine.index.close()
        down = served.client.get("/readyz")
        assert down.status_code == 503
        assert down.json()["ready"] is False
        assert down.json()["stores"]["vectors"] != "ok"
        assert down.json()["stores"]["catalogue"] == "ok"
        assert served.client.get("/livez").status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "example.org", ""])  # noqa: S104  refused
def test_without_keys_only_loopback_is_listened_on(host: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="API keys"):
        refuse_open_door(settings_for(tmp_path, host=host))
    refuse_open_door(settings_for(tmp_path, host=host, api_keys=tuple(SecretStr(key) for key in KEYS)))
    refuse_open_door(settings_for(tmp_path, host="localhost"))


def test_a_taken_port_is_one_clear_line(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        settings = settings_for(tmp_path).model_copy(update={"port": port})
        with pytest.raises(Unavailable, match=f"port {port} of 127.0.0.1 is taken") as caught:
            Server(FastAPI(), settings=settings, when_ready=None)
        assert "\n" not in str(caught.value)
    wrong = settings_for(tmp_path, host="no.such.host.invalid", api_keys=tuple(SecretStr(key) for key in KEYS))
    with pytest.raises(InvalidSettings, match="no address"):
        Server(FastAPI(), settings=wrong, when_ready=None)


def test_an_event_stream_does_not_hold_up_the_end(data: Path) -> None:
    with serving(data) as served:
        ingest = served.engine.catalog.start_ingest(DEFAULT_TENANT, ["never ends"])
        with (
            httpx2.Client(base_url=served.url, timeout=60) as client,
            client.stream("GET", f"/v1/ingests/{ingest}/events") as stream,
        ):
            lines = stream.iter_lines()
            assert next(lines).startswith("event")
            threading.Timer(0.2, lambda: setattr(served.server, "should_exit", True)).start()
            list(lines)


def test_the_page_and_the_api_page_ask_nothing_of_others(served: Served) -> None:
    web = Path(__file__).parents[2] / "search_api" / "web"
    for file in [*web.glob("*.html"), *web.glob("*.js"), *web.glob("*.css"), *web.glob("*.svg")]:
        text = file.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text, file
        assert "https://" not in text, file
        assert "innerHTML" not in text, file
        name = f"/web/{file.name}"
        answer = served.client.get(name)
        assert answer.status_code == 200
        assert served.client.get(name, headers={"If-None-Match": answer.headers["etag"]}).status_code == 304
    assert served.client.get("/").headers["content-type"].startswith("text/html")
    assert served.client.get("/docs").status_code == 200
    assert served.client.get("/favicon.ico").headers["content-type"] == "image/svg+xml"
