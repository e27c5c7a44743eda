"""What goes over HTTP: every field documented, unknown fields refused."""

from search_api.schemas.assets import AssetChange, AssetList, AssetOut
from search_api.schemas.calibrations import CalibrationList, CalibrationOut, CalibrationRequest
from search_api.schemas.generations import (
    AcceptRequest,
    EditIn,
    GenerateRequest,
    GenerationList,
    GenerationOut,
    OfferOut,
    PartIn,
    SamplingIn,
)
from search_api.schemas.ingests import (
    CountsOut,
    IngestList,
    IngestRequest,
    IngestResponse,
    QuarantineEntry,
    QuarantinePage,
)
from search_api.schemas.search import (
    EmbeddingsRequest,
    EmbeddingsResponse,
    HitOut,
    MatchOut,
    SearchRequest,
    SearchResponse,
    TimingOut,
)
from search_api.schemas.service import (
    FieldList,
    FieldOut,
    Problem,
    Readiness,
    StatusResponse,
    VerifyRequest,
    VerifyResponse,
)
from search_api.schemas.values import Body, MetadataIn, Title

__all__ = [
    "AcceptRequest",
    "AssetChange",
    "AssetList",
    "AssetOut",
    "Body",
    "CalibrationList",
    "CalibrationOut",
    "CalibrationRequest",
    "CountsOut",
    "EditIn",
    "EmbeddingsRequest",
    "EmbeddingsResponse",
    "FieldList",
    "FieldOut",
    "GenerateRequest",
    "GenerationList",
    "GenerationOut",
    "HitOut",
    "IngestList",
    "IngestRequest",
    "IngestResponse",
    "MatchOut",
    "MetadataIn",
    "OfferOut",
    "PartIn",
    "Problem",
    "QuarantineEntry",
    "QuarantinePage",
    "Readiness",
    "SamplingIn",
    "SearchRequest",
    "SearchResponse",
    "StatusResponse",
    "TimingOut",
    "Title",
    "VerifyRequest",
    "VerifyResponse",
]
