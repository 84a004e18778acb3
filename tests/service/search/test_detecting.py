"""The parser of a photo's garments, asked by many at once."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.support.patience import until
from threadmatch.model.data.setups import Setup
from threadmatch.model.detection.parsing.detector import Looked, ParserDetector
from threadmatch.model.detection.parsing.weights import load_parser
from threadmatch.model.inference import Model
from threadmatch.model.synthetic.drawn.drawn_query import draw_street_query
from threadmatch.model.synthetic.garments.garment import garment
from threadmatch.service.queues.model_queues import ModelQueues
from threadmatch.service.search.detecting import prepare_best


class Watched(ParserDetector):
    """The parser that ships, which remembers how many photos each call of its network had."""

    def __init__(self) -> None:
        super().__init__(*load_parser())
        self.calls: list[int] = []

    def look(self, sized: Sequence[NDArray[np.uint8]]) -> list[Looked]:
        self.calls.append(len(sized))
        return super().look(sized)


def street(number: int) -> bytes:
    with io.BytesIO() as file:
        shown = draw_street_query(garment(7, number), setup=Setup.EASY, seed=number)
        Image.fromarray(shown.image).save(file, "JPEG", quality=92)
        return file.getvalue()


async def test_photos_that_wait_together_are_parsed_in_one_call_with_the_same_outcome(tiny_model: Model) -> None:
    photos, detector = [street(number) for number in (0, 2, 9)], Watched()
    async with ModelQueues(tiny_model, detector=detector) as queues:
        alone = [(await prepare_best(queues, photo))[0] for photo in photos]
        assert detector.calls == [1, 1, 1]
        async with queues.thread.turn():
            asked = asyncio.gather(*(prepare_best(queues, photo) for photo in photos))
            await until(lambda: queues.parser.waiting == len(photos))
        together = [prepared for prepared, *_ in await asked]
    assert detector.calls == [1, 1, 1, 3]
    for one, other in zip(alone, together, strict=True):
        assert one.box == other.box
        assert np.abs(one.pixels.astype(int) - other.pixels).max() <= 1
