"""The camera of handheld queries: lamps, white balance, shake, grain, a screen photographed, and saving twice."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from threadmatch.model.synthetic.street.cutout import Pixels

_LAMPS: Final = ((1.12, 1.0, 0.82), (1.06, 1.0, 0.92), (1.0, 1.0, 1.0), (0.95, 1.0, 1.08), (0.97, 1.05, 0.97))
"""Tungsten, warm, daylight, shade, fluorescent: what is left of them after the camera's own correction."""


def shot(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """(H, W, 3) uint8 as a telephone hands it on."""
    image = np.asarray(picture, np.float32) / np.float32(255)
    lamp = np.array(_LAMPS[int(rng.integers(len(_LAMPS)))], np.float32)
    lit = np.clip(image * (1 + (lamp - 1) * np.float32(rng.uniform(0.3, 1))), 0, None)
    lit = lit * _falloff(image.shape[:2], rng)[..., None]
    exposure = 2 ** rng.uniform(-0.5, 0.4)
    film = (1 - np.exp(-lit * exposure * 1.6)) / (1 - np.exp(-1.6))  # its shoulder
    image = np.asarray(film, np.float32)
    if rng.random() < 0.3:
        image = _shaken(image, rng)
    if rng.random() < 0.2:
        image = _screen(image, rng)
    if rng.random() < 0.5:
        grain = rng.normal(0, rng.uniform(0.005, 0.035), (*image.shape[:2], 1)).astype(np.float32)
        image = np.asarray(image + grain * (np.float32(1.2) - image), np.float32)
    small = _saved(np.clip(image * 255, 0, 255).astype(np.uint8), int(rng.integers(55, 92)))
    if rng.random() < 0.6:  # sent on, in fewer pixels
        factor = rng.uniform(0.55, 0.95)
        small = np.asarray(cv2.resize(small, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), np.uint8)
        small = np.asarray(cv2.resize(small, picture.shape[1::-1], interpolation=cv2.INTER_CUBIC), np.uint8)
    return _saved(small, int(rng.integers(35, 85)))


def _falloff(size: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float32]:
    """(H, W) light of one lamp near by, with a hard shadow at times."""
    ys, xs = np.mgrid[0 : 1 : size[0] * 1j, 0 : 1 : size[1] * 1j].astype(np.float32)
    x, y = rng.uniform(-0.5, 1.5, 2).astype(np.float32)
    light = 1 / (1 + np.float32(rng.uniform(0, 0.6)) * ((xs - x) ** 2 + (ys - y) ** 2))
    if rng.random() < 0.25:  # blinds, leaves, the photographer
        angle, period = rng.uniform(0, np.pi), rng.uniform(0.1, 0.7)
        wave = np.sin(2 * np.pi * (np.cos(angle) * xs + np.sin(angle) * ys) / period + rng.uniform(0, 6))
        light = light * (1 - np.float32(rng.uniform(0.1, 0.45)) / (1 + np.exp(-12 * wave)))
    return np.asarray(light / light.mean(), np.float32)


def _shaken(image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """The mean along a short curved path."""
    length, angle, bow = rng.uniform(1.5, 6), rng.uniform(0, np.pi), rng.normal(0, 0.5)
    total = np.zeros_like(image)
    steps = np.linspace(-0.5, 0.5, 5)
    for step in steps:
        along = length * step
        turn = angle + bow * step
        move = np.array([[1, 0, along * np.cos(turn)], [0, 1, along * np.sin(turn)]], np.float32)
        total += cv2.warpAffine(image, move, image.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(total / len(steps), np.float32)


def _screen(image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Off a screen: stripes of its pixels against those of the camera, and what it reflects."""
    height, width = image.shape[:2]
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
    angle, period = rng.uniform(-0.15, 0.15), rng.uniform(2.05, 3.4)
    phase = 2 * np.pi * (np.cos(angle) * xs + np.sin(angle) * ys) / period
    depth = np.float32(rng.uniform(0.03, 0.15))
    for channel, lag in enumerate((0.0, 2.1, 4.2)):
        image[..., channel] *= 1 + depth * np.sin(phase + np.float32(lag))
    shine = np.exp(-((xs / width - rng.uniform(0, 1)) ** 2 + (ys / height - rng.uniform(0, 1)) ** 2) / 0.08)
    return np.asarray(image * 0.94 + np.float32(rng.uniform(0, 0.2)) * shine[..., None], np.float32)


def _saved(image: Pixels, quality: int) -> Pixels:
    _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    read = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert read is not None, "OpenCV reads what it wrote"
    return np.ascontiguousarray(read[..., ::-1], np.uint8)
