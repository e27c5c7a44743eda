"""The parts of a space are made on first use, and none waits for another that it does not need."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import cast

import pytest

from phosphene.blobs import BlobStore
from phosphene.catalog.catalog import Catalog
from phosphene.encoders import Encoder, load_encoder
from phosphene.errors import Unavailable
from phosphene.generation.guard import Guard
from phosphene.generation.retrieve import Predictor
from phosphene.open_space import OpenSpace
from phosphene.text_embedding import TextEmbedder
from phosphene.types import Space
from phosphene.vectors.base import VectorIndex
from phosphene.vectors.edge import EdgeIndex
from tests.indexer.conftest import make_model


def never(*_: object) -> object:
    pytest.fail("nobody asked for it")


def test_vectors_do_not_wait_for_a_model_that_is_being_loaded(tmp_path: Path) -> None:
    model = str(make_model(tmp_path / "model", seed=1))
    ready = load_encoder(model, device="cpu", threads=1, batch_size=4)
    loading, go_on = threading.Event(), threading.Event()
    catalog = Catalog.at(str(tmp_path / "catalog.sqlite"), migrate=True)

    def load(name: str) -> Encoder:
        assert name == model
        loading.set()
        assert go_on.wait(60)
        return ready

    def open_index(space: Space) -> VectorIndex:
        return EdgeIndex.open(tmp_path / "index", space, profile="flat")

    space = OpenSpace(
        model,
        known=ready.space,
        catalog=catalog,
        blobs=BlobStore.at(str(tmp_path / "blobs")),
        load=load,
        open_index=open_index,
        make_guard=lambda _texts, _encoder: cast("Guard", never()),
        make_predictor=lambda _space: cast("Predictor", never()),
    )
    said: list[TextEmbedder | str] = []

    def ask() -> None:
        try:
            said.append(space.texts)
        except Unavailable as error:
            said.append(str(error))

    asking = threading.Thread(target=ask)
    asking.start()
    assert loading.wait(60)
    counted: list[int] = []
    counting = threading.Thread(target=lambda: counted.append(space.index.count()), daemon=True)
    counting.start()
    counting.join(60)
    assert counted == [0], "the index waits for the model"
    space.close()
    go_on.set()
    asking.join(60)
    assert said == [f"the space of {model} is closed: try again"], "a model that comes too late is not kept"
    catalog.close()
