"""GRNet as a matcher: the fast form scores, the literal form explains.

Letters  R regions, C channels, N items, S image side, h x w the feature map
Paper    Kuang et al., ICCV 2019, sec. 3.2 (scores), sec. 5.3 (explanations)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from threadmatch.model.encoding import photo_tensor
from threadmatch.model.explain import Explanation, Side, explain, grad_cam, region_heat
from threadmatch.model.features import REGIONS
from threadmatch.model.gpu.choosing import pair_scorer
from threadmatch.model.grnet import GRNet
from threadmatch.model.matching import Items, Photo
from threadmatch.model.pyramid import region_boxes
from threadmatch.model.region_matchers import tensor


class GRNetMatcher:
    """Scores by graph reasoning: logits of "same garment".

    Args:
        network: trained, in evaluation mode, on the device; shared, not copied.
        device: "cpu" or "cuda".
    """

    name = "grnet"
    needs = frozenset({REGIONS})
    calibrated = True
    explains = True
    pointwise = True
    cost = 1.0

    def __init__(self, network: GRNet, *, device: str = "cpu") -> None:
        self._network, self._device = network, device
        self._engine = pair_scorer(network.head, device)
        rows, columns = network.map_grid()
        self._boxes = region_boxes(network.config.grids, rows, columns).numpy()
        self._cells = torch.from_numpy(np.rint(self._boxes * (columns, rows, columns, rows)).astype(np.int64))

    def score_many(self, queries: Sequence[Photo], candidates: Sequence[Items]) -> list[NDArray[np.float32]]:
        """See `Matcher.score_many`."""
        scored = self._engine.score_many(
            [tensor(query[REGIONS]) for query in queries], [tensor(each[REGIONS]) for each in candidates]
        )
        return [scores.numpy() for scores in scored]

    def region_boxes(self) -> NDArray[np.float32]:
        """(R, 4) x0, y0, x1, y1 of each region in 0..1 of the crop."""
        return self._boxes

    @torch.inference_mode()
    def evidence(self, query: Photo, candidates: Items, *, top: int = 5) -> list[Explanation]:
        """The region pairs that decided each score; see `model.explain`. A few items: this runs the literal form."""
        if not len(candidates[REGIONS]):
            return []
        return explain(self._network.head, *self._pair(query, candidates), top=top)

    @torch.inference_mode()
    def heat(self, query: Photo, candidates: Items) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Where the two photos of each pair speak for the match: (N, h, w) twice. A few items, as for `evidence`."""
        of_query, of_item = region_heat(self._network.head, *self._pair(query, candidates), self._cells)
        return of_query.cpu().numpy(), of_item.cpu().numpy()

    def grad_cam(self, pixels: NDArray[np.uint8], other: Photo, *, side: Side) -> NDArray[np.float32]:
        """Grad-CAM of the score on the last feature map, (h, w), 0 or more.

        Args:
            pixels: (S, S, 3) uint8 RGB of the photo to paint, from `images.prepare_image`.
            other: features of the other photo.
            side: which of the two `pixels` is.

        Raises:
            ValueError: pixels of another shape or type.
        """
        images = photo_tensor(pixels[None], self._network.config.image_px, self._device).permute(0, 3, 1, 2)
        regions = tensor(other[REGIONS]).to(self._device, torch.float32)[None]
        return grad_cam(self._network, images, regions, side)[0].float().cpu().numpy()

    def _pair(self, query: Photo, candidates: Items) -> tuple[Tensor, Tensor]:
        """(R, C), (N, R, C) -> (N, R, C) twice, float32 on the device."""
        gallery = tensor(candidates[REGIONS]).to(self._device, torch.float32)
        return tensor(query[REGIONS]).to(self._device, torch.float32)[None].expand(len(gallery), -1, -1), gallery
