"""Memory, disk and nodes that each layout of a server collection takes, and what a query costs then: arithmetic.

    python -m benchmarks.scaling

Prints the tables of docs/scaling.md from phosphene/vectors/profiles.py; the page says where each formula comes from.
Nothing is measured here. GB are 10^9 bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from phosphene.vectors.profiles import PROFILES, Codes, Profile, ProfileName, Tier

DIMENSIONS = (512, 768)  # ViT-B-32, ViT-L-14
MILLION = 1_000_000
GB = 1e9

PAYLOAD_BYTES = 783  # JSON of a point of the demo catalogue, mean
FIELD_BYTES = 445  # of its 28 indexed fields and its words: 8 a number, texts as long as they are
ID_BYTES = 52
CODE_EXTRA = {
    Codes.TURBO4: 8,
    Codes.TURBO2: 8,
    Codes.TURBO1: 8,
    Codes.INT8: 4,
    Codes.BINARY: 0,
}  # bytes beside the bits
HEADROOM = 1.2
PAGE = 4096  # bytes that a read of the disk brings at least
READS_A_SECOND = 500_000  # random ones, of the disks of a node: one good NVMe drive
GB_A_SECOND = 3  # the same in a row
NODE_GB: dict[ProfileName, int] = {"1m": 4, "100m": 64, "5b": 64}  # memory
NODE_VECTORS = 100 * MILLION  # that one node serves well, whatever its memory
LIMITS = (10, 100)


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes of a vector and all that belongs to it, one copy, by part."""

    originals: float
    codes: float
    graph: float
    ids: float
    payload: float
    fields: float

    @property
    def disk(self) -> float:
        """All is on the disk, whatever is in memory too."""
        return self.originals + self.codes + self.graph + self.ids + self.payload + self.fields


def footprint(profile: Profile, dimension: int) -> Footprint:
    """Give the bytes of a vector of so many numbers."""
    return Footprint(
        originals=dimension * (4 if profile.originals == "float32" else 2),
        codes=dimension * profile.codes.bits / 8 + CODE_EXTRA[profile.codes],
        graph=profile.m * 2 * 4 * 1.2,
        ids=ID_BYTES,
        payload=1.5 * PAYLOAD_BYTES,
        fields=2 * FIELD_BYTES,
    )


def memory(profile: Profile, dimension: int) -> float:
    """Give the bytes of a vector that are to be in memory: what is pinned or cached."""
    parts = footprint(profile, dimension)
    placed = (
        (parts.originals, profile.originals_in),
        (parts.codes, profile.codes_in),
        (parts.graph, profile.graph_in),
        (parts.payload, profile.payload_in),
        (parts.fields, profile.fields_in),
    )
    return parts.ids + sum(size for size, tier in placed if tier is not Tier.COLD)


@dataclass(frozen=True, slots=True)
class Cluster:
    """What a layout takes in all, copies and headroom included."""

    memory: float  # bytes
    disk: float
    nodes: int


def cluster(profile: Profile, dimension: int) -> Cluster:
    """Add it up: nodes for memory and vectors, three at least where there are copies, shards spread evenly."""
    copies = profile.vectors * profile.replicas
    in_memory = memory(profile, dimension) * copies * HEADROOM
    needed = max(
        math.ceil(in_memory / (NODE_GB[profile.name] * GB)),
        math.ceil(copies / NODE_VECTORS),
        3 if profile.replicas > 1 else 1,
    )
    shards = profile.shards * profile.replicas
    nodes = next((count for count in range(needed, shards + 1) if shards % count == 0), needed)
    return Cluster(in_memory, footprint(profile, dimension).disk * copies * HEADROOM, nodes)


@dataclass(frozen=True, slots=True)
class Query:
    """The most that a query costs the whole cluster when nothing is cached."""

    comparisons: int  # of codes
    reads: int  # of originals
    read_bytes: int


def query(profile: Profile, dimension: int, limit: int) -> Query:
    """Count for one segment a shard: each of `ef` points on the way has 2 m neighbours at most."""
    reads = math.ceil(limit * profile.oversampling) * profile.shards
    pages = math.ceil(footprint(profile, dimension).originals / PAGE)
    return Query(profile.shards * max(profile.ef, limit) * 2 * profile.m, reads, reads * pages * PAGE)


def tables() -> str:
    """Write all tables in Markdown."""
    profiles = list(PROFILES.values())
    parts = [
        _table(["", *(f"`{profile.name}`" for profile in profiles)], _layout(profiles)),
        "One copy of a million vectors, GB:",
        _table(["", *_columns(profiles)], _per_million(profiles)),
        "All of it, with copies and headroom:",
        _table(["", *_columns(profiles)], _in_all(profiles)),
        "The most that one question costs, over all shards, with one segment each and no original in memory:",
        _table(["", *_columns(profiles)], _costs(profiles)),
    ]
    return "\n\n".join(parts)


