"""Which garment of a photo is meant: proposals of the detector, and the part that `box=auto` searches."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from threadmatch.model.detection.proposals import Proposal
from threadmatch.model.images import Box, DecodedImage, PreparedImage, prepare_image
from threadmatch.service.queues.model_queues import ModelQueues

AUTO = "auto"
DETECT_PX = 1024  # long side at which a photo is decoded for a detector, and cut for the search that follows
LEAST_PX = 8  # a side of the chosen part; less is no garment


@dataclass(frozen=True, slots=True)
class Detection:
    """A photo and what may be in it; boxes in pixels of the upright original, surest first."""

    image: DecodedImage
    boxes: list[tuple[Box, Proposal]]


async def detect(queues: ModelQueues, photo: bytes) -> Detection:
    """Propose garments of a photo.

    Raises:
        InvalidImageError: the photo.
        OverloadedError, ModelFailedError, StoppedError: see `service.queues.batching`.
    """
    image = await queues.decoding.picture(photo, long_side_px=DETECT_PX)
    if queues.detector.on_model_thread:
        proposals = await queues.explainer.submit(partial(queues.detector.detect, image.pixels))
    else:
        proposals = await queues.detecting.run(lambda _: queues.detector.detect(image.pixels))
    return Detection(image, [(_in_original(proposal.box, image), proposal) for proposal in proposals])


async def prepare_best(queues: ModelQueues, photo: bytes) -> tuple[PreparedImage, DecodedImage]:
    """The surest proposal, as the model sees it; the whole photo where there is none."""
    found = await detect(queues, photo)
    large = [box for box, _ in found.boxes if min(box.width, box.height) >= LEAST_PX]
    box = large[0] if large else None
    prepared = await queues.run_in(queues.readers, prepare_image, found.image, image_px=queues.model.image_px, box=box)
    return prepared, found.image


def _in_original(box: Box, image: DecodedImage) -> Box:
    return Box(box.x0 * image.width, box.y0 * image.height, box.x1 * image.width, box.y1 * image.height)
