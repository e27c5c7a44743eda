"""A profile in the words of qdrant_client: what server.py makes collections and payload indexes with, and asks.

Servers differ: from 1.18 on there is TurboQuant, and strict mode is used; from 1.19 on each part of a collection can be
placed by itself. What an older one lacks is replaced by the nearest that it has.
"""

from __future__ import annotations

from typing import Any

from qdrant_client import models

from phosphene.types import FieldKind
from phosphene.vectors.profiles import Codes, Profile, Tier

Version = tuple[int, int]

_TURBO: Version = (1, 18)
_TIERS: Version = (1, 19)
RANKS_WORDS: Version = (1, 20)  # BM25 over a text index

_TURBO_BITS = {
    Codes.TURBO4: models.TurboQuantBitSize.BITS4,
    Codes.TURBO2: models.TurboQuantBitSize.BITS2,
    Codes.TURBO1: models.TurboQuantBitSize.BITS1,
}
_SCHEMAS = {
    FieldKind.KEYWORD: models.PayloadSchemaType.KEYWORD,
    FieldKind.INTEGER: models.PayloadSchemaType.INTEGER,
    FieldKind.FLOAT: models.PayloadSchemaType.FLOAT,
    FieldKind.BOOL: models.PayloadSchemaType.INTEGER,  # stored as 0 and 1, as in the embedded engine
    FieldKind.DATETIME: models.PayloadSchemaType.DATETIME,
    FieldKind.GEO: models.PayloadSchemaType.GEO,
}
_PARAMS: dict[models.PayloadSchemaType, tuple[type[Any], Any]] = {
    models.PayloadSchemaType.KEYWORD: (models.KeywordIndexParams, models.KeywordIndexType.KEYWORD),
    models.PayloadSchemaType.INTEGER: (models.IntegerIndexParams, models.IntegerIndexType.INTEGER),
    models.PayloadSchemaType.FLOAT: (models.FloatIndexParams, models.FloatIndexType.FLOAT),
    models.PayloadSchemaType.DATETIME: (models.DatetimeIndexParams, models.DatetimeIndexType.DATETIME),
    models.PayloadSchemaType.GEO: (models.GeoIndexParams, models.GeoIndexType.GEO),
    models.PayloadSchemaType.BOOL: (models.BoolIndexParams, models.BoolIndexType.BOOL),
}


def collection_of(profile: Profile, dimension: int, version: Version) -> dict[str, Any]:
    """Give the arguments of `QdrantClient.create_collection`."""
    made: dict[str, Any] = {
        "vectors_config": models.VectorParams(
            size=dimension,
            distance=models.Distance.COSINE,
            datatype=models.Datatype.FLOAT16 if profile.originals == "float16" else None,
            **_placed(profile.originals_in, version, legacy={"on_disk": profile.originals_in is Tier.COLD}),
        ),
        "shard_number": profile.shards,
        "replication_factor": profile.replicas,
        "write_consistency_factor": profile.write_consistency,
        "on_disk_payload": profile.payload_in is Tier.COLD,
        "quantization_config": _codes(profile, version),
        "hnsw_config": models.HnswConfigDiff(
            m=profile.m,
            ef_construct=profile.ef_construct,
            **_placed(profile.graph_in, version, legacy={"on_disk": profile.graph_in is Tier.COLD}),
        ),
    }
    if profile.segments is not None or profile.segment_kb is not None:
        made["optimizers_config"] = models.OptimizersConfigDiff(
            default_segment_number=profile.segments, max_segment_size=profile.segment_kb
        )
    if version >= _TURBO:
        made["strict_mode_config"] = _strict_mode(profile)
    return made


def _placed(tier: Tier, version: Version, *, legacy: dict[str, Any]) -> dict[str, Any]:
    return {"memory": models.Memory(tier.value)} if version >= _TIERS else legacy


def _codes(profile: Profile, version: Version) -> models.QuantizationConfig:
    codes = profile.codes if version >= _TURBO else profile.codes.before_turbo
    placed = _placed(profile.codes_in, version, legacy={"always_ram": profile.codes_in is Tier.PINNED})
    if codes in _TURBO_BITS:
        return models.TurboQuantization(turbo=models.TurboQuantQuantizationConfig(bits=_TURBO_BITS[codes], **placed))
    if codes is Codes.BINARY:
        return models.BinaryQuantization(binary=models.BinaryQuantizationConfig(**placed))
    return models.ScalarQuantization(scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8, **placed))


def _strict_mode(profile: Profile) -> models.StrictModeConfig:
    limits = profile.limits
    return models.StrictModeConfig(
        enabled=True,
        unindexed_filtering_retrieve=not profile.refuse_unindexed,
        unindexed_filtering_update=not profile.refuse_unindexed,
        max_query_limit=limits.query_limit,
        max_timeout=limits.timeout_s,
        filter_max_conditions=limits.filter_conditions,
        condition_max_size=limits.condition_values,
        upsert_max_batchsize=limits.upsert_points,
        search_max_batchsize=limits.batched_queries,
        search_max_hnsw_ef=4 * profile.ef,
        search_max_oversampling=4 * profile.oversampling,
        search_allow_exact=True,  # `phosphene evaluate --index-recall` compares with it
    )


def tenant_schema(version: Version) -> models.KeywordIndexParams:
    """Give the index of the tenant: its points lie together, and it is on the way of every query."""
    placed = _placed(Tier.PINNED, version, legacy={})
    return models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True, **placed)


def words_schema(profile: Profile, version: Version) -> models.TextIndexParams:
    """Give the index that words are looked up in. They come cut and folded: the server is to leave them as they are."""
    placed = {} if profile.fields_in is Tier.PINNED else _placed(profile.fields_in, version, legacy={})
    return models.TextIndexParams(
        type=models.TextIndexType.TEXT,
        tokenizer=models.TokenizerType.WHITESPACE,
        lowercase=False,
        scoring=True,
        enable_hnsw=False,  # nothing is filtered by it
        **placed,
    )


def field_schema(
    kind: FieldKind, profile: Profile, version: Version
) -> tuple[models.PayloadSchemaType, models.PayloadSchemaParams | None] | None:
    """Give the kind of a field's index, and its parameters where they are not the server's own; None for no index.

    Free text is filtered for existence only. Where filters need an index they need one for that too, and any will do,
    since each comes with one of where values are missing: that of bools is empty for texts.
    """
    if kind is FieldKind.TEXT:
        schema = models.PayloadSchemaType.BOOL if profile.refuse_unindexed and version >= _TURBO else None
    else:
        schema = _SCHEMAS[kind]
    if schema is None:
        return None
    options: dict[str, Any] = {}
    if profile.fields_in is not Tier.PINNED:
        options |= _placed(profile.fields_in, version, legacy={"on_disk": profile.fields_in is Tier.COLD})
    if not profile.field_links and version >= _TURBO:
        options["enable_hnsw"] = False
    if not options:
        return schema, None
    params, type_ = _PARAMS[schema]
    return schema, params(type=type_, **options)


def search_params(profile: Profile, version: Version, *, exact: bool, filtered: bool) -> models.SearchParams:
    """Give what a query asks of the graph and the codes; `filtered`: by more than the tenant."""
    if exact:
        return models.SearchParams(exact=True, quantization=models.QuantizationSearchParams(ignore=True))
    return models.SearchParams(
        hnsw_ef=profile.ef,
        quantization=models.QuantizationSearchParams(rescore=True, oversampling=profile.oversampling),
        acorn=models.AcornSearchParams(enable=True) if profile.acorn and filtered and version >= _TURBO else None,
    )
