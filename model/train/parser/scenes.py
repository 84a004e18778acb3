"""Scenes that a parser is trained on: known photos cropped, cut out and set elsewhere, in other light.

Letters  H x W the scene, h x w the grid of labels at a stride
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from threadmatch.model.detection.parsing.kinds import ANYTHING, BACKGROUND
from threadmatch.model.errors import ConfigError
from threadmatch.model.train.parser.parser_photos import KnownPhoto, PhotoStore, Pixels, Sets

Floats = NDArray[np.float32]

SEEN: Final = 0.04
"""Alpha from which a pasted pixel counts as seen, and below one less which what is behind it does."""


@dataclass(frozen=True, slots=True)
class SceneShares:
    """How often each kind of scene is made; only the proportions count.

    Fields:
        street: a street photo, cropped.
        moved: somebody from a street photo before another ground, white now and then.
        laid: a garment on its own ground.
        pasted: a garment on another ground.
        shop: a shop's model on white.
        drawn: a drawn person.
        empty: no garment.
    """

    street: float = 0.48
    moved: float = 0.16
    laid: float = 0.09
    pasted: float = 0.12
    shop: float = 0.06
    drawn: float = 0.07
    empty: float = 0.02

    def __post_init__(self) -> None:
        values = [getattr(self, field.name) for field in fields(self)]
        if min(values) < 0 or sum(values) <= 0:
            raise ConfigError(f"shares of scenes are {values}, expected none below 0 and some above")


SOURCES: Final = {
    "street": "street", "moved": "street", "laid": "laid", "pasted": "laid", "shop": "shop", "drawn": "drawn",
    "empty": "place",
}  # fmt: skip
"""The photos of the store that each kind of scene is made from."""


class Scenes:
    """Makes scenes from a store; the same numbers give the same scene.

    Args:
        store: of known photos.
        shares: of the kinds of scenes; those whose photos are missing are left out.

    Raises:
        ConfigError: no kind of scene is left.
    """

    def __init__(self, store: PhotoStore, shares: SceneShares) -> None:
        self._store = store
        named = {field.name: float(getattr(shares, field.name)) for field in fields(shares)}
        kept = {name: share for name, share in named.items() if share > 0 and SOURCES[name] in store.by_source}
        if not kept:
            raise ConfigError("the store has no photos for any of the scenes asked for")
        self._names = list(kept)
        self._shares = np.array(list(kept.values())) / sum(kept.values())

    def make(self, rng: np.random.Generator, size: tuple[int, int], *, stride: int) -> tuple[Pixels, Sets]:
        """One scene.

        Args:
            rng: every choice comes from it.
            size: H and W.
            stride: pixels of the scene that one label stands for, each way.

        Returns:
            (H, W, 3) uint8 RGB, and (H / stride, W / stride) uint16 sets of kinds.
        """
        name = self._names[int(rng.choice(len(self._names), p=self._shares))]
        photo = self._any(SOURCES[name], rng)
        if name in ("moved", "pasted"):
            pixels, allowed = self._ground(rng, size)
            for _ in range(2 if name == "pasted" and rng.random() < 0.2 else 1):
                pixels, allowed = _paste(pixels, allowed, photo, rng, turned=name == "pasted")
                photo = self._any(SOURCES[name], rng)
        else:
            pixels, allowed = _window(photo, rng, size)
        if rng.random() < 0.5:
            pixels, allowed = pixels[:, ::-1], allowed[:, ::-1]
        return _photographed(np.ascontiguousarray(pixels), rng), _sampled(allowed, stride)

    def _any(self, source: str, rng: np.random.Generator) -> KnownPhoto:
        numbers = self._store.by_source[source]
        return self._store[numbers[int(rng.integers(len(numbers)))]]

    def _ground(self, rng: np.random.Generator, size: tuple[int, int]) -> tuple[Pixels, Sets]:
        """White, a plain colour, or a place."""
        kind = rng.random()
        allowed = np.full(size, BACKGROUND, np.uint16)
        if kind >= 0.55 and "place" in self._store.by_source:
            pixels, _ = _window(self._any("place", rng), rng, size)
            return pixels, allowed
        plain = np.full(3, 255.0) if kind < 0.3 else rng.uniform(20, 250) + rng.normal(0, 10, 3)
        light = np.linspace(0, rng.uniform(0, 25) * (kind >= 0.3), size[0])[:, None, None]
        return np.clip(np.broadcast_to(plain - light, (*size, 3)), 0, 255).astype(np.uint8), allowed


def _window(photo: KnownPhoto, rng: np.random.Generator, size: tuple[int, int]) -> tuple[Pixels, Sets]:
    """Part of a photo or all of it, squashed to the size."""
    height, width = photo.allowed.shape
    h, w = height, width
    if rng.random() < 0.7:
        share = rng.uniform(0.45, 1.0)
        aspect = size[1] / size[0] * rng.uniform(0.8, 1.25)  # of the window, before it is squashed
        h = int(np.clip(share * min(height, width / aspect), 32, height))
        w = int(np.clip(h * aspect, 32, width))
        h, w = min(h, height), min(w, width)
    y, x = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
    part = slice(y, y + h), slice(x, x + w)
    pixels = cv2.resize(photo.pixels[part], size[::-1], interpolation=cv2.INTER_AREA)
    allowed = cv2.resize(photo.allowed[part], size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    return np.asarray(pixels, np.uint8), np.asarray(allowed, np.uint16)


def _paste(
    ground: Pixels, known: Sets, photo: KnownPhoto, rng: np.random.Generator, *, turned: bool
) -> tuple[Pixels, Sets]:
    """What is not background in a photo, on a ground.

    Args:
        ground: (H, W, 3).
        known: (H, W) of the ground.
        photo: whose foreground is cut out.
        rng: of place, size and angle.
        turned: at any angle; else nearly upright.
    """
    height, width = known.shape
    core = (photo.allowed & BACKGROUND == 0).astype(np.uint8)
    x0, y0, w, h = cv2.boundingRect(core)
    if w < 8 or h < 8:
        return ground, known
    angle = rng.normal(0, 18) + (90 * int(rng.integers(4)) if rng.random() < 0.1 else 0) if turned else rng.normal(0, 4)
    scale = rng.uniform(0.55, 1.25) * min(height / h, width / w) * (0.85 if turned else 1.0)
    shift = (rng.uniform(0.38, 0.62) * width, rng.uniform(0.4, 0.6) * height)
    cut, core, matrix = _placing(photo, core, (x0 + w / 2, y0 + h / 2), angle, scale, shift)
    alpha = cv2.warpAffine(core.astype(np.float32), matrix, (width, height), flags=cv2.INTER_LINEAR)
    alpha = cv2.GaussianBlur(alpha, (0, 0), 0.7)[..., None]  # (H, W, 1)
    over = cv2.warpAffine(cut, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    unshrunk = _scaled(matrix, cut.shape[1] / photo.allowed.shape[1])
    placed = cv2.warpAffine(photo.allowed, unshrunk, (width, height), flags=cv2.INTER_NEAREST)
    labels = np.where(placed == 0, BACKGROUND, placed).astype(np.uint16)
    pixels = alpha * over + (1 - alpha) * ground
    seen, behind = alpha[..., 0] > SEEN, alpha[..., 0] < 1 - SEEN
    allowed = np.where(seen, np.where(behind, labels | known, labels & ~np.uint16(BACKGROUND)), known)
    return np.clip(pixels, 0, 255).astype(np.uint8), np.where(allowed == 0, ANYTHING, allowed).astype(np.uint16)


def _placing(
    photo: KnownPhoto,
    core: NDArray[np.uint8],
    centre: tuple[float, float],
    angle: float,
    scale: float,
    shift: tuple[float, float],
) -> tuple[Pixels, NDArray[np.uint8], NDArray[np.float64]]:
    """The photo and its foreground, shrunk first where that avoids aliasing, and the (2, 3) matrix that places them."""
    pixels = photo.pixels
    if scale < 0.7:
        pixels = np.asarray(cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
        core = np.asarray(cv2.resize(core, pixels.shape[1::-1], interpolation=cv2.INTER_NEAREST), np.uint8)
        centre, scale = (centre[0] * scale, centre[1] * scale), 1.0
    matrix = cv2.getRotationMatrix2D(centre, angle, scale)
    matrix[:, 2] += np.array(shift) - np.array(centre)
    return np.ascontiguousarray(pixels), core, np.asarray(matrix, np.float64)


def _scaled(matrix: NDArray[np.float64], shrink: float) -> NDArray[np.float64]:
    """The same placing for a photo that was not shrunk."""
    scaled = matrix.copy()
    scaled[:, :2] *= shrink
    return scaled


def _photographed(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Another exposure, white balance and saturation; sometimes grey, blurred, noisy or compressed."""
    image = pixels.astype(np.float32) / 255
    image = np.power(image, np.float32(np.exp(rng.normal(0, 0.25)))) * np.exp(rng.normal(0, 0.15))
    grey = image.mean(axis=2, keepdims=True)
    saturation = 0.0 if rng.random() < 0.04 else np.exp(rng.normal(0, 0.25))
    image = (grey + (image - grey) * saturation) * np.exp(rng.normal(0, 0.06, 3))
    image = (image - 0.5) * np.exp(rng.normal(0, 0.12)) + 0.5
    if rng.random() < 0.15:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 1.6))
    if rng.random() < 0.15:
        image = image + rng.standard_normal(image.shape, np.float32) * np.float32(rng.uniform(0, 0.05))
    done = np.clip(image * 255, 0, 255).astype(np.uint8)
    if rng.random() < 0.2:
        coded = cv2.imencode(".jpg", done, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 85))])[1]
        done = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)
    return np.asarray(done, np.uint8)


def _sampled(allowed: Sets, stride: int) -> Sets:
    """The set in the middle of every cell."""
    return np.ascontiguousarray(allowed[stride // 2 :: stride, stride // 2 :: stride])
