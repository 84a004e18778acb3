"""Pictures without a garment, drawn: what people send by mistake, and what a search must not call a likely match.

flat, gradient, noise        no structure, or none that means anything
text, chart                  screenshots
food, face, car, landscape   things that a camera sees; drawn plainly, for photos of them are somebody's
"""

from __future__ import annotations

import colorsys
import io
import math
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Colour = tuple[int, int, int]
Random = np.random.Generator

SIDES_PX: Final = ((480, 640), (640, 480), (512, 512))
LETTER: Final = (
    "invoice total please find attached the table of last month delivery not possible before Monday regards meeting "
    "moved to nine see you there thanks for your order number we are sorry the parcel could not be delivered"
)
SKIN: Final[tuple[Colour, ...]] = ((255, 224, 196), (224, 172, 125), (141, 85, 50), (80, 50, 35))
HAIR: Final[tuple[Colour, ...]] = ((30, 20, 15), (120, 70, 30), (220, 180, 90), (150, 150, 150))


def flat(random: Random, size: tuple[int, int]) -> Image.Image:
    """One colour."""
    return Image.new("RGB", size, _colour(random))


def gradient(random: Random, size: tuple[int, int]) -> Image.Image:
    """From one colour to another, across or from the middle."""
    one, other = (np.array(_colour(random), np.float32) for _ in range(2))
    y, x = np.mgrid[0 : size[1], 0 : size[0]].astype(np.float32)
    if random.random() < 0.5:
        angle = random.uniform(0, 2 * math.pi)
        share = x * math.cos(angle) + y * math.sin(angle)
    else:
        share = np.hypot(x - size[0] / 2, y - size[1] / 2)
    share = (share - share.min()) / (share.max() - share.min())
    return _image(one + share[..., None] * (other - one))


def noise(random: Random, size: tuple[int, int]) -> Image.Image:
    """Grain, in colours or without; fine, or as clouds."""
    channels = 3 if random.random() < 0.5 else 1
    coarse = int(random.choice([1, 1, 8, 40]))
    grain = random.uniform(0, 255, (math.ceil(size[1] / coarse), math.ceil(size[0] / coarse), channels))
    picture = _image(np.broadcast_to(grain, (*grain.shape[:2], 3)))
    return picture.resize(size, Image.Resampling.BICUBIC)


