"""Which garment of a photo is meant: what the detector sees, and the part that is searched where nobody says.

box not given   the main garment where a parser is sure of one, before a quiet background; else the whole photo
box=auto        the same, or the surest proposal of a detector that only proposes
box=none        the whole photo
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from threadmatch.model.detection.parsing.detector import ParserDetector, read_kinds
from threadmatch.model.detection.parsing.quieting import quiet, searched_box
from threadmatch.model.detection.proposals import Proposal
from threadmatch.model.images import Box, DecodedImage, PreparedImage, prepare_image
from threadmatch.service.queues.model_queues import ModelQueues

AUTO, WHOLE = "auto", "none"
DETECT_PX = 1024  # long side at which a photo is decoded for a detector, and cut for the search that follows
LEAST_PX = 8  # a side of the chosen part; less is no garment


@dataclass(frozen=True, slots=True)
class Detection:
    """A photo and what may be in it; boxes in pixels of the upright original, surest first."""

    image: DecodedImage
    boxes: list[tuple[Box, Proposal]]


def looks_for_garments(queues: ModelQueues, box: str | None) -> bool:
    """Whether a search that says this of its box leaves the choice to the detector."""
    return box == AUTO or (box is None and isinstance(queues.detector, ParserDetector))


async def detect(queues: ModelQueues, photo: bytes) -> Detection:
    """Propose garments of a photo.

    Raises:
        InvalidImageError: the photo.
        OverloadedError, ModelFailedError, StoppedError: see `service.queues.batching`.
    """
    image = await queues.decoding.picture(photo, long_side_px=DETECT_PX)
    detector = queues.detector
    if isinstance(detector, ParserDetector):
        kinds = await _kinds(queues, detector, image)
        proposals = await queues.run_in(queues.readers, lambda: read_kinds(kinds, image.pixels).proposals)
    elif detector.on_model_thread:
        proposals = await queues.explainer.submit(partial(detector.detect, image.pixels))
    else:
        proposals = await queues.detecting.run(lambda _: detector.detect(image.pixels))
    return Detection(image, [(_in_original(proposal.box, image), proposal) for proposal in proposals])


async def prepare_best(queues: ModelQueues, photo: bytes) -> tuple[PreparedImage, DecodedImage]:
    """The garment that is probably meant, as the model sees it; the whole photo where none is sure.

    Raises:
        InvalidImageError, OverloadedError, ModelFailedError, StoppedError: as for `detect`.
    """
    if isinstance(queues.detector, ParserDetector):
        image = await queues.decoding.picture(photo, long_side_px=DETECT_PX)
        kinds = await _kinds(queues, queues.detector, image)
        return await queues.run_in(queues.readers, _garment, image, kinds, queues.model.image_px), image
    found = await detect(queues, photo)
    large = [box for box, _ in found.boxes if min(box.width, box.height) >= LEAST_PX]
    box = large[0] if large else None
    prepared = await queues.run_in(queues.readers, prepare_image, found.image, image_px=queues.model.image_px, box=box)
    return prepared, found.image


async def _kinds(queues: ModelQueues, detector: ParserDetector, image: DecodedImage) -> NDArray[np.float32]:
    """What kind each place of a photo is; only the network itself takes the model's turn, with other photos."""
    sized = await queues.run_in(queues.readers, lambda: detector.sized(image.pixels))
    return await queues.parser.submit(sized)


def _garment(image: DecodedImage, kinds: NDArray[np.float32], image_px: int) -> PreparedImage:
    parsing = read_kinds(kinds, image.pixels)
    box = searched_box(parsing.choice, image.width, image.height)
    if box is None or min(box.width, box.height) < LEAST_PX:
        return prepare_image(image, image_px=image_px)
    return quiet(prepare_image(image, image_px=image_px, box=box), parsing.kept)


def _in_original(box: Box, image: DecodedImage) -> Box:
    return Box(box.x0 * image.width, box.y0 * image.height, box.x1 * image.width, box.y1 * image.height)
