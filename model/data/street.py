"""Semi-synthetic street queries: a garment cut out of a real photo, warped, relit, set before another background.

Letters  H x W the picture made
Paper    setups as in FindFashion (Kuang et al., ICCV 2019, sec. 4): over 30 % cut off, covered, or not the front
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from model.data.cutout import Cutout
from model.data.setups import HARD_FRACTION, Setup, StreetQuery
from model.images import Box

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]

LONG_SIDE_PX = (256, 384)
MOST_LOST = 0.62
"""A hard query keeps at least the rest of its garment."""
EASY_LOST = 0.10
MARGIN = 0.5
"""The scene reaches this share of the picture beyond each edge while it is composed; cropping moves the window."""


def street_query(
    cutout: Cutout,
    background: Pixels,
    *,
    setup: Setup,
    rng: np.random.Generator,
    others: Sequence[Cutout] = (),
) -> StreetQuery:
    """Make one query.

    Args:
        cutout: the garment.
        background: (H', W', 3) uint8 RGB, any size, from another photographer.
        setup: what makes it hard.
        rng: every choice comes from it.
        others: garments that may stand in front of this one; without them shapes are drawn.

    Returns:
        A picture whose long side lies in LONG_SIDE_PX; crop and occlusion are counted on the mask.
    """
    long_side = int(rng.integers(*LONG_SIDE_PX))
    short_side = int(long_side * rng.uniform(0.62, 0.85))
    height, width = (long_side, short_side) if rng.random() < 0.8 else (short_side, long_side)
    pad_y, pad_x = int(height * MARGIN), int(width * MARGIN)
    garment = _warp(_relit(cutout.rgba, rng), (height, width), (pad_y, pad_x), setup, rng)  # padded scene, RGBA
    alpha = garment[..., 3]
    whole = float(alpha.sum(dtype=np.float64)) or 1.0
    y, x = _window(alpha, (height, width), (pad_y, pad_x), setup, rng)
    garment = garment[y : y + height, x : x + width]
    inside = float(garment[..., 3].sum(dtype=np.float64))
    picture = _shadow(_fit(background, height, width, rng), garment[..., 3], rng)
    picture = _over(picture, garment)
    cover = _cover(garment[..., 3], setup, rng, others)
    picture = _over(picture, cover)
    hidden = float((garment[..., 3].astype(np.float64) * (cover[..., 3] / 255.0)).sum())
    visible = (garment[..., 3] > 127) & (cover[..., 3] < 128)
    return StreetQuery(
        image=_camera(picture, rng),
        box=_box(visible, width, height),
        setup=setup,
        cropped_fraction=1 - inside / whole,
        occluded_fraction=hidden / max(inside, 1.0),
    )


def make_background(photo: Pixels, rng: np.random.Generator) -> Pixels:
    """A place without a garment: a corner of a photo, mirrored outwards, or a drawn surface; some clutter on it.

    Args:
        photo: (H, W, 3) uint8 RGB, of another photographer than the garment's.

    Returns:
        (320, 320, 3) uint8 RGB.
    """
    size = 320
    if rng.random() < 0.7:
        height, width = photo.shape[:2]
        h, w = max(8, int(height * rng.uniform(0.12, 0.3))), max(8, int(width * rng.uniform(0.12, 0.3)))
        y, x = rng.choice([0, height - h]), rng.choice([0, width - w])
        corner = photo[y : y + h, x : x + w]
        zoom = rng.uniform(0.7, 2.5)
        corner = cv2.resize(corner, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_LINEAR)
        across, down = -(-size // corner.shape[1]), -(-size // corner.shape[0])
        row = np.hstack([corner if i % 2 == 0 else corner[:, ::-1] for i in range(across)])
        surface = np.vstack([row if i % 2 == 0 else row[::-1] for i in range(down)])[:size, :size].copy()
    else:
        surface = _drawn_surface(size, rng)
    for _ in range(int(rng.integers(0, 6))):
        _clutter(surface, rng)
    return surface


def _drawn_surface(size: int, rng: np.random.Generator) -> Pixels:
    base = rng.uniform(40, 225, 3)
    ramp = np.linspace(-1, 1, size, dtype=np.float32)
    slope = ramp[:, None] * rng.uniform(-40, 40) + ramp[None] * rng.uniform(-40, 40)
    grain = cv2.resize(rng.normal(0, 1, (size // 8, size // 8)).astype(np.float32), (size, size)) * rng.uniform(2, 22)
    surface = base + slope[..., None] + grain[..., None]
    if rng.random() < 0.4:  # boards, tiles, stripes
        period, depth = int(rng.integers(12, 80)), rng.uniform(10, 45)
        stripes = ((np.arange(size) // period) % 2) * depth
        surface += (stripes[:, None] if rng.random() < 0.5 else stripes[None])[..., None]
    return np.clip(surface, 0, 255).astype(np.uint8)


def _clutter(surface: Pixels, rng: np.random.Generator) -> None:
    colour = tuple(int(v) for v in rng.integers(0, 256, 3))
    x, y = (int(v) for v in rng.integers(-40, surface.shape[0] + 40, 2))
    w, h = (int(v) for v in rng.integers(10, 160, 2))
    kind = rng.integers(0, 3)
    if kind == 0:
        cv2.rectangle(surface, (x, y), (x + w, y + h), colour, -1, cv2.LINE_AA)
    elif kind == 1:
        cv2.ellipse(surface, (x, y), (w // 2, h // 2), float(rng.uniform(0, 180)), 0, 360, colour, -1, cv2.LINE_AA)
    else:
        cv2.line(surface, (x, y), (x + 2 * w - 160, y + 2 * h - 160), colour, int(rng.integers(2, 18)), cv2.LINE_AA)


def _relit(rgba: Pixels, rng: np.random.Generator) -> Pixels:
    """Light on the garment alone: gain, gamma, colour temperature, a fold-like shading."""
    rgb = rgba[..., :3].astype(np.float32) / 255
    rgb = np.power(rgb, rng.uniform(0.75, 1.35)) * rng.uniform(0.72, 1.2)
    warmth = rng.normal(0, 0.05)
    rgb *= np.array([1 + warmth, 1 + rng.normal(0, 0.015), 1 - warmth], np.float32)
    shade = cv2.resize(rng.normal(0, 1, (4, 4)).astype(np.float32), rgba.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    rgb *= 1 + rng.uniform(0, 0.12) * shade[..., None]
    return np.dstack([np.clip(rgb * 255, 0, 255).astype(np.uint8), rgba[..., 3]])


def _warp(rgba: Pixels, size: tuple[int, int], pad: tuple[int, int], setup: Setup, rng: np.random.Generator) -> Pixels:
    """The garment placed in the padded scene: turned, scaled, in perspective, bent."""
    height, width = size
    h, w = rgba.shape[:2]
    fill = rng.uniform(0.62, 0.95)
    scale = fill * min(height / h, width / w)
    if setup is Setup.HARD_CROPPING:
        scale *= rng.uniform(1.05, 1.45)
    turned = rng.uniform(0.5, 0.72) if setup is Setup.HARD_VIEW else rng.uniform(0.88, 1.0)
    half_w, half_h = w * scale * turned / 2, h * scale * rng.uniform(0.92, 1.06) / 2
    corners = np.array([[-half_w, -half_h], [half_w, -half_h], [half_w, half_h], [-half_w, half_h]])
    if setup is Setup.HARD_VIEW:  # the far side is smaller, as seen from the side
        far = rng.uniform(0.55, 0.8)
        side = [1, 2] if rng.random() < 0.5 else [0, 3]
        corners[side, 1] *= far
    corners += rng.normal(0, 0.025, (4, 2)) * (half_w + half_h)
    angle = np.deg2rad(rng.normal(0, 9))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    room = np.maximum([width / 2 - half_w, height / 2 - half_h], 0) * 0.8
    centre = np.array([pad[1] + width / 2, pad[0] + height / 2]) + rng.uniform(-1, 1, 2) * room
    target = (corners @ turn.T + centre).astype(np.float32)
    source = np.array([[0, 0], [w, 0], [w, h], [0, h]], np.float32)
    back = cv2.getPerspectiveTransform(target, source)  # scene to cutout
    scene_h, scene_w = height + 2 * pad[0], width + 2 * pad[1]
    xs, ys = np.meshgrid(np.arange(scene_w, dtype=np.float32), np.arange(scene_h, dtype=np.float32))
    bend = rng.uniform(0.0, 0.035) * (half_w + half_h)
    for axis in (xs, ys):
        axis += bend * cv2.resize(rng.normal(0, 1, (5, 5)).astype(np.float32), (scene_w, scene_h), interpolation=3)
    depth = back[2, 0] * xs + back[2, 1] * ys + back[2, 2]
    map_x = ((back[0, 0] * xs + back[0, 1] * ys + back[0, 2]) / depth).astype(np.float32)
    map_y = ((back[1, 0] * xs + back[1, 1] * ys + back[1, 2]) / depth).astype(np.float32)
    if scale < 0.7:  # against aliasing when the garment shrinks
        rgba = cv2.GaussianBlur(rgba, (0, 0), 0.35 / scale)
    warped = cv2.remap(rgba, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    if setup is Setup.HARD_VIEW:
        ramp = np.linspace(1, rng.uniform(0.55, 0.85), scene_w, dtype=np.float32)
        ramp = ramp if rng.random() < 0.5 else ramp[::-1]
        warped[..., :3] = (warped[..., :3] * ramp[None, :, None]).astype(np.uint8)
    return np.asarray(warped)


def _window(
    alpha: Pixels, size: tuple[int, int], pad: tuple[int, int], setup: Setup, rng: np.random.Generator
) -> tuple[int, int]:
    """Upper left corner of the picture in the scene: moved until the crop is what the setup says."""
    height, width = size
    table = cv2.integral(alpha.astype(np.float32))
    whole = table[-1, -1] or 1.0

    def lost(y: int, x: int) -> float:
        inside = table[y + height, x + width] - table[y, x + width] - table[y + height, x] + table[y, x]
        return float(1 - inside / whole)

    low, high = (HARD_FRACTION + 0.02, MOST_LOST) if setup is Setup.HARD_CROPPING else (-1.0, EASY_LOST)
    best, best_miss = (pad[0], pad[1]), np.inf
    reach = 1.0 if setup is Setup.HARD_CROPPING else 0.12
    for _ in range(40):
        y = int(np.clip(pad[0] + rng.uniform(-reach, reach) * pad[0], 0, 2 * pad[0]))
        x = int(np.clip(pad[1] + rng.uniform(-reach, reach) * pad[1], 0, 2 * pad[1]))
        share = lost(y, x)
        miss = max(low - share, share - high, 0.0)
        if miss < best_miss:
            best, best_miss = (y, x), miss
        if miss == 0:
            break
    return best


def _fit(background: Pixels, height: int, width: int, rng: np.random.Generator) -> Pixels:
    h, w = background.shape[:2]
    zoom = max(height / h, width / w) * rng.uniform(1.0, 1.4)
    scaled = cv2.resize(background, (max(width, int(w * zoom)), max(height, int(h * zoom))))
    y, x = rng.integers(0, scaled.shape[0] - height + 1), rng.integers(0, scaled.shape[1] - width + 1)
    part = scaled[y : y + height, x : x + width]
    return np.ascontiguousarray(part[:, ::-1] if rng.random() < 0.5 else part)


def _shadow(picture: Pixels, alpha: Pixels, rng: np.random.Generator) -> Pixels:
    dy, dx = (int(v) for v in rng.integers(-8, 9, 2))
    soft = cv2.GaussianBlur(np.roll(alpha, (dy, dx), (0, 1)), (0, 0), rng.uniform(3, 10)).astype(np.float32) / 255
    return (picture * (1 - rng.uniform(0.1, 0.5) * soft[..., None])).astype(np.uint8)


def _over(picture: Pixels, layer: Pixels) -> Pixels:
    share = layer[..., 3:].astype(np.uint16)
    return ((layer[..., :3] * share + picture * (255 - share)) // 255).astype(np.uint8)


def _cover(alpha: Pixels, setup: Setup, rng: np.random.Generator, others: Sequence[Cutout]) -> Pixels:
    """What stands in front: (H, W, 4) RGBA; nothing much, unless occlusion is what makes it hard."""
    height, width = alpha.shape
    cover = np.zeros((height, width, 4), np.uint8)
    hard = setup is Setup.HARD_OCCLUSION
    if not hard and rng.random() < 0.6:
        return cover
    area = float(alpha.sum(dtype=np.float64)) or 1.0
    x, y, w, h = cv2.boundingRect((alpha > 127).astype(np.uint8))
    low, high = (HARD_FRACTION + 0.02, MOST_LOST) if hard else (0.0, EASY_LOST)
    for _ in range(30):
        before = cover.copy()
        centre = (x + rng.uniform(0.1, 0.9) * w, y + rng.uniform(0.1, 0.9) * h)
        reach = rng.uniform(0.25, 0.6) if hard else rng.uniform(0.05, 0.25)
        if others and rng.random() < 0.5:
            _put_garment(cover, others[int(rng.integers(len(others)))], centre, reach * max(w, h), rng)
        else:
            _put_shape(cover, centre, reach * max(w, h), rng)
        share = float((alpha * (cover[..., 3] / 255.0)).sum()) / area
        if share > high:
            cover = before
        elif share >= low:
            break
    return cover


def _put_garment(
    cover: Pixels, other: Cutout, centre: tuple[float, float], size: float, rng: np.random.Generator
) -> None:
    h, w = other.rgba.shape[:2]
    scale = 1.3 * size / max(h, w)
    matrix = cv2.getRotationMatrix2D((w / 2, h / 2), float(rng.uniform(-60, 60)), scale)
    matrix[:, 2] += np.array(centre) - (w / 2, h / 2)
    layer = cv2.warpAffine(other.rgba, matrix, (cover.shape[1], cover.shape[0]), flags=cv2.INTER_LINEAR)
    on = layer[..., 3] > 127
    cover[on] = layer[on]
    cover[on, 3] = 255


def _put_shape(cover: Pixels, centre: tuple[float, float], size: float, rng: np.random.Generator) -> None:
    """An arm, a phone, a bag, a bar: an ellipse, a box or a thick line, with a lighter edge."""
    skin = [(224, 172, 138), (198, 134, 96), (141, 85, 54), (255, 214, 186), (92, 58, 40)]
    kind = rng.integers(0, 4)
    colour = skin[int(rng.integers(len(skin)))] if kind == 0 else tuple(int(v) for v in rng.integers(0, 256, 3))
    at, angle = (int(centre[0]), int(centre[1])), float(rng.uniform(0, 180))
    if kind == 0:  # an arm or a leg
        along = np.array([np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))]) * size * 1.4
        start, end = np.array(centre) - along, np.array(centre) + along
        width = max(4, int(size * rng.uniform(0.25, 0.45)))
        cv2.line(cover, start.astype(int).tolist(), end.astype(int).tolist(), (*colour, 255), width, cv2.LINE_8)
    elif kind == 1:
        cv2.ellipse(cover, at, (int(size * 0.6), int(size * rng.uniform(0.3, 0.6))), angle, 0, 360, (*colour, 255), -1)
    else:
        corners = cv2.boxPoints((centre, (size, size * float(rng.uniform(0.4, 1.2))), angle)).astype(np.int32)
        cv2.fillPoly(cover, [corners], (*colour, 255))
        cv2.polylines(cover, [corners], True, (*(min(255, c + 40) for c in colour), 255), max(1, int(size / 30)))


def _camera(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """What the phone adds: white balance, exposure, blur, noise, JPEG."""
    values = picture.astype(np.float32) * (rng.uniform(0.8, 1.18) * (1 + rng.normal(0, 0.035, 3))).astype(np.float32)
    values = np.clip((values - 127) * rng.uniform(0.85, 1.15) + 127 + rng.normal(0, 6), 0, 255)
    if rng.random() < 0.5:
        values = cv2.GaussianBlur(values, (0, 0), rng.uniform(0.3, 1.3))
    if rng.random() < 0.6:
        grain = rng.integers(-128, 128, values.shape, dtype=np.int8).astype(np.float32)
        values += grain * (rng.uniform(0.01, 0.09))
    shot = np.clip(values, 0, 255).astype(np.uint8)
    _, encoded = cv2.imencode(".jpg", shot[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(45, 95))])
    return np.ascontiguousarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR)[..., ::-1])


def _box(visible: NDArray[np.bool_], width: int, height: int) -> Box:
    if not visible.any():
        return Box(0, 0, width, height)
    x, y, w, h = cv2.boundingRect(visible.astype(np.uint8))
    return Box(x, y, x + w, y + h)
