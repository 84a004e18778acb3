"""What a manifest says of the things a generation stands on: its model, its index, the catalogue it came from."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from threadmatch.indexer.errors import GalleryModelMismatchError


class Frozen(BaseModel):
    """A part of a manifest: never changed once made, and with no field that is not known."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelStamp(Frozen):
    """The model that encoded the gallery."""

    name: str
    fingerprint: str = Field(description="of the whole model, reranker included, when this generation was made")
    features_fingerprint: str = Field(description="of all that decides the features; a gallery is tied to it")


class IndexStamp(Frozen):
    """The index of a generation, of Faiss or of Milvus: how it was chosen and what was measured."""

    type: Literal["flat", "hnsw", "milvus"]
    parameters: dict[str, int | str] = Field(default_factory=dict)
    seq: int = Field(ge=0, description="the row versions it stands for; later ones are searched beside it")
    items: int = Field(ge=0, description="vectors in it")
    recall_at_200: float = Field(
        ge=0, le=1, description="against exact search, of queries near the gallery; 1 for an exact index"
    )
    measured_queries: int = Field(ge=0, description="queries behind recall_at_200; 0 for an exact index")
    why: str = Field(description="why this type was chosen, in words")
    crc32c: int = Field(ge=0, description="of the index file; 0 where it is no file")
    size_bytes: int = Field(ge=0)


class CatalogueStamp(Frozen):
    """The file that the last ingestion read."""

    name: str
    sha256: str


def check_model(gallery_name: str, gallery_print: str, model_name: str, model_print: str) -> None:
    """Raise GalleryModelMismatchError unless the two fingerprints are one."""
    if gallery_print == model_print:
        return
    if gallery_name == model_name:
        raise GalleryModelMismatchError(
            f"the gallery was made by other weights of model {model_name!r} (features {gallery_print[:12]}) than those "
            f"at hand (features {model_print[:12]}), as after an update or a training: their features cannot be "
            "compared; ingest the catalogue into another folder with these, or go on with the version that made the "
            "gallery"
        )
    raise GalleryModelMismatchError(
        f"the gallery was made by model {gallery_name!r} (features {gallery_print[:12]}), not by "
        f"{model_name!r} (features {model_print[:12]}): their features cannot be compared; use the gallery's model "
        "(--model, or model= in Python), or ingest the catalogue into another folder with this one"
    )
