"""Opens galleries and loads the model they were made with. Slow; called in a thread or before the server starts."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from threadmatch.indexer.errors import IndexerError
from threadmatch.indexer.opening import current_manifest, open_gallery
from threadmatch.indexer.reading.opened import OpenGallery
from threadmatch.model.descriptions import DEFAULT_PARSER, shipped_models
from threadmatch.model.detection.parsing.detector import load_parser_detector
from threadmatch.model.detection.proposals import GRABCUT, Detector, GrabCutDetector
from threadmatch.model.detection.torchvision_weights import load_detector
from threadmatch.model.errors import CheckpointError
from threadmatch.model.inference import Model, load_model
from threadmatch.service.config import DEFAULT_GALLERY, Settings
from threadmatch.service.errors import StartError
from threadmatch.service.queues.served_model import ServedModel

logger = logging.getLogger(__name__)


def open_both(
    folder: Path,
    *,
    model: str = "",
    device: str = "auto",
    engine: str = "auto",
    cache: Path | None = None,
    threads: int | None = None,
) -> tuple[Model, OpenGallery]:
    """Open a gallery and load its model.

    Args:
        folder: of the gallery.
        model: name or folder; "" for the one that the gallery's manifest names.
        device, engine, cache, threads: see `model.inference.load_model`.

    Raises:
        StartError: gallery missing or damaged, model missing or another one than the gallery's.
    """
    try:
        made_with = current_manifest(folder).model.name
    except IndexerError as error:
        raise StartError(f"{error}") from error
    if not model and made_with not in shipped_models():  # a gallery must not decide what is fetched from a hub
        shipped = ", ".join(shipped_models()) or "none"
        raise StartError(
            f"gallery {folder} was made with model {made_with!r}, which is not shipped with threadmatch ({shipped}): "
            "say where it is with --model, or model= in Python"
        )
    logger.info("loading the model", extra={"model": model or made_with})
    try:
        loaded = load_model(model or made_with, device=device, engine=engine, cache=cache, threads=threads)
    except CheckpointError as error:
        raise StartError(f"{error}") from error
    logger.info("reading the index", extra={"gallery": str(folder)})
    try:
        return loaded, open_gallery(folder, features_fingerprint=loaded.features_fingerprint, model_name=loaded.name)
    except IndexerError as error:
        raise StartError(f"{error}") from error


def open_further(name: str, folder: Path, model: ServedModel) -> OpenGallery:
    """Open a further gallery with the model that the default one is read with.

    Raises:
        StartError: missing, damaged, or made by another model; says which gallery.
    """
    try:
        return open_gallery(folder, features_fingerprint=model.features_fingerprint, model_name=model.name)
    except IndexerError as error:
        raise StartError(f"gallery {name!r} ({folder}): {error}") from error


def open_default(settings: Settings) -> tuple[Model, OpenGallery]:
    """The model, ready for its first search, and the default gallery of the settings; StartError as for `open_both`."""
    model, gallery = open_both(
        settings.gallery,
        model=settings.model,
        device=settings.device,
        engine=settings.engine,
        cache=settings.cache,
        threads=settings.model_threads or None,
    )
    model.make_matchers()
    return model, gallery


def open_all(settings: Settings) -> tuple[Model, Mapping[str, OpenGallery]]:
    """The model and every gallery of the settings, by name.

    Raises:
        StartError: one of them cannot be opened.
    """
    model, default = open_default(settings)
    further = {name: open_further(name, folder, model) for name, folder in settings.galleries.items()}
    return model, {DEFAULT_GALLERY: default, **further}


def open_detector(
    name: str, *, device: str = "auto", engine: str = "auto", cache: Path | None = None, whole: bool = False
) -> Detector:
    """A garment detector.

    Args:
        name: DEFAULT_PARSER, GRABCUT, or the folder of one that the user has.
        device: "auto", "cpu" or "cuda"; the parser and GrabCut run on the CPU.
        engine, cache: of the parser, see `detection.parsing.detector.load_parser_detector`.
        whole: read at once what only some photos need, as whoever serves many wants it.

    Raises:
        StartError: nothing usable is there.
    """
    try:
        if name == GRABCUT:
            return GrabCutDetector()
        if name == DEFAULT_PARSER:
            detector = load_parser_detector(name, engine=engine, cache=cache)
            if whole:
                detector.make_ready()
            return detector
        return load_detector(name, device=device)
    except CheckpointError as error:
        raise StartError(f"{error}") from error
