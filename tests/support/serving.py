"""What the service's tests share: photos, an entered app, and a model that counts, waits and fails."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import numpy as np
from fastapi import FastAPI
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tests.support.patience import PATIENCE_S, until
from threadmatch.indexer.ingest import ingest
from threadmatch.indexer.ingest_options import IngestOptions
from threadmatch.model.chain import Ranking
from threadmatch.model.detection.proposals import GRABCUT
from threadmatch.model.explain import Explanation, Side
from threadmatch.model.features import Features
from threadmatch.model.inference import Judged, Model
from threadmatch.model.matching import ExplainingMatcher, GradCam, Items, Matcher, Photo, as_explaining
from threadmatch.service.config import Settings
from threadmatch.service.shared import state_of


def photo(seed: int = 0, *, size: tuple[int, int] = (120, 160), kind: str = "JPEG") -> bytes:
    """A small picture of coloured shapes; another one for each seed."""
    random = np.random.default_rng(seed)
    image = Image.new("RGB", size, tuple(int(value) for value in random.integers(0, 256, 3)))
    draw = ImageDraw.Draw(image)
    for _ in range(6):
        x, y = (int(random.integers(0, side)) for side in size)
        colour = tuple(int(value) for value in random.integers(0, 256, 3))
        draw.ellipse((x - 25, y - 25, x + 25, y + 25), fill=colour)
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


def scene(*, orientation: int = 1) -> bytes:
    """300 x 400 as stored: a red garment at 90,100..210,300 before a noisy wall."""
    noise = np.random.default_rng(0).integers(-25, 25, (400, 300, 1))
    image = Image.fromarray((np.array((120, 140, 120)) + noise).astype(np.uint8))
    ImageDraw.Draw(image).rectangle((90, 100, 209, 299), fill=(190, 30, 40))
    exif = Image.Exif()
    exif[0x0112] = orientation
    with io.BytesIO() as file:
        image.save(file, "JPEG", quality=95, exif=exif)
        return file.getvalue()


def make_catalogue(folder: Path, ids: list[str], *, first_seed: int = 1) -> Path:
    """Photos and a JSON Lines catalogue; every two items are views of one product."""
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    lines = []
    for number, identity in enumerate(ids):
        (images / f"{number}.jpg").write_bytes(photo(first_seed + number))
        lines.append(
            {
                "id": identity,
                "image": f"{number}.jpg",
                "product_id": f"product-{number // 2}",
                "name": f"Garment {number}",
                "price": 10 + number,
            }
        )
    catalogue = folder / "catalogue.jsonl"
    catalogue.write_text("\n".join(json.dumps(line) for line in lines), "utf-8")
    return catalogue


def build_gallery(folder: Path, model: Model, ids: list[str], *, first_seed: int = 1) -> Path:
    """Ingest them; the gallery's folder."""
    catalogue = make_catalogue(folder / "shop", ids, first_seed=first_seed)
    ingest(catalogue, folder / "gallery", model=model, options=IngestOptions(images=folder / "shop" / "images"))
    return folder / "gallery"


def settings(gallery: Path, **changes: object) -> Settings:
    """Settings of a test: quick to notice things, quick to begin and to end."""
    values: dict[str, object] = {
        "gallery": gallery,
        "gallery_poll_s": 0.1,
        "drain_s": 5,
        "decode_in": "threads",
        "detector": GRABCUT,  # a box is chosen only where a test asks for it
        **changes,
    }
    return Settings.model_validate(values)


