"""Whether two photos are one photo: saved again, resized, or cropped by a few per cent. A recolour of it is not.

Both are laid over each other first (an affine map that is blind to brightness), then compared as colours:

    tint    largest distance between local means, in Lab: a garment in another colour, however pale
    spot    largest distance in a small spot against the distance that most of the photo has: a logo, a collar, a
            button; saving again disturbs a photo everywhere a little, another part disturbs one place much

docs/results.md, "Near-duplicates", has the distances that were measured and the errors at these thresholds.

Letters  S side of the square both are resized to, G cells a side of what is kept of it
"""

from __future__ import annotations

import io

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE_PX = 160  # S
MAX_TINT = 4.5
MAX_SPOT_RATIO = 4.5
CELLS = 8  # G
MAX_ROUGH = 8.0  # mean distance of the cells before any alignment; beyond, no alignment is tried
_TINT_PX, _SPOT_PX = SIDE_PX // 10, 5
_MARGIN_PX = SIDE_PX // 16  # what a crop has cut off, or an alignment has no pixels for
_NOISE = 0.5  # keeps the ratio of two all but equal photos finite
_ALIGNMENT = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 1e-4)

Lab = NDArray[np.float32]


def lab_square(photo: bytes, area: tuple[float, float, float, float] = (0, 0, 1, 1)) -> Lab:
    """A photo as (S, S, 3) float32 in CIE Lab, squashed.

    Args:
        photo: a display photo, as `model.images.display_photo` makes it.
        area: x0, y0, x1, y1 of the part to take, in 0..1.

    Raises:
        OSError: the bytes are no image.
    """
    with Image.open(io.BytesIO(photo)) as picture:
        picture.draft("RGB", (2 * SIDE_PX, 2 * SIDE_PX))
        rgb = picture.convert("RGB")
    x0, y0, x1, y1 = area
    box = (x0 * rgb.width, y0 * rgb.height, x1 * rgb.width, y1 * rgb.height)
    square = np.asarray(rgb.resize((SIDE_PX, SIDE_PX), Image.Resampling.BOX, box=box), np.float32) / 255
    return np.asarray(cv2.cvtColor(square, cv2.COLOR_RGB2Lab), np.float32)


def cells_of(square: Lab) -> Lab:
    """(G, G, 3) mean colours of a square's cells: enough to tell most photos apart (`roughness`)."""
    return np.asarray(cv2.resize(square, (CELLS, CELLS), interpolation=cv2.INTER_AREA), np.float32)


def roughness(cells: Lab, others: Lab) -> NDArray[np.float32]:
    """How far photos are from one, by their cells; beyond MAX_ROUGH they are not the same.

    Args:
        cells: (G, G, 3) of one.
        others: (n, G, G, 3).

    Returns:
        (n,) mean distances in Lab.
    """
    return np.asarray(_lengths(others - cells).mean(axis=(1, 2)), np.float32)


def is_same_photo(first: Lab, second: Lab) -> bool:
    """Whether two of `lab_square` show one photo."""
    if float(_lengths(cells_of(first - second)).mean()) > MAX_ROUGH:
        return False
    aligned = _laid_over(first, second)
    if aligned is None:
        return False
    gap = first - aligned
    if float(_local(gap, _TINT_PX).max()) > MAX_TINT:
        return False
    spots = _local(gap, _SPOT_PX)
    return bool(spots.max() <= MAX_SPOT_RATIO * (np.percentile(spots, 90) + _NOISE))


def _laid_over(first: Lab, second: Lab) -> Lab | None:
    """The second, moved over the first; None where the two have nothing in common to go by."""
    try:
        _, move = cv2.findTransformECC(
            first[..., 0], second[..., 0], np.eye(2, 3, dtype=np.float32), cv2.MOTION_AFFINE, _ALIGNMENT
        )
    except cv2.error:  # it did not converge, or one photo is of one colour
        return second if float(np.ptp(first[..., 0])) < 1 and float(np.ptp(second[..., 0])) < 1 else None
    moved = cv2.warpAffine(
        second,
        move,
        (SIDE_PX, SIDE_PX),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(moved, np.float32)


def _lengths(gap: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(np.sqrt((gap * gap).sum(axis=-1)), np.float32)


def _local(gap: Lab, side_px: int) -> NDArray[np.float32]:
    """Lengths of the local means of a gap, without the margin."""
    means = np.asarray(cv2.blur(gap, (side_px, side_px)), np.float32)
    return _lengths(means)[_MARGIN_PX:-_MARGIN_PX, _MARGIN_PX:-_MARGIN_PX]
