"""Labels learned from examples: trained, applied to the catalogue and to single pictures, taken away."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from indexer.probing import StandingProbe, apply_probe, delete_probe, standing_probes, train_probe
from phosphene.errors import Unavailable
from phosphene.labels.vocabulary import MAX_LABEL
from search_api import problems
from search_api.auth import PrincipalDep
from search_api.labelling import run_probe
from search_api.routes.dependencies import LONG, EngineDep, checked_filter
from search_api.routes.labels import picture_of
from search_api.schemas.label_probes import AppliedOut, ProbeAnswer, ProbeList, ProbeOut, ProbeRequest
from search_api.schemas.labels import PictureIn

router = APIRouter(prefix="/v1/probes", tags=["words for pictures"])

Name = Annotated[str, Path(min_length=1, max_length=MAX_LABEL, description="of a label that was learned")]


@router.post("", dependencies=LONG, responses=problems.responses(404, 429))
def train(body: ProbeRequest, engine: EngineDep, principal: PrincipalDep) -> ProbeOut:
    """Learn a label from examples, in the space of the model that answers. Takes seconds."""
    where = checked_filter(body.where, engine=engine, tenant=principal.tenant)
    probe = train_probe(body.name, body.examples(where), engine=engine, tenant=principal.tenant)
    return ProbeOut.of(StandingProbe(probe, stale=False))


@router.get("", responses=problems.responses())
def probes(engine: EngineDep, principal: PrincipalDep) -> ProbeList:
    """List the labels that were learned, with how well each does on examples that were held out."""
    found = standing_probes(engine=engine, tenant=principal.tenant)
    return ProbeList(probes=[ProbeOut.of(one) for one in found])


@router.post("/{name:path}/apply", dependencies=LONG, responses=problems.responses(404, 429))
def apply(name: Name, request: Request, engine: EngineDep, principal: PrincipalDep) -> AppliedOut:
    """Give the label to all pictures that show it, and to those that come in later: `probe_labels` in filters."""
    done = apply_probe(name, engine=engine, tenant=principal.tenant, stop=request.app.state.stopping)
    if done.stopped:
        raise Unavailable(f"the server is shutting down: {done.pictures} pictures are done; ask again")
    return AppliedOut.of(done)


@router.post("/{name:path}/predict", responses=problems.responses(404))
def predict(name: Name, body: PictureIn, engine: EngineDep, principal: PrincipalDep) -> ProbeAnswer:
    """Tell whether one picture shows the label. Nothing is kept."""
    return ProbeAnswer.of(*run_probe(picture_of(body, engine), name, engine=engine, tenant=principal.tenant))


@router.delete("/{name:path}", status_code=204, dependencies=LONG, responses=problems.responses(404, 429))
def remove(name: Name, engine: EngineDep, principal: PrincipalDep) -> Response:
    """Forget a label, and take it from all pictures."""
    delete_probe(name, engine=engine, tenant=principal.tenant)
    return Response(status_code=204)
