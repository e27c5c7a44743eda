"""Embeddings come back from their tokens, and the autoregressive prior looks only at what came before."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from training.unclip.autoregressive_prior import AutoregressivePrior
from training.unclip.recipe import AutoregressiveShape
from training.unclip.tokens import EmbeddingTokens, MatchTokens

DIMENSION = 12
SHAPE = AutoregressiveShape(components=DIMENSION, buckets=32, match_buckets=8, width=16, heads=2, layers=2)


def embeddings(count: int = 2000) -> torch.Tensor:
    chance = torch.Generator().manual_seed(0)
    spread = torch.linspace(0.1, 1, DIMENSION)  # the last axis varies most
    return functional.normalize(torch.randn(count, DIMENSION, generator=chance) * spread + 0.3, dim=-1)


def prior() -> AutoregressivePrior:
    torch.manual_seed(1)
    tokens = EmbeddingTokens.fit(embeddings(), components=SHAPE.components, buckets=SHAPE.buckets)
    network = AutoregressivePrior(SHAPE, tokens, MatchTokens.fit(torch.rand(500), buckets=SHAPE.match_buckets))
    torch.nn.init.normal_(network.answers)  # an untrained one tells nothing of any token
    return network.eval()


def test_embeddings_come_back_from_their_tokens() -> None:
    units = embeddings()
    tokens = EmbeddingTokens.fit(units, components=DIMENSION, buckets=64)
    back = tokens.decode(tokens.encode(units))
    torch.testing.assert_close(back.norm(dim=1), torch.ones(len(units)))
    assert float((back * units).sum(dim=1).mean()) > 0.999  # one bucket off: 0.997
    coarse = EmbeddingTokens.fit(units, components=DIMENSION // 2, buckets=64)
    coarse_cosine = float((coarse.decode(coarse.encode(units)) * units).sum(dim=1).mean())
    assert 0.8 < coarse_cosine < 0.99


def test_buckets_are_filled_evenly_and_the_first_component_varies_most() -> None:
    units = embeddings()
    tokens = EmbeddingTokens.fit(units, components=DIMENSION, buckets=16)
    encoded = tokens.encode(units)
    assert encoded.dtype == torch.int64
    for component in range(DIMENSION):
        assert torch.bincount(encoded[:, component], minlength=16).tolist() == [125] * 16
    spread = ((units - tokens.mean) @ tokens.axes).std(dim=0)
    assert spread.tolist() == sorted(spread.tolist(), reverse=True)


def test_tokens_are_read_in_standard_deviations() -> None:
    units = embeddings()
    tokens = EmbeddingTokens.fit(units, components=DIMENSION, buckets=16)
    values = tokens.values(tokens.encode(units)[:, 3:6], first=3)
    projected = ((units - tokens.mean) @ tokens.axes)[:, 3:6]
    torch.testing.assert_close(values.std(dim=0), torch.ones(3), atol=0.05, rtol=0)
    for place in range(3):
        assert float(torch.corrcoef(torch.stack([values[:, place], projected[:, place]]))[0, 1]) > 0.98


def test_too_few_embeddings_are_refused() -> None:
    with pytest.raises(ValueError, match="10 embeddings can't be cut into 8 buckets"):
        EmbeddingTokens.fit(embeddings(10), components=2, buckets=8)


def test_better_fits_have_higher_tokens() -> None:
    match = MatchTokens.fit(torch.linspace(-1, 1, 800), buckets=8)
    assert match.encode(torch.tensor([-2.0, -0.9, 0.01, 0.9, 2.0])).tolist() == [0, 0, 4, 7, 7]


def test_no_token_is_told_from_itself_or_later_ones() -> None:
    network = prior()
    tokens = network.tokens.encode(embeddings(4))
    text, fits = embeddings(4), torch.zeros(4, dtype=torch.int64)
    before = network(text, fits, tokens)
    changed = tokens.clone()
    changed[:, 5] = (changed[:, 5] + 1) % SHAPE.buckets
    after = network(text, fits, changed)
    torch.testing.assert_close(after[:, :6], before[:, :6])
    assert not torch.allclose(after[:, 6:], before[:, 6:], atol=1e-4)
    assert not torch.allclose(network(-text, fits, tokens)[:, 0], before[:, 0], atol=1e-4)


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_drawing_token_by_token_agrees_with_telling_all_at_once(guidance: float) -> None:
    network = prior()
    with torch.no_grad():
        network.answers.mul_(1e4)  # leaves nothing to chance
    text, fits = embeddings(5), torch.tensor([0, 1, 2, 3, 7])
    generators = [torch.Generator().manual_seed(seed) for seed in range(5)]
    drawn = network.draw_tokens(text, fits, generators, guidance=guidance)
    nothing = network(torch.zeros_like(text), fits, drawn)
    logits = nothing + guidance * (network(text, fits, drawn) - nothing)
    assert torch.equal(logits.argmax(dim=-1), drawn)


def test_the_same_seed_draws_the_same_embedding_and_each_row_has_its_own() -> None:
    network, text = prior(), embeddings(1).expand(3, -1)
    first, again, other = network.sample(text, [torch.Generator().manual_seed(seed) for seed in (4, 4, 5)])
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert float(first.norm()) == pytest.approx(1, abs=1e-5)
