"""Which garment of a photo is meant: what the detector sees, and the part that is searched where nobody says.

box not given   the main garment where a parser is sure of one, before a quiet background; else the whole photo
box=auto        the same, or the surest proposal of a detector that only proposes
box=none        the whole photo
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from threadmatch.model.detection.parsing.detector import ParserDetector, Parsing
from threadmatch.model.detection.parsing.quieting import quiet, searched_box
from threadmatch.model.detection.proposals import Proposal
from threadmatch.model.detection.structure import has_structure
from threadmatch.model.images import Box, DecodedImage, PreparedImage, prepare_image
from threadmatch.service.queues.model_queues import ModelQueues
from threadmatch.service.search.results import Seen

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
        proposals = (await _parsed(queues, detector, image)).proposals
    elif detector.on_model_thread:
        proposals = await queues.explainer.submit(partial(detector.detect, image.pixels))
    else:
        proposals = await queues.detecting.run(lambda _: detector.detect(image.pixels))
    return Detection(image, [(_in_original(proposal.box, image), proposal) for proposal in proposals])


async def prepare_best(queues: ModelQueues, photo: bytes) -> tuple[PreparedImage, DecodedImage, Seen]:
    """The garment that is probably meant, as the model sees it; the whole photo where none is sure.

    Raises:
        InvalidImageError, OverloadedError, ModelFailedError, StoppedError: as for `detect`.
    """
    if isinstance(queues.detector, ParserDetector):
        image = await queues.decoding.picture(photo, long_side_px=DETECT_PX)
        parsing = await _parsed(queues, queues.detector, image)
        prepared = await queues.run_in(queues.readers, _garment, image, parsing, queues.model.image_px)
        return prepared, image, _seen(parsing, image)
    found = await detect(queues, photo)
    large = [(box, proposal) for box, proposal in found.boxes if min(box.width, box.height) >= LEAST_PX]
    box, label = (large[0][0], large[0][1].label) if large else (None, None)
    prepared = await queues.run_in(queues.readers, prepare_image, found.image, image_px=queues.model.image_px, box=box)
    seen = Seen(
        chosen_by="detector" if box else "nobody",
        garment=label,
        garments=tuple(found.boxes),
        no_garment=not has_structure(found.image.pixels),
    )
    return prepared, found.image, seen


def as_asked(prepared: PreparedImage, box: str | None) -> Seen:
    """What is known of a photo of which the client said what to search, or where nobody looks."""
    return Seen(chosen_by="nobody" if box is None else "client", no_garment=not has_structure(prepared.pixels))


def _seen(parsing: Parsing, image: DecodedImage) -> Seen:
    main = parsing.choice.garment if parsing.shows_garment else None
    return Seen(
        chosen_by="detector" if main else "nobody",
        garment=main.kind if main else None,
        garments=tuple((_in_original(found.box, image), found) for found in parsing.proposals),
        no_garment=not (parsing.shows_garment and has_structure(image.pixels)),
    )


async def _parsed(queues: ModelQueues, detector: ParserDetector, image: DecodedImage) -> Parsing:
    """The garments of a photo; only the network itself takes the model's turn, with other photos."""
    sized = await queues.run_in(queues.readers, lambda: detector.sized(image.pixels))
    looked = await queues.parser.submit(sized)
    return await queues.run_in(queues.readers, detector.read, looked, image.pixels)


def _garment(image: DecodedImage, parsing: Parsing, image_px: int) -> PreparedImage:
    box = searched_box(parsing.choice, image.width, image.height) if parsing.shows_garment else None
    if box is None or min(box.width, box.height) < LEAST_PX:
        return prepare_image(image, image_px=image_px)
    return quiet(prepare_image(image, image_px=image_px, box=box), parsing.kept)


def _in_original(box: Box, image: DecodedImage) -> Box:
    return Box(box.x0 * image.width, box.y0 * image.height, box.x1 * image.width, box.y1 * image.height)
