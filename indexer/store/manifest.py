"""What a generation of a gallery says about itself: manifest.json, frozen once written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from threadmatch.indexer.errors import GalleryError

MANIFEST_FORMATS = (1, 2)  # the first knows no edits
Kind = Literal["ingest", "edit", "compact", "fold", "rollback"]
ColumnKind = Literal["string", "integer", "number", "boolean", "list", "object", "mixed", "empty"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelStamp(_Frozen):
    """The model that encoded the gallery."""

    name: str
    fingerprint: str = Field(description="of the whole model, reranker included, when this generation was made")
    features_fingerprint: str = Field(description="of all that decides embedding and regions; a gallery is tied to it")


class IndexStamp(_Frozen):
    """The Faiss index of a generation: how it was chosen and what was measured."""

    type: Literal["flat", "hnsw"]
    parameters: dict[str, int | str] = Field(default_factory=dict)
    seq: int = Field(ge=0, description="the row versions it stands for; later ones are searched beside it")
    items: int = Field(ge=0, description="vectors in it")
    recall_at_200: float = Field(ge=0, le=1, description="against exact search; 1 for an exact index")
    measured_queries: int = Field(ge=0, description="queries behind recall_at_200; 0 for an exact index")
    why: str = Field(description="why this type was chosen, in words")
    crc32c: int = Field(ge=0, description="of the index file")
    size_bytes: int = Field(ge=0)


class CatalogueStamp(_Frozen):
    """The file that the last ingestion read."""

    name: str
    sha256: str


class Manifest(_Frozen):
    """One generation: a fixed set of row versions (`seq` says which) and the index over them."""

    format: Literal[1, 2] = 2
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
    embedding_dim: int = Field(gt=0)
    regions_shape: tuple[int, int]
    index: IndexStamp
    catalogue: CatalogueStamp | None = None
    columns: dict[str, ColumnKind] = Field(default_factory=dict, description="metadata columns and their kinds")

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


def merge_kinds(first: ColumnKind | None, second: ColumnKind | None) -> ColumnKind:
    """The kind of a column that holds values of both kinds."""
    kinds = {kind for kind in (first, second) if kind not in (None, "empty")}
    if not kinds:
        return "empty"
    if len(kinds) == 1:
        only: ColumnKind = next(iter(kinds))
        return only
    return "number" if kinds == {"integer", "number"} else "mixed"
