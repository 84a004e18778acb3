"""Street queries of drawn garments: worn, hung or laid somewhere, photographed in a hurry.

What is known is exact: the garment is warped as a layer of its own, first onto a canvas without edges, then cut by the
picture, then without what covers it; the fractions are counts of those pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from threadmatch.model.data.setups import HARD_FRACTION, Setup, StreetQuery
from threadmatch.model.images import Box
from threadmatch.model.synthetic.drawn.camera import photograph
from threadmatch.model.synthetic.drawn.covers import COVERS
from threadmatch.model.synthetic.drawn.people import PERSON_BOUNDS, Wearer, draw_wearer, hanger_svg, sample_pose
from threadmatch.model.synthetic.drawn.places import FRAME, LYING_PLACES, STANDING_PLACES
from threadmatch.model.synthetic.drawn.shading import Floats, Pixels, View, lit, lit_plain, rasterise, soft_shadow
from threadmatch.model.synthetic.drawn.viewpoint import Projection, aim, sample_camera
from threadmatch.model.synthetic.garments.dyes import Dice
from threadmatch.model.synthetic.garments.garment import Garment
from threadmatch.model.synthetic.garments.look import Look
from threadmatch.model.synthetic.garments.outlines import Pose, flat_pose, garment_bounds
from threadmatch.model.synthetic.garments.svg import garment_group

_FRAMES: Final = ((360, 480), (360, 480), (330, 480), (384, 480), (420, 420))
_FINER: Final = 1.2  # layers are drawn this much larger than they will be seen, then warped
_MOST_PIXELS: Final = 500_000  # of a layer: what is seen from far aside would be drawn much larger than it is seen
_MOST_GROWN: Final = 30.0
_LEAST_COVERED: Final = HARD_FRACTION + 0.03
_MOST_COVERED: Final = HARD_FRACTION + 0.2
_EASY_COVERED: Final = 0.12
_COARSE: Final = 4  # a cover is grown at this fraction of the resolution and counted at all of it
_STREAM: Final = 17  # keeps these random streams apart from those of `garment`
_SEEN: Final = 0.5  # alpha from which a pixel counts


@dataclass(frozen=True, slots=True)
class StreetScene:
    """A street query with the masks its fractions were counted on.

    Fields:
        query: the picture and its numbers.
        whole: (H', W') bool, the garment as if the picture had no edges.
        frame: (x0, y0) of the picture in `whole`.
        visible: (H, W) bool, the garment's pixels that the picture shows.
        back: seen from behind.
    """

    query: StreetQuery
    whole: NDArray[np.bool_]
    frame: tuple[int, int]
    visible: NDArray[np.bool_]
    back: bool


@dataclass(frozen=True, slots=True)
class _Subject:
    """What is photographed: a garment in a pose, and who or what holds it up."""

    look: Look
    pose: Pose
    back: bool
    worn: bool
    holder: Wearer
    place: str


def draw_street_query(item: Garment, *, setup: Setup, seed: int) -> StreetQuery:
    """Draw a customer's photo of a garment; see `draw_street_scene`."""
    return draw_street_scene(item, setup=setup, seed=seed).query


