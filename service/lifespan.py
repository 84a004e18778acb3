"""Puts galleries in service when the app starts, waits for those that are not there yet, and looks for newer ones."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from threadmatch.indexer.reading.opened import OpenGallery
from threadmatch.model.images import ImageLimits
from threadmatch.service.config import DEFAULT_GALLERY, MIB
from threadmatch.service.errors import StartError
from threadmatch.service.galleries.background_folding import FoldRule
from threadmatch.service.galleries.loading import open_default, open_detector, open_further
from threadmatch.service.galleries.served import EditLimits, ServedGallery
from threadmatch.service.queues.decoding import DecodeRules
from threadmatch.service.queues.model_queues import Capacity, ModelQueues
from threadmatch.service.queues.served_model import ServedModel
from threadmatch.service.search.asking import features_wanted
from threadmatch.service.shared import ServiceState

logger = logging.getLogger(__name__)


async def put_in_service(state: ServiceState, model: ServedModel, opened: Mapping[str, OpenGallery]) -> None:
    """Start the model's queues and answer from `opened`; further galleries of the settings are opened here.

    Raises:
        StartError: one that is not among `opened` cannot be opened.
    """
    further = {
        name: opened[name] if name in opened else await asyncio.to_thread(open_further, name, folder, model)
        for name, folder in state.settings.galleries.items()
    }
    queues = await _started(state, model)
    for name, gallery in {DEFAULT_GALLERY: opened[DEFAULT_GALLERY], **further}.items():
        state.galleries[name].put_in_service(gallery, queues, _edit_limits(state), warm_share=_warm_share(state))
    state.metrics.ready.set(1)


async def wait_for_galleries(state: ServiceState) -> None:
    """Open each gallery as soon as it is there: the default one first, since it says which model is loaded."""
    while any(served.retriever is None for served in state.galleries.values()):
        for served in state.galleries.values():
            if served.retriever is None:
                try:
                    await _open(state, served)
                except StartError as error:
                    _say_once(served, str(error))
        await asyncio.sleep(state.settings.gallery_poll_s)


async def poll_galleries(state: ServiceState) -> None:
    """Take newer generations into service, for ever."""
    while True:
        await asyncio.sleep(state.settings.gallery_poll_s)
        try:
            await state.refresh()
        except Exception:  # the look for a newer gallery must outlive any one failure
            logger.exception("looking for newer galleries failed")


async def _open(state: ServiceState, served: ServedGallery) -> None:
    settings = state.settings
    if served.name == DEFAULT_GALLERY:
        model, gallery = await asyncio.to_thread(open_default, settings)
        queues = await _started(state, model)
        served.put_in_service(gallery, queues, _edit_limits(state), warm_share=_warm_share(state))
        state.metrics.ready.set(1)
    elif state.queues is None:
        raise StartError("it waits for the default gallery, which says which model is loaded")
    else:
        gallery = await asyncio.to_thread(open_further, served.name, served.folder, state.queues.model)
        served.put_in_service(gallery, state.queues, _edit_limits(state), warm_share=_warm_share(state))


async def _started(state: ServiceState, model: ServedModel) -> ModelQueues:
    settings = state.settings
    detector = await asyncio.to_thread(
        open_detector,
        settings.detector,
        device=settings.device,
        engine=settings.engine,
        cache=settings.cache,
        whole=True,
    )
    queues = await ModelQueues(model, capacity=_capacity(state), metrics=state.metrics, detector=detector).__aenter__()
    await asyncio.to_thread(queues.decoding.warm)
    usual = features_wanted(model.chain, model, remembered=state.recent is not None)
    await asyncio.to_thread(model.make_ready, usual)
    await queues.probe()  # the first call of a model is slow; let no client wait for it
    state.queues = queues
    logger.info("model in service", extra={"model": model.name})
    return queues


def _capacity(state: ServiceState) -> Capacity:
    settings = state.settings
    return Capacity(
        max_waiting=settings.max_searches,
        max_pairs=settings.max_pairs,
        encode_batch=settings.encode_batch,
        rerank_pairs=settings.rerank_pairs,
        detect_threads=settings.decode_threads,
        decode=DecodeRules(
            where=settings.decode_in,
            small=settings.decode_threads,
            large=settings.decode_large,
            small_bytes=settings.decode_small_mib * MIB,
            large_bytes=settings.decode_mib * MIB - settings.decode_threads * settings.decode_small_mib * MIB,
            large_waiting=settings.decode_large_waiting,
            timeout_s=settings.decode_timeout_s,
        ),
        gallery_threads=settings.gallery_threads,
        images=ImageLimits(max_bytes=settings.max_image_bytes, max_pixels=settings.max_image_pixels),
        keep_views=state.recent is not None,
    )


def _edit_limits(state: ServiceState) -> EditLimits:
    settings = state.settings
    return EditLimits(
        max_waiting=settings.max_edits,
        max_unfolded=settings.max_unfolded,
        fold=FoldRule(edits=settings.fold_edits, after_s=settings.fold_after_s),
    )


def _say_once(served: ServedGallery, reason: str) -> None:
    if served.missing != reason:
        logger.info("waiting for the gallery", extra={"gallery": served.name, "reason": reason})
    served.missing = reason


def _warm_share(state: ServiceState) -> float:
    """Of free memory, for each gallery."""
    return state.settings.warm_share / len(state.galleries)
