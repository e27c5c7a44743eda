"""How a collection on a Qdrant server is laid out for 1 million, 100 million and 5 billion vectors.

PHOSPHENE_QDRANT_PROFILE names one; server.py tells the server, benchmarks/scaling.py does the arithmetic that
docs/scaling.md prints. What can be changed later and what can't is Qdrant's: shards can't (but in its cloud), nor what
the originals are stored as; codes, graph, tiers, replicas and limits can.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal, get_args

ProfileName = Literal["1m", "100m", "5b"]


class Tier(StrEnum):
    """Where a server keeps a part of a collection beside the disk, where all of it is."""

    PINNED = "pinned"  # in its memory, for good
    CACHED = "cached"  # mapped and read ahead: in memory as long as there is room
    COLD = "cold"  # mapped: in memory once it was asked for


class Codes(StrEnum):
    """What stands for a vector in the first round of a search; the best are scored again by their originals."""

    INT8 = "int8"
    BINARY = "binary"
    TURBO4 = "turbo4"  # TurboQuant, 4 bits a number; servers from 1.18 on
    TURBO2 = "turbo2"
    TURBO1 = "turbo1"

    @property
    def bits(self) -> int:
        """Bits a number."""
        return _BITS[self]

    @property
    def before_turbo(self) -> Codes:
        """Give the nearest that servers before 1.18 have."""
        return {Codes.TURBO4: Codes.INT8, Codes.TURBO2: Codes.INT8, Codes.TURBO1: Codes.BINARY}.get(self, self)


_BITS = {Codes.INT8: 8, Codes.BINARY: 1, Codes.TURBO4: 4, Codes.TURBO2: 2, Codes.TURBO1: 1}


@dataclass(frozen=True, slots=True)
class Limits:
    """Strict mode: what a server refuses, whoever asks. All that Phosphene asks for stays below."""

    query_limit: int = 200_000  # hits; pages go 10,000 deep, and ties are read to their end
    filter_conditions: int = 2048
    condition_values: int = 2048
    upsert_points: int = 1000
    batched_queries: int = 64
    timeout_s: int = 120


@dataclass(frozen=True, slots=True)
class Profile:
    """A layout."""

    name: ProfileName
    vectors: int  # that it is made for
    shards: int
    replicas: int  # copies of each shard, on different nodes
    write_consistency: int  # copies that have a write before it counts as done
    originals: Literal["float32", "float16"]
    originals_in: Tier
    codes: Codes
    codes_in: Tier
    oversampling: float  # originals that are read, a hit asked for
    m: int  # links of a point in the graph
    ef_construct: int
    ef: int  # candidates that a search keeps
    graph_in: Tier
    field_links: bool  # the graph gets links for each indexed field too, so that filters don't cut it
    acorn: bool  # under filters a search looks at neighbours of neighbours
    payload_in: Tier
    fields_in: Tier  # payload indexes; the tenant's is always pinned
    segments: int | None  # a shard; None: as many as the node has cores
    segment_kb: int | None  # at most
    refuse_unindexed: bool  # a filter on a field without an index would read every payload
    limits: Limits = Limits()

    def with_replicas(self, replicas: int | None) -> Profile:
        """Keep so many copies instead, and wait for most of them to write; None: as it is."""
        if replicas is None:
            return self
        return replace(self, replicas=replicas, write_consistency=replicas // 2 + 1)


PROFILES: dict[ProfileName, Profile] = {
    "1m": Profile(
        name="1m",
        vectors=1_000_000,
        shards=1,
        replicas=1,
        write_consistency=1,
        originals="float32",
        originals_in=Tier.COLD,
        codes=Codes.TURBO4,
        codes_in=Tier.PINNED,
        oversampling=3.0,
        m=16,
        ef_construct=128,
        ef=128,
        graph_in=Tier.CACHED,
        field_links=True,
        acorn=False,
        payload_in=Tier.COLD,
        fields_in=Tier.PINNED,
        segments=None,
        segment_kb=None,
        refuse_unindexed=False,
    ),
    "100m": Profile(
        name="100m",
        vectors=100_000_000,
        shards=12,  # divide evenly among 2, 3, 4, 6 and 12 nodes
        replicas=2,
        write_consistency=2,
        originals="float32",
        originals_in=Tier.COLD,
        codes=Codes.TURBO4,
        codes_in=Tier.PINNED,
        oversampling=3.0,
        m=16,
        ef_construct=128,
        ef=128,
        graph_in=Tier.CACHED,
        field_links=True,
        acorn=False,
        payload_in=Tier.COLD,
        fields_in=Tier.CACHED,
        segments=4,
        segment_kb=10_000_000,
        refuse_unindexed=True,
    ),
    "5b": Profile(
        name="5b",
        vectors=5_000_000_000,
        shards=240,
        replicas=2,
        write_consistency=2,
        originals="float16",
        originals_in=Tier.COLD,
        codes=Codes.TURBO2,
        codes_in=Tier.PINNED,
        oversampling=4.0,
        m=12,
        ef_construct=128,
        ef=96,  # of each shard
        graph_in=Tier.CACHED,
        field_links=False,
        acorn=True,
        payload_in=Tier.COLD,
        fields_in=Tier.COLD,
        segments=4,
        segment_kb=20_000_000,
        refuse_unindexed=True,
    ),
}
NAMES: tuple[ProfileName, ...] = get_args(ProfileName)