def draw_street_scene(item: Garment, *, setup: Setup, seed: int) -> StreetScene:
    """Draw a customer's photo of a garment, and the masks behind its numbers.

    Setups: easy shows the front, whole and hardly covered; hard_cropping loses more than `HARD_FRACTION` of it at the
    picture's edges; hard_occlusion has more than that covered; hard_view sees the back (another drawing: no front
    neckline, logo, buttons, zip or front pockets), or the front from far aside, or strongly tilted.

    Args:
        item: the garment.
        setup: what makes it hard.
        seed: 0 or more; the same garment, setup and seed give the same pixels.
    """
    dice = Dice(item.seed, _STREAM, item.index, list(Setup).index(setup), seed)
    size = dice.pick(_FRAMES)
    camera = sample_camera(setup, dice)
    subject = _sample_subject(item.look, dice, back=camera.back, upright=setup is Setup.HARD_VIEW)
    bounds = garment_bounds(subject.look, subject.pose)
    projection = aim(camera, _points(subject, bounds), size=size, dice=dice)
    canvas = _canvas_around(projection, bounds)
    x0, y0 = -canvas[0], -canvas[1]
    unbounded = projection.warp(_garment_layer(subject, bounds, projection, dice), bounds, region=canvas)
    layer = np.ascontiguousarray(unbounded[y0 : y0 + size[1], x0 : x0 + size[0]])
    whole, inside = unbounded[..., 3] >= _SEEN, layer[..., 3] >= _SEEN

    scene = _background(subject.place, size, dice)
    behind = _holder_layer(subject.holder.behind, projection)
    outline = layer[..., 3] if behind is None else np.maximum(layer[..., 3], behind[..., 3])
    scene = _shaded(scene, outline, dice)
    if behind is not None:
        scene = _over(scene, behind)
    scene = _over(scene, layer)
    covers = [cover for cover in [_holder_layer(subject.holder.front, projection)] if cover is not None]
    if setup is Setup.EASY and _covered(inside, covers) > _EASY_COVERED:
        covers = []
    if setup is Setup.HARD_OCCLUSION:
        covers.append(_grown_cover(inside, covers, dice))
    for cover in covers:
        scene = _over(_shaded(scene, cover[..., 3], dice), cover)
    visible = _uncovered(inside, covers)
    query = StreetQuery(
        image=photograph(scene, dice),
        box=_box_of(visible),
        setup=setup,
        cropped_fraction=1 - float(inside.sum()) / float(whole.sum()),
        occluded_fraction=1 - float(visible.sum()) / float(inside.sum()),
    )
    return StreetScene(query, whole, (x0, y0), visible, camera.back)


def _sample_subject(look: Look, dice: Dice, *, back: bool, upright: bool) -> _Subject:
    """Worn by somebody, or hanging, or lying; `upright` and `back` are only seen on people."""
    if back or upright or dice.chance(0.74):
        pose = sample_pose(look, dice)
        place = dice.pick(tuple(STANDING_PLACES.values()))(dice)
        return _Subject(look, pose, back, True, draw_wearer(look, pose, dice=dice, back=back), place)
    lying = dice.chance(0.6)
    places = LYING_PLACES if lying else STANDING_PLACES
    place = dice.pick(tuple(places.values()))(dice)
    holder = Wearer(behind="" if lying else hanger_svg(look), front="")
    return _Subject(look, flat_pose(look), False, False, holder, place)


def _points(subject: _Subject, bounds: View) -> NDArray[np.float64]:
    """(N, 2) places in body units spread evenly over the garment."""
    width = 90
    height = max(round(width * bounds[3] / bounds[2]), 8)
    group = garment_group(subject.look, subject.pose, back=subject.back, worn=subject.worn)
    alpha = rasterise(group, bounds, size=(width, height))[..., 3]
    y, x = np.nonzero(alpha >= 128)
    return np.column_stack([bounds[0] + (x + 0.5) * bounds[2] / width, bounds[1] + (y + 0.5) * bounds[3] / height])


def _canvas_around(projection: Projection, bounds: View) -> tuple[int, int, int, int]:
    """Left, top, width, height in pixels that hold both the picture and the whole garment."""
    x, y, w, h = bounds
    corners = projection.place(np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]], np.float64))
    spare = 0.02 * projection.size[0] + 2  # the cloth's sway
    left, top = (min(0, int(np.floor(v - spare))) for v in corners.min(axis=0))
    right, bottom = (
        max(edge, int(np.ceil(v + spare))) for edge, v in zip(projection.size, corners.max(axis=0), strict=True)
    )
    return left, top, right - left, bottom - top


def _garment_layer(subject: _Subject, bounds: View, projection: Projection, dice: Dice) -> Floats:
    group = garment_group(subject.look, subject.pose, back=subject.back, worn=subject.worn)
    flat = rasterise(group, bounds, size=_layer_size(bounds, projection))
    return _premultiplied(flat, lit(flat, subject.look, pose=subject.pose, view=bounds, dice=dice, back=subject.back))


def _holder_layer(svg: str, projection: Projection) -> Floats | None:
    """(H, W, 4) of what holds the garment or hangs over it, None if nothing does."""
    if not svg:
        return None
    view = projection.window(PERSON_BOUNDS)
    flat = rasterise(svg, view, size=_layer_size(view, projection))
    return projection.warp(_premultiplied(flat, lit_plain(flat)), view, region=(0, 0, *projection.size))


