"""Opens the gallery and loads the model it was made with. Slow; called in a thread or before the server starts."""

from __future__ import annotations

from pathlib import Path

from indexer.errors import GalleryModelMismatchError, IndexerError
from indexer.gallery import Gallery
from model.errors import CheckpointError
from model.inference import Model, load_model
from service.errors import StartError


def open_both(folder: Path, *, model: str = "", device: str = "auto") -> tuple[Model, Gallery]:
    """Open a gallery and load its model.

    Args:
        folder: of the gallery.
        model: name or folder; "" for the one that the gallery's manifest names.
        device: "auto", "cpu" or "cuda".

    Raises:
        StartError: gallery missing or damaged, model missing or another one than the gallery's.
    """
    try:
        stamp = Gallery.open(folder).manifest.model
    except IndexerError as error:
        raise StartError(f"{error}") from error
    try:
        loaded = load_model(model or stamp.name, device=device)
    except CheckpointError as error:
        hint = "" if model else f"; the gallery was made with {stamp.name!r}: say where that is with --model"
        raise StartError(f"{error}{hint}") from error
    try:
        return loaded, Gallery.open(folder, features_fingerprint=loaded.features_fingerprint, model_name=loaded.name)
    except GalleryModelMismatchError as error:
        raise StartError(f"{error}; give --model, or ingest the catalogue again with this one") from error
    except IndexerError as error:
        raise StartError(f"{error}") from error
