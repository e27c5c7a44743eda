"""Words for pictures: labels, descriptions, automatic keywords."""

from __future__ import annotations

from fastapi import APIRouter, Request

from indexer.labelling import write_keywords
from indexer.new_labels import label_calibration
from phosphene.assemble import Engine
from phosphene.errors import Unavailable
from search_api import problems
from search_api.auth import PrincipalDep
from search_api.labelling import Picture, run_classify, run_describe
from search_api.routes.dependencies import LONG, EngineDep
from search_api.routes.search import fetched_picture
from search_api.schemas.labels import (
    ClassifyRequest,
    ClassifyResponse,
    DescribeRequest,
    DescribeResponse,
    KeywordsRequest,
    KeywordsResponse,
    PictureIn,
    VocabularyOut,
)

router = APIRouter(prefix="/v1", tags=["words for pictures"])


@router.post("/classify", responses=problems.responses(404))
def classify(body: ClassifyRequest, engine: EngineDep, principal: PrincipalDep) -> ClassifyResponse:
    """Tell which of some labels a picture shows, without an example of any of them. Nothing is kept."""
    found = run_classify(
        picture_of(body, engine),
        body.labels,
        templates=body.templates,
        each=body.multi_label,
        engine=engine,
        tenant=principal.tenant,
    )
    return ClassifyResponse.of(found, each=body.multi_label, limit=body.limit)


@router.post("/describe", responses=problems.responses(404))
def describe(body: DescribeRequest, engine: EngineDep, principal: PrincipalDep) -> DescribeResponse:
    """Describe a picture: of each kind of phrase those that are nearest to it. Nothing is kept."""
    space, found = run_describe(
        picture_of(body, engine), body.kinds, most=body.limit, engine=engine, tenant=principal.tenant
    )
    return DescribeResponse.of(space, found)


@router.post("/keywords", dependencies=LONG, responses=problems.responses(429))
def keywords(request: Request, body: KeywordsRequest, engine: EngineDep, principal: PrincipalDep) -> KeywordsResponse:
    """Give the pictures of the catalogue automatic keywords: `auto_keywords`, beside what their owner says of them.

    Takes some seconds for each 10,000 pictures; searches go on meanwhile.
    """
    done = write_keywords(body.asked(), engine=engine, tenant=principal.tenant, stop=request.app.state.stopping)
    if done.stopped:
        raise Unavailable(f"the server is shutting down: {done.pictures} pictures are done; ask for new_only later")
    return KeywordsResponse.of(done)


@router.get("/vocabulary", responses=problems.responses())
def vocabulary(engine: EngineDep, principal: PrincipalDep) -> VocabularyOut:
    """Give the words that are said of pictures, their licence, and how their probabilities were learned."""
    with engine.answering() as space:
        return VocabularyOut.of(engine.vocabulary, label_calibration(principal.tenant, space, engine=engine))


def picture_of(body: PictureIn, engine: Engine) -> Picture:
    """Give the picture that a request names, fetched if need be. Raises Forbidden, PictureError."""
    return body.picture(fetched=fetched_picture(body.image_url, engine=engine) if body.image_url is not None else None)