@asynccontextmanager
async def running(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an app whose lifespan is entered, over ASGI: no socket, no thread of its own."""
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=PATIENCE_S) as client:
            yield client


async def post(client: httpx.AsyncClient, image: bytes | None = None, /, **fields: object) -> httpx.Response:
    """POST /v1/search with a photo and fields."""
    files = {"image": ("photo.jpg", photo() if image is None else image, "image/jpeg")}
    return await client.post("/v1/search", files=files, data={name: str(value) for name, value in fields.items()})


def is_error(response: httpx.Response, status: int, name: str) -> str:
    """Check the one error form; its detail."""
    assert response.status_code == status, response.text
    body = response.json()
    assert body.keys() == {"error", "detail", "request_id"}
    assert body["error"] == name
    assert body["request_id"] == response.headers["X-Request-ID"]
    detail: str = body["detail"]
    assert detail
    return detail


async def until_waiting(app: FastAPI, photos: int) -> None:
    """Wait until so many photos, or more, are decoded and wait for the model."""
    queues = state_of(app).queues
    assert queues is not None, "the app's lifespan is not entered"
    await until(lambda: queues.encoder.waiting >= photos)


class WatchedModel:
    """A real model that remembers the sizes of its calls, waits while `gate` is shut, and fails on request.

    Args:
        model: does the work.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self.gate = threading.Event()
        self.gate.set()
        self.fails: dict[str, int] = {}  # calls of each kind that will fail
        self.begun = 0
        self.encoded: list[int] = []
        self.scored: list[list[int]] = []
        self.threads: set[str] = set()
        self.name, self.fingerprint = model.name, model.fingerprint
        self.features, self.features_fingerprint = model.features, model.features_fingerprint
        self.image_px, self.framing, self.chain = model.image_px, model.framing, model.chain
        self.attributes = model.attributes
        self.matchers: Mapping[str, Matcher] = {
            name: WatchedMatcher(self, matcher) for name, matcher in model.matchers.items()
        }

    def make_ready(self, names: Collection[str]) -> None:
        self._model.make_ready(names)

    def encode(self, pixels: NDArray[np.uint8], names: Collection[str] | None = None) -> Features:
        self.begin("encode")
        self.encoded.append(len(pixels))
        return self._model.encode(pixels, names)

    def attention(self, pixels: NDArray[np.uint8], attribute: str) -> NDArray[np.float32]:
        return self._model.attention(pixels, attribute)

    def judge(self, ranking: Ranking, *, items: int | None = None) -> Judged:
        return self._model.judge(ranking, items=items)

    def begin(self, call: str) -> None:
        self.begun += 1
        self.threads.add(threading.current_thread().name)
        assert self.gate.wait(PATIENCE_S), "the test never opened the gate"
        if self.fails.get(call, 0):
            self.fails[call] -= 1
            raise RuntimeError(f"CUDA error: an illegal memory access in /home/secret/{call}.cu")


class WatchedMatcher:
    """One matcher of a watched model.

    Args:
        model: told of each call.
        matcher: does the work.
    """

    def __init__(self, model: WatchedModel, matcher: Matcher) -> None:
        self._model, self._matcher = model, matcher
        self.name, self.needs = matcher.name, matcher.needs
        self.calibrated, self.explains, self.pointwise = matcher.calibrated, matcher.explains, matcher.pointwise
        self.cost = matcher.cost

    def score_many(self, queries: Sequence[Photo], candidates: Sequence[Items]) -> list[NDArray[np.float32]]:
        self._model.begin("score_many")
        self._model.scored.append([len(next(iter(each.values()))) for each in candidates])
        return self._matcher.score_many(queries, candidates)

    @property
    def _explaining(self) -> ExplainingMatcher:
        matcher = as_explaining(self._matcher)
        assert matcher is not None
        return matcher

    def region_boxes(self) -> NDArray[np.float32]:
        return self._explaining.region_boxes()

    def evidence(self, query: Photo, candidates: Items, *, top: int = 5) -> list[Explanation]:
        self._model.begin("evidence")
        return self._explaining.evidence(query, candidates, top=top)

    def heat(self, query: Photo, candidates: Items) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        self._model.begin("heat")
        return self._explaining.heat(query, candidates)

    def grad_cam(self, pixels: NDArray[np.uint8], other: Photo, *, side: Side) -> NDArray[np.float32]:
        self._model.begin("grad_cam")
        assert isinstance(self._matcher, GradCam)
        return self._matcher.grad_cam(pixels, other, side=side)