def text(random: Random, size: tuple[int, int]) -> Image.Image:
    """A page, a terminal or a chat."""
    dark = random.random() < 0.4
    picture = Image.new("RGB", size, (24, 26, 30) if dark else (255, 255, 255))
    draw = ImageDraw.Draw(picture)
    pt, y, words = int(random.integers(11, 20)), 20, LETTER.split()
    bubbles = random.random() < 0.4
    while y < size[1] - 2 * pt:
        line = " ".join(random.choice(words, int(random.integers(2, 9))))
        x = int(random.choice([16, size[0] // 3])) if bubbles else 16
        if bubbles:
            edges = (x - 8, y - 5, min(size[0] - 4, x + pt * len(line) // 2 + 8), y + pt + 8)
            draw.rounded_rectangle(edges, 10, fill=(38, 90, 70) if dark else (225, 240, 225))
        draw.text((x, y), line, fill=(225, 225, 225) if dark else (20, 20, 20), font_size=pt)
        y += int(pt * (2.1 if bubbles else random.choice([1.4, 1.4, 2.6])))
    return picture


def chart(random: Random, size: tuple[int, int]) -> Image.Image:
    """Bars and a line over a grid."""
    picture = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)
    width, height = size
    for step in range(1, 7):
        draw.line((40, height * step // 8, width - 20, height * step // 8), fill=(220, 220, 220))
    count = int(random.integers(4, 12))
    colour, room = _colour(random), (width - 80) / count
    tops = []
    for bar in range(count):
        top = int(random.uniform(0.15, 0.8) * height)
        x = 50 + bar * room
        draw.rectangle((x, top, x + room * 0.6, height * 7 // 8), fill=colour)
        draw.text((x, height * 7 // 8 + 6), str(2010 + bar), fill=(60, 60, 60))
        tops.append((x + room * 0.3, top - 20))
    draw.line(tops, fill=_colour(random), width=3)
    return picture


def food(random: Random, size: tuple[int, int]) -> Image.Image:
    """A plate on a table: a pizza, fried eggs, or fruit."""
    picture = Image.new("RGB", size, _brown(random))
    draw, middle, side = ImageDraw.Draw(picture), (size[0] / 2, size[1] / 2), min(size) * 0.46
    _disc(draw, middle, side, (245, 245, 242))
    _disc(draw, middle, side * 0.93, (232, 232, 228))
    kind = random.integers(3)
    if kind == 0:
        for radius, colour in ((0.8, (196, 140, 70)), (0.72, (190, 50, 30)), (0.68, (242, 205, 110))):
            _disc(draw, middle, side * radius, colour)
    for _ in range(int(random.integers(4, 12))):
        turn, reach = random.uniform(0, 2 * math.pi), random.uniform(0.1, 0.55) * side
        at = (middle[0] + reach * math.cos(turn), middle[1] + reach * math.sin(turn))
        if kind == 0:
            _disc(draw, at, side * 0.1, (170, 40, 30))
        elif kind == 1:
            _disc(draw, at, side * 0.24, (250, 250, 250))
            _disc(draw, at, side * 0.1, (250, 190, 40))
        else:
            _disc(draw, at, side * random.uniform(0.14, 0.24), _vivid(random))
    return picture


def face(random: Random, size: tuple[int, int]) -> Image.Image:
    """A face that fills the picture, down to the chin."""
    picture = Image.new("RGB", size, _colour(random))
    draw, (width, height) = ImageDraw.Draw(picture), size
    skin, hair = SKIN[int(random.integers(len(SKIN)))], HAIR[int(random.integers(len(HAIR)))]
    x, y, side = width / 2, height * 0.56, min(size) * 0.44
    draw.ellipse((x - side, y - 1.35 * side, x + side, y + 0.4 * side), fill=hair)
    draw.ellipse((x - 0.8 * side, y - 1.05 * side, x + 0.8 * side, y + 1.15 * side), fill=skin)
    for way in (-1, 1):
        eye = (x + way * 0.33 * side, y - 0.1 * side)
        draw.ellipse(
            (eye[0] - 0.15 * side, eye[1] - 0.08 * side, eye[0] + 0.15 * side, eye[1] + 0.08 * side), fill="white"
        )
        _disc(draw, eye, 0.07 * side, (60, 40, 30))
        draw.line((eye[0] - 0.18 * side, eye[1] - 0.2 * side, eye[0] + 0.18 * side, eye[1] - 0.22 * side), hair, 5)
    draw.polygon([(x, y), (x - 0.1 * side, y + 0.33 * side), (x + 0.1 * side, y + 0.33 * side)], fill=_darker(skin))
    draw.chord((x - 0.3 * side, y + 0.4 * side, x + 0.3 * side, y + 0.75 * side), 0, 180, fill=(170, 60, 60))
    return picture.filter(ImageFilter.GaussianBlur(1))


def car(random: Random, size: tuple[int, int]) -> Image.Image:
    """A car from the side, on a road."""
    picture = landscape(random, size)
    draw, (width, height) = ImageDraw.Draw(picture), size
    draw.rectangle((0, height * 0.72, width, height), fill=(70, 70, 74))
    colour, y = _vivid(random), height * 0.7
    draw.rounded_rectangle((width * 0.1, y - height * 0.16, width * 0.9, y + height * 0.05), 24, fill=colour)
    roof = [(0.25, -0.16), (0.36, -0.29), (0.66, -0.29), (0.78, -0.16)]
    draw.polygon([(width * x, y + height * dy) for x, dy in roof], fill=colour)
    draw.polygon([(width * (0.5 + 0.9 * (x - 0.5)), y + height * (dy * 0.94)) for x, dy in roof], fill=(170, 200, 215))
    for x in (0.28, 0.73):
        _disc(draw, (width * x, y + height * 0.05), height * 0.09, (25, 25, 25))
        _disc(draw, (width * x, y + height * 0.05), height * 0.045, (180, 180, 180))
    return picture


def landscape(random: Random, size: tuple[int, int]) -> Image.Image:
    """Sky, hills and a meadow."""
    width, height = size
    y = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    sky = np.array((110, 170, 230), np.float32) + y * np.array((110, 60, 10), np.float32)
    picture = _image(np.broadcast_to(sky, (height, width, 3)))
    draw = ImageDraw.Draw(picture)
    for far in range(3):
        base, phase = height * (0.45 + 0.13 * far), random.uniform(0, 6)
        ridge = [
            (x, base + height * 0.06 * math.sin(phase + x / width * (4 + 2 * far))) for x in range(0, width + 8, 8)
        ]
        draw.polygon([*ridge, (width, height), (0, height)], fill=(90 - 20 * far, 150 - 25 * far, 90 - 20 * far))
    _disc(draw, (width * random.uniform(0.1, 0.9), height * 0.15), height * 0.06, (255, 240, 170))
    return picture


KINDS: Final[dict[str, Callable[[Random, tuple[int, int]], Image.Image]]] = {
    "flat": flat, "gradient": gradient, "noise": noise, "text": text, "chart": chart, "food": food, "face": face,
    "car": car, "landscape": landscape,
}  # fmt: skip


def nonsense(kind: str, seed: int) -> Image.Image:
    """The picture of one kind (of KINDS) and seed: always the same."""
    random = np.random.default_rng([list(KINDS).index(kind), seed])
    return KINDS[kind](random, SIDES_PX[seed % len(SIDES_PX)])


def as_jpeg(picture: Image.Image) -> bytes:
    """As a camera or a phone would send it."""
    with io.BytesIO() as file:
        picture.save(file, "JPEG", quality=90)
        return file.getvalue()


def _image(values: NDArray[np.floating]) -> Image.Image:
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def _colour(random: Random) -> Colour:
    red, green, blue = (int(value) for value in random.integers(0, 256, 3))
    return red, green, blue


def _vivid(random: Random) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(random.random(), random.uniform(0.6, 0.95), random.uniform(0.5, 0.95))
    return int(255 * red), int(255 * green), int(255 * blue)


def _brown(random: Random) -> Colour:
    red = int(random.integers(90, 200))
    return red, int(red * 0.72), int(red * 0.5)


def _darker(colour: Colour) -> Colour:
    red, green, blue = (int(value * 0.85) for value in colour)
    return red, green, blue


def _disc(draw: ImageDraw.ImageDraw, at: tuple[float, float], radius: float, colour: Colour) -> None:
    draw.ellipse((at[0] - radius, at[1] - radius, at[0] + radius, at[1] + radius), fill=colour)
