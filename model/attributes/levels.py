"""The two maps of a backbone that attributes are read from, side by side on the grid of the later one.

Letters  B photos, S image side, Ca, Cb channels of the earlier and the later stage, h x w the later one's map
Paper    AG-MAN: a' = conv1x1(maxpool3x3, stride 2 (a)), m = b + a'; the pooling stands here, what learns in `network`
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from threadmatch.model.backbone import Backbone
from threadmatch.model.errors import ConfigError


def levels_of(early: Tensor, late: Tensor) -> Tensor:
    """Bring both maps to the later one's grid.

    Args:
        early: (B, Ca, H, W), a.
        late: (B, Cb, h, w), b; H = h, or H = 2 h and W = 2 w (h rounded up).

    Returns:
        (B, Cb + Ca, h, w): b, and a, max-pooled 3x3 with stride 2 where it is finer.

    Raises:
        ConfigError: the grids fit in neither way.
    """
    if early.shape[2:] != late.shape[2:]:
        early = F.max_pool2d(early, 3, stride=2, padding=1)
    if early.shape[2:] != late.shape[2:]:
        raise ConfigError(
            f"the earlier stage's map is {tuple(early.shape[2:])} when pooled, the later one's {tuple(late.shape[2:])};"
            " choose stages of which one is as fine as the other, or twice as fine"
        )
    return torch.cat([late, early], dim=1)


class Levels(nn.Module):
    """Photos to both maps: what is frozen in the form that ships, and computed once for training.

    Args:
        backbone: that is read; its stages are shared, not copied.
        early, late: stages, counted from 0 as in `Backbone.split`.

    Fields:
        channels: Ca and Cb.
        label: which stages of how many, for a cache's key.

    Raises:
        ConfigError: the backbone has no such stages, or nothing would be left behind `late`.
    """

    def __init__(self, backbone: Backbone, *, early: int, late: int) -> None:
        super().__init__()
        own = backbone.stages()
        if not 0 <= early < late < len(own):
            raise ConfigError(f"stages {early} and {late} are asked for, this backbone has 0 to {len(own) - 1}")
        self.front, _ = backbone.split(0)
        self.until_early = nn.Sequential(*own[: early + 1])
        self.until_late = nn.Sequential(*own[early + 1 : late + 1])
        self.rest = nn.Sequential(*own[late + 1 :])
        channels = backbone.stage_channels()
        self.channels = (channels[early], channels[late])
        self.label = f"levels {early} and {late} of {len(own)}"

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) values 0..255, uint8 or float -> (B, Cb + Ca, h, w)."""
        early = self.until_early(self.front(pixels))
        return levels_of(early, self.until_late(early))
