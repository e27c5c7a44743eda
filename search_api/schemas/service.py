"""How the service is, and what went wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from indexer.verify import VerifyReport, outdated
from phosphene import __version__, types
from phosphene.assemble import Engine
from phosphene.catalog.records import AssetState
from phosphene.errors import PictureFault
from phosphene.filters import tenant_filter
from phosphene.types import FieldKind, TenantId
from search_api.probes import OK
from search_api.schemas.values import Body


class FieldOut(BaseModel):
    """A field that filters may name."""

    name: str
    kind: FieldKind
    system: bool = Field(description="computed from the picture itself")
    description: str | None = Field(None, description="what was said of it")
    facet: bool = Field(description="its values are counted where `facets` names it")

    @classmethod
    def of(cls, field: types.Field) -> Self:
        """Show a field."""
        return cls(
            name=field.name,
            kind=field.kind,
            system=field.name in _SYSTEM_NAMES,
            description=field.description,
            facet=field.is_facet,
        )


_SYSTEM_NAMES = frozenset(field.name for field in types.SYSTEM_FIELDS)


class FieldIn(Body):
    """A field to be declared, or to be told more of; its kind stays what it is once declared."""

    name: str = Field(max_length=63, pattern="^[a-z][a-z0-9_]*$")
    kind: FieldKind
    description: str | None = Field(None, max_length=500)
    facet: bool | None = Field(None, description="whether its values may be counted; null: as its kind is")


class FieldsIn(Body):
    """Fields to be declared before pictures carry them, so that their values are held to a kind from the first on."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"fields": [{"name": "place", "kind": "geo", "description": "of the camera"}]}]
        },
    )

    fields: list[FieldIn] = Field(min_length=1, max_length=100)

    def to_fields(self) -> list[types.Field]:
        """Make the fields."""
        return [types.Field(one.name, one.kind, one.description, one.facet) for one in self.fields]


class FieldList(BaseModel):
    """Fields, system ones first."""

    fields: list[FieldOut]

    @classmethod
    def of(cls, fields: Sequence[types.Field]) -> Self:
        """Show fields."""
        return cls(fields=[FieldOut.of(field) for field in fields])


class StatusResponse(BaseModel):
    """How things stand."""

    version: str
    model: str
    space: str
    dimension: int
    assets: int
    searchable: int
    embedded: int = Field(description="pictures that this model has embedded; 0 with a model that is new here")
    waiting: int = Field(description="pictures, of all tenants, that wait for their embedding")
    outdated: str | None = Field(
        description="what is to be done about pictures, of all tenants, that an earlier version indexed"
    )
    data: str | None = Field(description="the data folder, for callers with the local token")

    @classmethod
    def of(cls, engine: Engine, *, tenant: TenantId, local: bool) -> Self:
        """Count, and show."""
        space = engine.encoder.space
        return cls(
            version=__version__,
            model=space.model,
            space=space.id,
            dimension=space.dimension,
            assets=engine.catalog.count_assets(tenant),
            searchable=engine.catalog.count_assets(tenant, AssetState.INDEXED),
            embedded=engine.index.count(tenant_filter(tenant, None)),
            waiting=engine.catalog.pending_work(space.id),
            outdated=outdated(engine),
            data=str(engine.settings.data.absolute()) if local and engine.settings.embedded else None,
        )


class VerifyRequest(Body):
    """What to check."""

    repair: bool = Field(default=False, description="mend what can be mended")


class VerifyResponse(BaseModel):
    """What was compared, and what differed, by kind of difference."""

    ok: bool = Field(description="nothing differs, or all that differed is mended")
    repaired: bool = Field(description="whether mending was asked for")
    assets: int
    points: int
    blobs: int
    differences: dict[str, int] = Field(examples=[{"missing_point": 2}])
    mended: dict[str, int]
    examples: dict[str, list[str]] = Field(description="a few ids or keys of each kind")

    @classmethod
    def of(cls, report: VerifyReport) -> Self:
        """Show a report."""
        return cls(
            ok=report.ok,
            repaired=report.repaired,
            assets=report.assets,
            points=report.points,
            blobs=report.blobs,
            differences=report.counts,
            mended=report.mended,
            examples=report.examples,
        )

    def lines(self) -> list[str]:
        """Say it in words, a line for each kind of difference."""
        said = [f"compared {self.assets:,} pictures, {self.points:,} points and {self.blobs:,} files"]
        for kind, count in self.differences.items():
            mended = f", {self.mended.get(kind, 0):,} mended" if self.repaired else ""
            shown = ", ".join(self.examples.get(kind, []))
            said.append(f"{kind.replace('_', ' ')}: {count:,}{mended} ({shown})")
        if not self.differences:
            said.append("all agree")
        elif not self.repaired:
            said.append("mend with: phosphene verify --repair")
        return said


class Readiness(BaseModel):
    """Whether requests should be sent here: every store, and all who do the work, were asked just now."""

    ready: bool
    reasons: list[str] = Field(description="why not", examples=[["vectors: no answer for 4 s"]])
    stores: dict[str, str] = Field(examples=[{"catalogue": "ok", "vectors": "ok", "blobs": "ok"}])
    work: dict[str, str] = Field(examples=[{"model": "ok", "requests": "ok", "queue embed": "ok"}])

    @classmethod
    def of(cls, *, stores: dict[str, str], work: dict[str, str]) -> Self:
        """Be ready where all said that they are ok."""
        reasons = [f"{part}: {said}" for part, said in {**stores, **work}.items() if said != OK]
        return cls(ready=not reasons, reasons=reasons, stores=stores, work=work)


class Problem(BaseModel):
    """An error (RFC 9457), sent as application/problem+json."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(examples=["urn:phosphene:problem:invalid-filter"])
    title: str
    status: int
    detail: str = Field(description="what was wrong, and what to do")
    instance: str = Field(description="the path that was asked")
    fault: PictureFault | None = Field(None, description="why a picture can't be used")
    errors: list[dict[str, str]] | None = Field(None, description="what is wrong where, for invalid requests")
