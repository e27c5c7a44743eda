"""Holds the metadata of a stream of pictures to the kinds that are declared, declaring new fields as they appear."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from indexer.fields import MAX_FIELDS, KindOfColumn, brought_to
from phosphene.assemble import Engine
from phosphene.errors import InvalidInput, PictureError, PictureFault
from phosphene.types import SYSTEM_FIELDS, Field, Metadata, TenantId

Declare = Callable[[Sequence[Field]], object]


class DeclaredFields:
    """The fields of one tenant. A field is declared once, by the first pictures that carry it, and then stays."""

    def __init__(self, fields: Iterable[Field], declare: Declare) -> None:
        system = {field.name for field in SYSTEM_FIELDS}
        self._fields = {field.name: field for field in fields if field.name not in system}
        self._declare = declare

    def declare(self, fields: Iterable[Field]) -> None:
        """Declare fields whose kinds are known, as those of a manifest. Raises InvalidInput where kinds differ."""
        new = [field for field in fields if self._fields.get(field.name) != field]
        if new:
            self._declare(new)
            self._fields.update({field.name: field for field in new})

    def learn(self, several: Iterable[Metadata]) -> None:
        """Declare the fields that are new in these pictures, with the kinds their values have here."""
        columns: dict[str, KindOfColumn] = {}
        for metadata in several:
            for name, value in metadata.items():
                if name not in self._fields:
                    if name not in columns:
                        columns[name] = KindOfColumn(name, textual=False)
                    columns[name].see(value)
        room = max(0, MAX_FIELDS - len(self._fields))
        found = [Field(name, column.kind) for name, column in columns.items() if column.kind is not None]
        self.declare(found[:room])

    def hold(self, metadata: Metadata) -> Metadata:
        """Bring values to their fields' kinds. Raises PictureError (BAD_METADATA) that names field and value."""
        held: Metadata = {}
        for name, value in metadata.items():
            field = self._fields.get(name)
            if value is None:
                continue
            if field is None:
                raise PictureError(
                    PictureFault.BAD_METADATA, f"field {name!r} would be one more than {MAX_FIELDS}; leave fields out"
                )
            try:
                held[name] = brought_to(value, field)
            except ValueError as error:
                raise PictureError(PictureFault.BAD_METADATA, str(error)) from error
        return held


def declare_fields(fields: Sequence[Field], *, engine: Engine, tenant: TenantId) -> None:
    """Declare fields ahead, or tell more of those there are.

    Raises InvalidInput, and changes nothing, for a reserved name, another kind than before, or too many fields.
    """
    names = {field.name for field in fields}
    if len(names) < len(fields):
        raise InvalidInput("a field is named twice")
    if len(names | {field.name for field in engine.catalog.fields(tenant)}) > MAX_FIELDS:
        raise InvalidInput(f"there are at most {MAX_FIELDS} fields")
    engine.declare_fields(tenant, fields)
    engine.catalog.describe_fields(tenant, fields)
