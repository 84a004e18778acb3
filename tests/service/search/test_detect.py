"""POST /v1/detect and box=auto: the same box by both ways, refusals, and a detector of one's own."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.support.serving import is_error, photo, post, running, scene, settings
from threadmatch.indexer.reading.gallery import Gallery
from threadmatch.model.data.setups import Setup
from threadmatch.model.descriptions import DEFAULT_PARSER
from threadmatch.model.detection.proposals import Proposal
from threadmatch.model.detection.things import weights
from threadmatch.model.images import Box
from threadmatch.model.inference import Model
from threadmatch.model.synthetic.drawn.drawn_query import draw_street_query
from threadmatch.model.synthetic.drawn.shop_image import draw_shop_image
from threadmatch.model.synthetic.garments.garment import garment
from threadmatch.model.synthetic.nonsense import as_jpeg, nonsense
from threadmatch.service.app import create_app
from threadmatch.service.errors import StartError
from threadmatch.service.galleries.loading import open_detector
from threadmatch.service.shared import state_of


async def detect(client: httpx.AsyncClient, image: bytes, **fields: str) -> httpx.Response:
    return await client.post("/v1/detect", files={"image": ("photo.jpg", image, "image/jpeg")}, data=fields)


@pytest.mark.parametrize(("orientation", "size", "truth"), [(1, (300, 400), (90, 100, 210, 300)),
                                                            (6, (400, 300), (100, 90, 300, 210))])  # fmt: skip
async def test_the_box_is_in_pixels_of_the_upright_photo_and_auto_searches_it(
    client: httpx.AsyncClient, orientation: int, size: tuple[int, int], truth: tuple[int, ...]
) -> None:
    image = scene(orientation=orientation)
    found = (await detect(client, image)).json()
    assert (found["width"], found["height"]) == size
    assert found["detector"] == "grabcut"
    (proposal,) = found["boxes"]
    np.testing.assert_allclose(proposal["box"], truth, atol=20)
    assert 0 < proposal["score"] <= 1
    answer = (await post(client, image, box="auto", top_k=1)).json()
    assert answer["query"]["box"] == pytest.approx(proposal["box"])
    by_hand = (await post(client, image, box=",".join(map(str, proposal["box"])), top_k=1)).json()
    assert answer["matches"][0]["id"] == by_hand["matches"][0]["id"]
    assert answer["matches"][0]["score"] == pytest.approx(by_hand["matches"][0]["score"], abs=0.01)


async def test_where_nothing_stands_out_auto_searches_the_whole_photo(client: httpx.AsyncClient) -> None:
    with io.BytesIO() as file:
        Image.new("RGB", (60, 80), (9, 9, 9)).save(file, "PNG")
        plain = file.getvalue()
    assert (await detect(client, plain)).json()["boxes"] == []
    assert (await post(client, plain, box="auto")).json()["query"]["box"] == [0, 0, 60, 80]


async def test_detect_takes_a_photo_and_nothing_else(client: httpx.AsyncClient) -> None:
    assert "alone" in is_error(await detect(client, photo(), top_k="3"), 422, "InvalidField")
    is_error(await detect(client, b"GIF89a nothing"), 422, "InvalidImage")
    is_error(await client.post("/v1/detect", json={}), 415, "UnsupportedMediaType")


class Corner:
    """A detector that always sees a hat in the upper left corner."""

    name, on_model_thread = "corner", True

    def __init__(self) -> None:
        self.seen: list[tuple[int, ...]] = []

    def detect(self, photo: NDArray[np.uint8]) -> list[Proposal]:
        self.seen.append(photo.shape)
        return [Proposal(Box(0, 0, 0.5, 0.25), 0.9, "hat")]


async def test_another_detector_takes_its_place(gallery_folder: Path, gallery: Gallery, tiny_model: Model) -> None:
    app = create_app(settings(gallery_folder), model=tiny_model, gallery=gallery)
    async with running(app) as client:
        queues = state_of(app).queues
        assert queues is not None
        queues.detector = corner = Corner()
        found = (await detect(client, photo(size=(120, 160)))).json()
        assert found["boxes"] == [{"box": [0, 0, 60, 40], "score": 0.9, "label": "hat"}]
        assert found["detector"] == "corner"
        assert (await post(client, photo(size=(120, 160)), box="auto")).json()["query"]["box"] == [0, 0, 60, 40]
        assert corner.seen == [(160, 120, 3)] * 2


def test_a_detector_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"detector\.json"):
        open_detector(str(tmp_path / "nowhere"))


def test_what_only_some_photos_need_is_missed_at_the_start_not_by_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "SHIPPED", tmp_path)
    own = {"engine": "torch", "cache": tmp_path}  # so that nobody has it yet
    open_detector(DEFAULT_PARSER, **own)
    with pytest.raises(StartError, match=weights.WEIGHTS_FILE):
        open_detector(DEFAULT_PARSER, whole=True, **own)


def _overlap(one: Sequence[float], other: Box) -> float:
    """Intersection over union."""
    across = max(0.0, min(one[2], other.x1) - max(one[0], other.x0))
    down = max(0.0, min(one[3], other.y1) - max(one[1], other.y0))
    area = (one[2] - one[0]) * (one[3] - one[1])
    return across * down / (area + other.width * other.height - across * down)


@pytest.mark.parametrize("number", [0, 2, 9])
async def test_who_says_nothing_of_a_box_searches_the_main_garment(
    gallery_folder: Path, gallery: Gallery, tiny_model: Model, number: int
) -> None:
    shown = draw_street_query(garment(7, number), setup=Setup.EASY, seed=number)
    with io.BytesIO() as file:
        Image.fromarray(shown.image).save(file, "JPEG", quality=92)
        street = file.getvalue()
    options = settings(gallery_folder, detector=DEFAULT_PARSER)
    async with running(create_app(options, model=tiny_model, gallery=gallery)) as client:
        asked = {}
        for box in (None, "auto", "none", "10,20,60,90"):
            response = await client.post(
                "/v1/search", files={"image": ("street.jpg", street)}, data={} if box is None else {"box": box}
            )
            assert response.status_code == 200, response.text
            asked[box] = response.json()
        told = (await client.post("/v1/detect", files={"image": ("street.jpg", street)})).json()
    height, width = shown.image.shape[:2]
    assert _overlap(asked[None]["query"]["box"], shown.box) > 0.7
    assert asked["auto"]["query"] == asked[None]["query"]
    assert asked["none"]["query"]["box"] == [0, 0, width, height]
    assert asked["10,20,60,90"]["query"]["box"] == [10, 20, 60, 90]
    assert told["detector"] == DEFAULT_PARSER
    assert _overlap(told["boxes"][0]["box"], shown.box) > 0.7, "the main garment comes first"
    assert told["boxes"][0]["label"] is not None


async def test_a_photo_that_shows_nobody_keeps_its_whole_frame(
    gallery_folder: Path, gallery: Gallery, tiny_model: Model
) -> None:
    with io.BytesIO() as file:
        Image.fromarray(draw_shop_image(garment(7, 3))).save(file, "JPEG")
        laid = file.getvalue()
    options = settings(gallery_folder, detector=DEFAULT_PARSER)
    async with running(create_app(options, model=tiny_model, gallery=gallery)) as client:
        whole, auto = [
            (await client.post("/v1/search", files={"image": ("a.jpg", laid)}, data=data)).json()
            for data in ({"box": "none"}, {})
        ]
    assert auto["query"]["box"] == whole["query"]["box"]
    assert auto["matches"] == whole["matches"], "nor is anything quieted"
    assert (whole["query"]["chosen_by"], whole["query"]["garments"]) == ("client", []), "nobody looked"
    assert auto["query"]["chosen_by"] == "detector"
    assert auto["query"]["garment"] == auto["query"]["garments"][0]["label"]


async def test_a_photo_without_a_garment_is_answered_with_a_note_and_low_probabilities(
    gallery_folder: Path, gallery: Gallery, tiny_model: Model
) -> None:
    options = settings(gallery_folder, detector=DEFAULT_PARSER)
    async with running(create_app(options, model=tiny_model, gallery=gallery)) as client:
        for kind, fields in (("text", {}), ("car", {"box": "auto"}), ("flat", {"box": "none"})):
            response = await post(client, as_jpeg(nonsense(kind, 0)), **fields)
            answer = response.json()
            assert [note["note"] for note in answer["notes"]] == ["NoGarment"], kind
            assert (answer["no_match"], answer["no_match_reason"]) == (True, "no_garment")
            assert len(answer["matches"]) == 10, "the closest all the same"
            assert max(match["probability"] for match in answer["matches"]) <= 0.02
            assert {match["confidence"] for match in answer["matches"]} == {"unlikely"}
            assert answer["query"]["garments"] == []
        assert (await detect(client, as_jpeg(nonsense("text", 0)))).json()["boxes"] == []
