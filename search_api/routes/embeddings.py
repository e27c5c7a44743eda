"""Embeddings for callers who bring their own index."""

from __future__ import annotations

from fastapi import APIRouter

from search_api import problems
from search_api.auth import PrincipalDep
from search_api.compose import embed_pictures
from search_api.question import normalised_text
from search_api.routes.dependencies import EngineDep
from search_api.schemas import EmbeddingsRequest, EmbeddingsResponse

router = APIRouter(tags=["embeddings"])


@router.post("/v1/embeddings", responses=problems.responses())
def embed(body: EmbeddingsRequest, engine: EngineDep, principal: PrincipalDep) -> EmbeddingsResponse:
    """Embed texts and pictures in this server's space. Nothing is kept."""
    del principal  # any caller may; the guard has seen the key
    texts = [normalised_text(text) for text in body.texts]
    with engine.answering() as opened:
        encoder = opened.encoder
        images = (
            embed_pictures(body.images, encoder=encoder, decoders=engine.decoders).rows.tolist() if body.images else []
        )
        embedded = encoder.encode_texts(texts).unit().rows.tolist() if texts else []
    space = encoder.space
    return EmbeddingsResponse(
        space=space.id,
        model=space.model,
        dimension=space.dimension,
        texts=embedded,
        images=images,
    )
