"""What a generation of a gallery says about itself: manifest.json, frozen once written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from threadmatch.indexer.errors import GalleryError
from threadmatch.indexer.stamps import CatalogueStamp, Frozen, IndexStamp, ModelStamp
from threadmatch.model.features import EMBEDDING, REGIONS, FeatureSpec, indexed_feature

MANIFEST_FORMATS = (1, 2, 3)  # the first knows no edits, the first two know two features only
Kind = Literal["ingest", "edit", "compact", "fold", "rollback", "copy"]
BoxRule = Literal["auto", "none"]
ColumnKind = Literal["string", "integer", "number", "boolean", "list", "object", "mixed", "empty"]

JSON_KINDS: Final[dict[str, ColumnKind]] = {
    "text": "string",
    "integer": "integer",
    "real": "number",
    "true": "boolean",
    "false": "boolean",
    "array": "list",
    "object": "object",
    "null": "empty",
}
"""Kinds by SQLite's names of JSON types."""


class Manifest(Frozen):
    """One generation: a fixed set of row versions (`seq` says which) and the index over them."""

    format: Literal[1, 2, 3] = 3
    generation: str
    created: str = Field(description="UTC, ISO 8601")
    kind: Kind = "ingest"
    run: int = Field(ge=0, description="the run in the database that made it")
    seq: int = Field(ge=0, description="stands for the newest version of each id among rows up to this number")
    edits: int = Field(
        default=0,
        ge=0,
        description="edits up to this number are in it, or were taken back; later ones lie on top",
    )
    items: int = Field(ge=0)
    rejected: int = Field(ge=0, description="catalogue rows that could not be used in the run that made it")
    model: ModelStamp
    features: tuple[FeatureSpec, ...] = Field(description="what is kept of each photo; one of them is indexed")
    index: IndexStamp
    catalogue: CatalogueStamp | None = None
    columns: dict[str, ColumnKind] = Field(default_factory=dict, description="metadata columns and their kinds")
    box: BoxRule = Field(default="none", description="what is encoded of a photo for which nobody gives a box")

    @model_validator(mode="before")
    @classmethod
    def _former_features(cls, values: Any) -> Any:
        """Formats 1 and 2 name the sizes of the two features there were."""
        if not isinstance(values, dict) or values.get("format") not in (1, 2) or "features" in values:
            return values
        kept = {key: value for key, value in values.items() if key not in ("embedding_dim", "regions_shape")}
        try:
            rows, channels = values["regions_shape"]
            return kept | {"features": former_features(int(values["embedding_dim"]), int(rows), int(channels))}
        except (KeyError, TypeError) as error:
            raise ValueError("embedding_dim and regions_shape are missing or of another kind") from error

    @field_validator("features")
    @classmethod
    def _one_is_indexed(cls, specs: tuple[FeatureSpec, ...]) -> tuple[FeatureSpec, ...]:
        indexed_feature(specs)
        return specs

    @property
    def indexed(self) -> FeatureSpec:
        """The feature that the index is over."""
        return indexed_feature(self.features)

    @property
    def embedding_dim(self) -> int:
        """E, numbers in a vector of the index."""
        return self.indexed.shape[0]

    def to_json(self) -> str:
        """The manifest as the text of manifest.json."""
        return self.model_dump_json(indent=2) + "\n"

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read manifest.json; GalleryError when it is missing, damaged or of an unknown format."""
        try:
            raw = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise GalleryError(f"cannot read {path}: {error}; run `threadmatch gallery verify`") from error
        found = raw.get("format") if isinstance(raw, dict) else None
        if found not in MANIFEST_FORMATS:
            raise GalleryError(
                f"{path} has manifest format {found!r}, this version of threadmatch reads {MANIFEST_FORMATS[-1]}; "
                "use the version that wrote it, or ingest the catalogue again into a new folder"
            )
        try:
            return cls.model_validate(raw)
        except ValidationError as error:
            raise GalleryError(f"{path} is not a manifest this version can read: {error}") from error


def former_features(embedding_dim: int, regions: int, channels: int) -> tuple[FeatureSpec, ...]:
    """What galleries of formats 1 and 2 keep of each photo: (E,) embedding, (R, C) regions."""
    return (
        FeatureSpec(EMBEDDING, (embedding_dim,), "float32", indexed=True),
        FeatureSpec(REGIONS, (regions, channels), "float16"),
    )


def merge_kinds(first: ColumnKind | None, second: ColumnKind | None) -> ColumnKind:
    """The kind of a column that holds values of both kinds."""
    kinds = {kind for kind in (first, second) if kind not in (None, "empty")}
    if not kinds:
        return "empty"
    if len(kinds) == 1:
        only: ColumnKind = next(iter(kinds))
        return only
    return "number" if kinds == {"integer", "number"} else "mixed"