def _layer_size(view: View, projection: Projection) -> tuple[int, int]:
    scale = min(projection.scale * _FINER, (_MOST_PIXELS / (view[2] * view[3])) ** 0.5)
    return max(round(view[2] * scale), 8), max(round(view[3] * scale), 8)


def _premultiplied(flat: Pixels, colors: Pixels) -> Floats:
    """(H, W, 4) float32: lit colours times alpha, and alpha 0..1."""
    alpha = flat[..., 3:].astype(np.float32) / 255
    return np.concatenate(
        [cv2.multiply(colors, cv2.cvtColor(alpha, cv2.COLOR_GRAY2RGB), dtype=cv2.CV_32F), alpha], axis=2
    )


def _background(svg: str, size: tuple[int, int], dice: Dice) -> Floats:
    """The place, a little out of focus."""
    flat = rasterise(svg, (0.0, 0.0, *FRAME), size=size)
    colors = np.ascontiguousarray(flat[..., :3]).astype(np.float32)
    if dice.chance(0.5):
        colors = np.ascontiguousarray(colors[:, ::-1])
    return np.asarray(cv2.GaussianBlur(colors, (0, 0), dice.between(0.5, 3.2)), np.float32)


def _shaded(scene: Floats, alpha: Floats, dice: Dice) -> Floats:
    """Let an outline cast its shadow on what is there."""
    shift = (dice.between(-0.05, 0.05), dice.between(0.005, 0.04))
    shadow = soft_shadow(alpha, shift=shift, softness=dice.between(0.015, 0.04))
    return np.asarray(scene * (1 - np.float32(dice.between(0.2, 0.45)) * shadow)[..., None], np.float32)


def _over(scene: Floats, layer: Floats) -> Floats:
    return np.asarray(scene * (1 - layer[..., 3:]) + layer[..., :3], np.float32)


def _uncovered(inside: NDArray[np.bool_], covers: list[Floats]) -> NDArray[np.bool_]:
    visible = inside.copy()
    for cover in covers:
        visible &= cover[..., 3] < _SEEN
    return visible


def _covered(inside: NDArray[np.bool_], covers: list[Floats]) -> float:
    """Share of the garment's pixels in the picture that covers hide."""
    return 1 - float(_uncovered(inside, covers).sum()) / max(float(inside.sum()), 1.0)


def _grown_cover(inside: NDArray[np.bool_], covers: list[Floats], dice: Dice) -> Floats:
    """Something in front of the garment, grown until it hides as much as it should."""
    height, width = inside.shape
    y, x = np.nonzero(inside)
    spread = (float(x.max() - x.min()), float(y.max() - y.min()))
    at_x = float(x.mean()) + dice.between(-0.22, 0.22) * spread[0]
    at_y = float(y.mean()) + dice.between(-0.12, 0.3) * spread[1]
    svg = dice.pick(tuple(COVERS.values()))(dice)
    target = dice.between(_LEAST_COVERED, _MOST_COVERED)
    least = scale = 0.45 * max(spread) / 150
    coarse_covers = [np.ascontiguousarray(cover[::_COARSE, ::_COARSE]) for cover in covers]
    while True:
        placed = f'<g transform="translate({at_x:.1f} {at_y:.1f})scale({scale:.3f})">{svg}</g>'
        frame = (0.0, 0.0, float(width), float(height))
        small = rasterise(placed, frame, size=(-(-width // _COARSE), -(-height // _COARSE)))
        if (
            _covered(inside[::_COARSE, ::_COARSE], [*coarse_covers, np.asarray(small / np.float32(255), np.float32)])
            >= target
        ):
            flat = rasterise(placed, frame, size=(width, height))
            cover = _premultiplied(flat, lit_plain(flat))
            if _covered(inside, [*covers, cover]) >= _LEAST_COVERED:
                return cover
        scale *= 1.12
        if scale > _MOST_GROWN * least:  # a cover with a gap may have grown past the garment: it never hides enough
            svg, scale = dice.pick(tuple(COVERS.values()))(dice), least


def _box_of(visible: NDArray[np.bool_]) -> Box:
    y, x = np.nonzero(visible)
    return Box(float(x.min()), float(y.min()), float(x.max() + 1), float(y.max() + 1))