def _columns(profiles: Sequence[Profile]) -> list[str]:
    return [f"`{profile.name}`, {dimension}" for profile in profiles for dimension in DIMENSIONS]


def _layout(profiles: Sequence[Profile]) -> list[list[str]]:
    def row(name: str, values: Iterable[object]) -> list[str]:
        return [name, *map(str, values)]

    return [
        row("vectors", (f"{one.vectors:,}" for one in profiles)),
        row("shards x copies", (f"{one.shards} x {one.replicas}" for one in profiles)),
        row("vectors a shard", (f"{one.vectors // one.shards:,}" for one in profiles)),
        row("copies that a write waits for", (one.write_consistency for one in profiles)),
        row("originals", (f"{one.originals}, {one.originals_in}" for one in profiles)),
        row("codes", (f"{one.codes}, {one.codes_in}" for one in profiles)),
        row("originals scored again, a hit asked for", (f"{one.oversampling:g}" for one in profiles)),
        row(
            "graph: m, ef_construct, ef", (f"{one.m}, {one.ef_construct}, {one.ef}; {one.graph_in}" for one in profiles)
        ),
        row("links for indexed fields", ("yes" if one.field_links else "no" for one in profiles)),
        row("ACORN under filters", ("yes" if one.acorn else "no" for one in profiles)),
        row("payload", (one.payload_in for one in profiles)),
        row("payload indexes; the tenant's is pinned", (one.fields_in for one in profiles)),
        row("filters without an index", ("refused" if one.refuse_unindexed else "slow" for one in profiles)),
    ]


def _per_million(profiles: Sequence[Profile]) -> list[list[str]]:
    pairs = [(profile, dimension) for profile in profiles for dimension in DIMENSIONS]
    prints = [footprint(profile, dimension) for profile, dimension in pairs]
    names = {
        "originals": [one.originals for one in prints],
        "codes": [one.codes for one in prints],
        "graph": [one.graph for one in prints],
        "ids": [one.ids for one in prints],
        "payload": [one.payload for one in prints],
        "payload indexes": [one.fields for one in prints],
        "**disk**": [one.disk for one in prints],
        "**memory**": [memory(profile, dimension) for profile, dimension in pairs],
    }
    return [[name, *(f"{size * MILLION / GB:.2f}" for size in sizes)] for name, sizes in names.items()]


def _in_all(profiles: Sequence[Profile]) -> list[list[str]]:
    pairs = [(profile, dimension, cluster(profile, dimension)) for profile in profiles for dimension in DIMENSIONS]
    return [
        ["memory, GB", *(f"{one.memory / GB:,.1f}" for _, _, one in pairs)],
        ["disk, GB", *(f"{one.disk / GB:,.1f}" for _, _, one in pairs)],
        ["nodes x memory, GB", *(f"{one.nodes} x {NODE_GB[profile.name]}" for profile, _, one in pairs)],
        ["memory used a node, GB", *(f"{one.memory / one.nodes / GB:,.1f}" for _, _, one in pairs)],
        ["disk a node, GB", *(f"{one.disk / one.nodes / GB:,.1f}" for _, _, one in pairs)],
        ["shards a node", *(f"{profile.shards * profile.replicas / one.nodes:g}" for profile, _, one in pairs)],
    ]


def _costs(profiles: Sequence[Profile]) -> list[list[str]]:
    pairs = [(profile, dimension) for profile in profiles for dimension in DIMENSIONS]
    nodes = [cluster(profile, dimension).nodes for profile, dimension in pairs]
    rows = []
    for limit in LIMITS:
        costs = [query(profile, dimension, limit) for profile, dimension in pairs]
        sustained = [READS_A_SECOND * count / cost.reads for count, cost in zip(nodes, costs, strict=True)]
        rows += [
            [f"{limit} hits: codes compared", *(f"{cost.comparisons:,}" for cost in costs)],
            [f"{limit} hits: originals read", *(f"{cost.reads:,}" for cost in costs)],
            [f"{limit} hits: MB read", *(f"{cost.read_bytes / 1e6:,.1f}" for cost in costs)],
            [f"{limit} hits: questions a second that the disks sustain", *(f"{rate:,.0f}" for rate in sustained)],
        ]
    exact = [profile.vectors * footprint(profile, dimension).originals / GB for profile, dimension in pairs]
    rows.append(["exact: GB read", *(f"{size:,.1f}" for size in exact)])
    rows.append(
        ["exact: seconds", *(f"{size / count / GB_A_SECOND:.1f}" for size, count in zip(exact, nodes, strict=True))]
    )
    return rows


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    print(tables())
