"""The folder that training writes and the runtime reads. Random weights: plumbing, not meaning."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import numpy as np
import pytest
import torch

from phosphene.errors import InvalidInput, ModelError
from phosphene.unclip import starter_layout as layout
from phosphene.unclip.base import Sampling
from phosphene.unclip.starter_layout import StarterNetworks, StarterShape, read_config
from tests.unclip import starter_models


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return starter_models.save(tmp_path_factory.mktemp("unclip") / "starter", space="starter-0")


def outputs(networks: StarterNetworks) -> list[torch.Tensor]:
    torch.manual_seed(3)
    unit = torch.nn.functional.normalize(torch.randn(2, networks.dimension), dim=-1)
    t = torch.tensor([10, 900])
    cells = torch.randn(2, 12, 8, 8)
    large = torch.randn(2, 12, 16, 16)
    with torch.no_grad():
        return [
            layout.predict_embedding(networks, torch.randn(2, networks.dimension), t, unit),
            layout.predict_picture(networks, cells, t, unit),
            layout.predict_larger(networks, large, t, large),
        ]


def test_networks_come_back_from_disk_as_they_went(folder: Path) -> None:
    fresh, again = starter_models.fresh(), StarterNetworks.load(folder, read_config(folder))
    for name in ("prior", "decoder", "super_resolution"):
        torch.testing.assert_close(getattr(again, name).state_dict(), getattr(fresh, name).state_dict(), rtol=0, atol=0)
    for before, after in zip(outputs(fresh), outputs(again), strict=True):
        # Weights lie elsewhere in memory, and sums over them are taken in another order there.
        torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)
    assert (again.dimension, again.decoder_px, again.super_resolution_px) == (256, 16, 32)
    assert not any(p.requires_grad for p in again.decoder.parameters())


def test_a_saved_model_is_safetensors_and_json_that_everyone_may_read(folder: Path) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".safetensors"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o644}


def test_what_training_chose_is_kept(tmp_path: Path) -> None:
    sampling = Sampling(prior_guidance=1.5, decoder_steps=12)
    starter_models.fresh().save(tmp_path, space="starter-123", sampling=sampling)
    config = read_config(tmp_path)
    assert (config.space, config.sampling, config.decoder_fold) == ("starter-123", sampling, 2)


def test_every_condition_reaches_the_output() -> None:
    networks = starter_models.fresh()
    zero, t = torch.zeros(1, networks.dimension), torch.tensor([500])
    one = torch.nn.functional.normalize(torch.ones(1, networks.dimension), dim=-1)
    noisy, cells = torch.randn(1, networks.dimension), torch.randn(1, 12, 8, 8)
    with torch.no_grad():
        prior = [layout.predict_embedding(networks, noisy, t, text) for text in (zero, one, -one)]
        decoder = [layout.predict_picture(networks, cells, t, image) for image in (zero, one, -one)]
    for outcomes in (prior, decoder):
        for a, b in ((0, 1), (1, 2), (0, 2)):
            assert (outcomes[a] - outcomes[b]).abs().max() > 1e-3


def test_the_default_shape_is_of_the_promised_size() -> None:
    networks = starter_models.fresh(StarterShape())
    millions = [
        sum(p.numel() for p in network.parameters()) / 1e6
        for network in (networks.prior, networks.decoder, networks.super_resolution)
    ]
    assert 3 < millions[0] < 4
    assert 3 < millions[1] < 8
    assert millions[2] < 1
    assert networks.super_resolution_px >= 128


def test_the_schedules_noise_fully_and_walk_to_zero() -> None:
    for schedule, clip in ((layout.prior_schedule(), 5.0), (layout.picture_schedule(), 1.0)):
        schedule.set_timesteps(7)
        assert (int(schedule.timesteps[0]), int(schedule.timesteps[-1])) == (999, 0)
        assert schedule.alphas_cumprod[999] < 1e-4
        assert (schedule.config.prediction_type, schedule.config.clip_sample_range) == ("sample", clip)


def test_bytes_survive_the_way_through_the_networks_units() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 12, 3), dtype=np.uint8)
    pictures = layout.from_pixels(pixels)
    assert (float(pictures.min()), float(pictures.max())) >= (-1.0, -1.0)
    assert float(pictures.max()) <= 1.0
    for k in (1, 2, 4):
        cells = layout.fold(pictures, k)
        assert cells.shape == (2, 3 * k * k, 8 // k, 12 // k)
        np.testing.assert_array_equal(layout.to_pixels(layout.unfold(cells, k)), pixels)
    np.testing.assert_array_equal(layout.to_pixels(torch.full((1, 3, 1, 1), 1.7)), 255)


def test_whitening_that_was_never_measured_is_refused(tmp_path: Path) -> None:
    ones = np.ones(256, dtype=np.float32)
    for mean, std in ((ones, 0 * ones), (ones[:5], ones), (ones, ones[None])):
        with pytest.raises(InvalidInput, match="std"):
            StarterNetworks.fresh(starter_models.SHAPE, mean=mean, std=std)
    networks = starter_models.fresh()
    networks.prior.clip_std.data.zero_()
    networks.save(tmp_path, space="s")
    with pytest.raises(ModelError, match="clip_std is 0"):
        StarterNetworks.load(tmp_path, read_config(tmp_path))


def test_networks_that_do_not_belong_together_are_refused(folder: Path) -> None:
    config = read_config(folder)
    for changed in ({"decoder_fold": 1}, {"super_resolution_fold": 4}):
        with pytest.raises(ModelError, match="channels"):
            StarterNetworks.load(folder, config.model_copy(update=changed))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": "other"}, "format"),
        ({"colour": 1}, "colour"),
        ({"decoder_fold": 0}, "decoder_fold"),
        ({"sampling": {"prior_steps": 1}}, "prior_steps"),
    ],
)
def test_a_wrong_configuration_says_where(folder: Path, tmp_path: Path, change: dict[str, object], said: str) -> None:
    config = json.loads((folder / "unclip.json").read_text())
    (tmp_path / "unclip.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(ModelError, match=said) as caught:
        read_config(tmp_path)
    assert "unclip.json" in str(caught.value)


def test_a_configuration_that_is_not_there_or_no_json_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"unclip\.json"):
        read_config(tmp_path)
    (tmp_path / "unclip.json").write_text("{")
    with pytest.raises(ModelError, match=r"unclip\.json"):
        read_config(tmp_path)
