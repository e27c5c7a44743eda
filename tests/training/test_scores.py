"""The scores of the model card are what their names say."""

from __future__ import annotations

import pytest
import torch

from training.clip.scores import score_retrieval


def test_a_perfect_ranking_scores_a_hundred() -> None:
    scores = score_retrieval(torch.eye(20), torch.eye(20, dtype=torch.bool))
    assert scores.recall == {1: 100.0, 5: 100.0, 10: 100.0}
    assert scores.interval_at_10 == (100.0, 100.0)
    assert scores.chance_at_10 == pytest.approx(100 * (1 - 0.95**10))


def test_the_best_of_several_right_pictures_counts() -> None:
    similarity = torch.tensor([[0.9, 0.8, 0.7, 0.6]])
    relevant = torch.tensor([[False, True, False, True]])
    scores = score_retrieval(similarity, relevant)
    assert scores.recall[1] == 0.0
    assert scores.recall[5] == 100.0


def test_the_eleventh_place_is_no_hit() -> None:
    similarity = torch.arange(12, 0, -1).float()[None] / 12
    relevant = torch.zeros(1, 12, dtype=torch.bool)
    relevant[0, 10] = True
    assert score_retrieval(similarity, relevant).recall[10] == 0.0
    relevant[0, 9] = True
    assert score_retrieval(similarity, relevant).recall[10] == 100.0
