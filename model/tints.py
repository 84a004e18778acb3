"""The mean colour of each cell's place in a photo: what tells colours of one cut apart where cells hardly do.

Letters  B photos, S image side, P = h x w cells
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from threadmatch.model.pyramid import averaged_to

SMALLEST: Final = 216 / 24389
"""Of a share of the white: below it L* is linear (CIE 15)."""
_TO_XYZ: Final = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
"""Of linear sRGB; the rows' sums are the white D65."""


def tints_of(images: Tensor, grid: tuple[int, int]) -> Tensor:
    """L*, a* and b* of the mean colour at each cell: sRGB by IEC 61966-2-1, L*a*b* by CIE 15, white D65.

    By tensors alone, not by OpenCV, since every engine that encodes computes it with the network's features.

    Args:
        images: (B, 3, S, S) sRGB values 0..255.
        grid: h and w.

    Returns:
        (B, 3, P) float32, cells row by row: L* in 0..100, a* and b* in about -110..110.
    """
    red_green_blue = averaged_to(images.float(), grid).flatten(2) / 255  # (B, 3, P)
    low = red_green_blue / 12.92
    linear = torch.where(red_green_blue <= 0.04045, low, ((red_green_blue.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4)
    to_xyz = torch.tensor(_TO_XYZ, dtype=linear.dtype, device=linear.device)
    share = (to_xyz / to_xyz.sum(dim=1, keepdim=True)) @ linear  # of the white
    root = torch.where(share > SMALLEST, share.clamp(min=SMALLEST) ** (1 / 3), (24389 / 27 * share + 16) / 116)
    x, y, z = root.unbind(dim=1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)
