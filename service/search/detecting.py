"""Which garment of a photo is meant: what the detector sees, and the part that is searched where nobody says.

box not given   the main garment where a parser is sure of one, before a quiet background; else the whole photo
box=auto        the same, or the surest proposal of a detector that only proposes
box=none        the whole photo
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import partial

from threadmatch.indexer.catalogue.garments import AUTO
from threadmatch.model.detection import LOOK_PX
from threadmatch.model.detection.parsing.cutting import LEAST_PX, framed
from threadmatch.model.detection.parsing.detector import Looked, ParserDetector, Parsing
from threadmatch.model.detection.parsing.presence import shows_none
from threadmatch.model.detection.proposals import Proposal
from threadmatch.model.detection.structure import has_structure
from threadmatch.model.images import Box, DecodedImage, PreparedImage, prepare_for
from threadmatch.service.queues.model_queues import ModelQueues
from threadmatch.service.search.results import Seen


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
    image = await queues.decoding.picture(photo, long_side_px=LOOK_PX)
    detector = queues.detector
    if isinstance(detector, ParserDetector):
        looked = await _looked(queues, detector, image)
        proposals = (await queues.run_in(queues.readers, detector.read, looked, image.pixels)).proposals
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
        image = await queues.decoding.picture(photo, long_side_px=LOOK_PX)
        detector, looked = queues.detector, await _looked(queues, queues.detector, image)

        def work() -> tuple[PreparedImage, Seen]:
            parsing = detector.read(looked, image.pixels)
            return _garment(queues, image, parsing), _seen(parsing, image)

        prepared, seen = await queues.run_in(queues.readers, work)
        return prepared, image, seen
    found = await detect(queues, photo)
    large = [(box, proposal) for box, proposal in found.boxes if min(box.width, box.height) >= LEAST_PX]
    box, label = (large[0][0], large[0][1].label) if large else (None, None)
    prepared = await queues.run_in(queues.readers, prepare_for, queues.model, found.image, box)
    seen = Seen(
        chosen_by="detector" if box else "nobody",
        garment=label,
        garments=tuple(found.boxes),
        no_garment=not has_structure(found.image.pixels),
    )
    return prepared, found.image, seen


async def prepare_item(
    queues: ModelQueues, detector: ParserDetector, photo: bytes, kinds: Collection[str]
) -> tuple[PreparedImage, DecodedImage]:
    """The garment of a catalogue's photo as the model sees it; all of the photo where it shows nobody.

    Args:
        queues: decode and look.
        detector: theirs.
        photo: the file.
        kinds: of garment that the item may be, where its words say so.

    Raises:
        InvalidImageError, OverloadedError, ModelFailedError, StoppedError: as for `detect`.
    """
    image = await queues.decoding.picture(photo, long_side_px=LOOK_PX)
    looked = await _looked(queues, detector, image)

    def work() -> PreparedImage:
        return _garment(queues, image, detector.read(looked, image.pixels), kinds)

    return await queues.run_in(queues.readers, work), image


def as_asked(prepared: PreparedImage, box: str | None) -> Seen:
    """What is known of a photo of which the client said what to search, or where nobody looks."""
    return Seen(chosen_by="nobody" if box is None else "client", no_garment=not has_structure(prepared.pixels))


def _seen(parsing: Parsing, image: DecodedImage) -> Seen:
    main = parsing.choice.garment if parsing.shows_garment else None
    return Seen(
        chosen_by="detector" if main else "nobody",
        garment=main.kind if main else None,
        garments=tuple((_in_original(found.box, image), found) for found in parsing.proposals),
        no_garment=shows_none(parsing.presence, structured=has_structure(image.pixels)),
    )


async def _looked(queues: ModelQueues, detector: ParserDetector, image: DecodedImage) -> Looked:
    """What the network gives of a photo; it alone takes the model's turn, with other photos."""
    sized = await queues.run_in(queues.readers, lambda: detector.sized(image.pixels))
    return await queues.parser.submit(sized)


def _garment(queues: ModelQueues, image: DecodedImage, parsing: Parsing, kinds: Collection[str] = ()) -> PreparedImage:
    return framed(image, parsing, queues.model, kinds=kinds) or prepare_for(queues.model, image)


def _in_original(box: Box, image: DecodedImage) -> Box:
    return Box(box.x0 * image.width, box.y0 * image.height, box.x1 * image.width, box.y1 * image.height)
