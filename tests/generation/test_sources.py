"""Pictures as a generator wants them: from the index where it can, from the original by the generator's own encoder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from indexer.uploads import add_asset
from phosphene.assemble import Engine
from phosphene.blobs import original_key
from phosphene.catalog.generation_records import GenerationState
from phosphene.encoders import Encoder, load_encoder
from phosphene.errors import ModelNotFound, NotFound, SpaceMismatch
from phosphene.generation.asked import AskedPart
from phosphene.generation.run import run_generation
from phosphene.generation.sources import embedding_of_asset, embedding_of_picture
from phosphene.types import DEFAULT_TENANT as T
from phosphene.types import AssetId, Float32, Pixels, RawEmbeddings, Space
from phosphene.unclip.base import ClipSpace
from tests.generation.asking import ask, drawn, left, look, picture, wanted
from tests.generation.conftest import OpenEngine
from tests.indexer.conftest import make_model
from tests.unclip import published_models

VIT_L_14 = "ViT-L-14/openai"


def expected(engine: Engine, data: bytes, encoder: Encoder | None = None) -> Float32:
    encoder = encoder or engine.encoder
    pixels = engine.decoders.decode(data, spec=encoder.space.pixels).result().pixels
    assert pixels is not None
    return encoder.encode_pixels(pixels[None]).rows


def test_an_indexed_picture_is_read_back_as_it_was_embedded(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    id_ = add_asset(picture(1), engine=engine, tenant=T, uri="upload:x").asset_id
    right = expected(engine, picture(1))
    assert abs(float(np.linalg.norm(right)) - 1) > 0.01  # or lengths would not be tested
    monkeypatch.setattr(engine.blobs, "get", lambda _: 1 / 0)  # the original is not needed
    found = embedding_of_asset(id_, engine=engine, tenant=T, clip=engine.generator.card.clip)
    assert found.space.id == engine.encoder.space.id
    np.testing.assert_allclose(found.rows, right, rtol=1e-4, atol=1e-5)


def test_one_that_is_not_indexed_yet_is_embedded_from_its_original(engine: Engine) -> None:
    id_ = add_asset(picture(1), engine=engine, tenant=T, uri="upload:x").asset_id
    engine.catalog.queue_for(engine.encoder.space.id, [id_])
    found = embedding_of_asset(id_, engine=engine, tenant=T, clip=engine.generator.card.clip)
    np.testing.assert_allclose(found.rows, expected(engine, picture(1)), rtol=1e-4, atol=1e-5)
    asset = engine.catalog.asset(T, id_)
    engine.blobs.delete(original_key(asset.sha256))
    with pytest.raises(NotFound, match="original of the asset"):
        embedding_of_asset(id_, engine=engine, tenant=T, clip=engine.generator.card.clip)


class NamedOtherwise:
    """A small encoder that says it is OpenAI's ViT-L/14, which can't be had here: its name and its usual length."""

    def __init__(self, inner: Encoder, *, length: float) -> None:
        self._inner = inner
        self._length = length
        self.space: Space = replace(inner.space, model=VIT_L_14)
        self.logit_scale = inner.logit_scale

    def encode_pixels(self, pixels: Pixels) -> RawEmbeddings:
        unit = self._inner.encode_pixels(pixels).unit().rows
        return RawEmbeddings(self.space, np.asarray(unit * self._length, dtype=np.float32))

    def encode_texts(self, texts: Sequence[str]) -> RawEmbeddings:
        return RawEmbeddings(self.space, self._inner.encode_texts(texts).rows)


@pytest.fixture
def with_karlo(open_with: OpenEngine, tmp_path: Path) -> Iterator[Engine]:
    """Open an engine with a tiny Karlo of random weights, whose CLIP model is not the engine's."""
    folder = published_models.save_karlo(tmp_path / "karlo")
    with open_with(generator=str(folder)) as engine:
        yield engine


Loads = Callable[..., Encoder]


@pytest.fixture
def loads(with_karlo: Engine, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let the engine find ViT-L/14 by its name; notes what was loaded."""
    loaded: list[str] = []

    def load(name: str, **_: Any) -> Encoder:  # noqa: ANN401  as load_encoder
        loaded.append(name)
        return NamedOtherwise(load_encoder(str(tiny_model)), length=with_karlo.generator.card.clip.norm or 1.0)

    _ = with_karlo.encoder
    monkeypatch.setattr("phosphene.assemble.load_encoder", load)
    return loaded


def test_a_generator_of_another_space_gets_pictures_from_its_own_encoder(with_karlo: Engine, loads: list[str]) -> None:
    engine = with_karlo
    id_ = add_asset(picture(1), engine=engine, tenant=T, uri="upload:x").asset_id
    parts = (AskedPart(asset_id=id_), AskedPart(image=picture(2)), AskedPart(text="a bus"))
    made = drawn(engine, wanted(parts=parts, images=2))
    assert len(made.pictures) == 2
    assert loads == [VIT_L_14]  # once, and kept
    found = embedding_of_asset(id_, engine=engine, tenant=T, clip=engine.generator.card.clip)
    assert found.space.model == VIT_L_14
    right = expected(engine, picture(1), engine.encoder_for(engine.generator.card.clip))
    np.testing.assert_allclose(found.rows, right, rtol=1e-5)
    upload = embedding_of_picture(picture(1), engine=engine, encoder=engine.encoder_for(engine.generator.card.clip))
    np.testing.assert_allclose(upload.rows, right, rtol=1e-5)
    assert loads == [VIT_L_14]


def test_text_alone_needs_no_second_encoder(with_karlo: Engine, loads: list[str]) -> None:
    drawn(with_karlo)
    assert loads == []


def test_without_its_encoder_the_generation_says_what_is_missing(
    with_karlo: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    _ = with_karlo.encoder

    def not_here(name: str, **_: object) -> Encoder:
        raise ModelNotFound(f"the model {name} is not cached, and the hub can't be reached")

    monkeypatch.setattr("phosphene.assemble.load_encoder", not_here)
    asked = ask(with_karlo, wanted(parts=(AskedPart(image=picture()),)))
    run_generation(asked.id, engine=with_karlo)
    made = look(with_karlo, asked.id)
    assert made.state is GenerationState.FAILED
    assert f"the model {VIT_L_14} is not cached" in str(made.error)
    assert left(with_karlo) == []


def test_an_encoder_that_is_not_the_one_is_refused(engine: Engine, tiny_model: Path) -> None:
    clip = ClipSpace(32, (str(tiny_model),), space="another-000000000000")
    with pytest.raises(SpaceMismatch, match="another-000000000000"):
        engine.encoder_for(clip)
    assert engine.encoder_for(engine.generator.card.clip) is engine.encoder


def test_an_asset_that_is_not_there(engine: Engine) -> None:
    from uuid import uuid4

    with pytest.raises(NotFound):
        embedding_of_asset(AssetId(uuid4()), engine=engine, tenant=T, clip=engine.generator.card.clip)


def test_a_generator_goes_on_in_its_space_after_another_model_took_its_place(
    open_with: OpenEngine, tiny_model: Path, tmp_path: Path
) -> None:
    other = make_model(tmp_path / "other", seed=2)
    with open_with(model=str(other)) as engine:
        before = engine.spaces.learn(str(tiny_model))  # as it is open until a change of the model is finished
        assert engine.generator.card.clip.space == before.space.id != engine.encoder.space.id
        assert engine.encoder_for(engine.generator.card.clip).space == before.space
        assert engine._other_encoders == {}, "loaded once"
