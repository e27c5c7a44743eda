"""MiniLM's embeddings of the corpus and of every token, and the basis they are projected on."""

from __future__ import annotations

import multiprocessing
from typing import TYPE_CHECKING

import numpy as np
import torch
from open_clip.tokenizer import SimpleTokenizer
from transformers import AutoModel, AutoTokenizer

from training.clip.corpus import own_texts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from training.clip.workspace import Workspace

DIMENSIONS = 256
_BATCH = 256
_MAX_TOKENS = 40
_CHUNK = 4096


def ask_teacher(workspace: Workspace, *, processes: int = 2) -> None:
    """Write `workspace.teacher`: unit targets (n, DIMENSIONS) of the corpus and of the token strings, float16.

    The target space is the centred PCA of the teacher's: half of its covariance comes from the texts of the
    pictures, half from the whole corpus.
    """
    if workspace.teacher.exists():
        return
    texts = workspace.corpus.read_text(encoding="utf-8").splitlines()
    tokenizer = SimpleTokenizer()
    tokens = [tokenizer.decode([token]).strip() or "." for token in range(tokenizer.vocab_size)]
    chunks = [(str(workspace.minilm), part) for part in _chunks([*texts, *tokens])]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        embeddings = np.concatenate(pool.map(embed_sentences, chunks, chunksize=1))
    mean, basis = _principal_axes(embeddings[: len(texts)], own=len(own_texts(workspace)))
    targets = _unit((embeddings - mean) @ basis).astype(np.float16)
    np.savez(workspace.teacher, texts=targets[: len(texts)], tokens=targets[len(texts) :], mean=mean, basis=basis)


def embed_sentences(job: tuple[str, Sequence[str]]) -> NDArray[np.float32]:
    """Mean-pooled unit embeddings of MiniLM, (n, 384) float32; job is (model folder, texts)."""
    folder, texts = job
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    result = np.empty((len(texts), model.config.hidden_size), np.float32)
    for start in range(0, len(order), _BATCH):
        rows = order[start : start + _BATCH]
        batch = [texts[row] for row in rows]
        inputs = tokenizer(batch, padding=True, truncation=True, max_length=_MAX_TOKENS, return_tensors="pt")
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            hidden = model(**inputs).last_hidden_state.float()
        mask = inputs["attention_mask"][..., None].float()
        result[rows] = ((hidden * mask).sum(1) / mask.sum(1)).numpy()
    return _unit(result)


def _chunks(texts: Sequence[str]) -> list[Sequence[str]]:
    return [texts[start : start + _CHUNK] for start in range(0, len(texts), _CHUNK)]


def _principal_axes(embeddings: NDArray[np.float32], *, own: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    mean = embeddings[:own].mean(axis=0)
    centred = embeddings - mean
    covariance = centred[:own].T @ centred[:own] / own + centred.T @ centred / len(centred)
    values, vectors = np.linalg.eigh(covariance)
    basis = vectors[:, ::-1][:, :DIMENSIONS]
    print(f"{DIMENSIONS} of {len(values)} axes keep {values[-DIMENSIONS:].sum() / values.sum():.1%} of the variance")
    return mean, np.ascontiguousarray(basis)


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-6)
    return unit
