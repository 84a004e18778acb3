"""Dense matching: every cell of the photo's map with its best cell of the item's.

Letters  B pairs, P cells of the photo's map, Q of the item's (49 and 49 in what ships), K numbers a cell
Paper    Kuang et al., ICCV 2019, Eq. 2 and 3, with the grid as fine as the map is
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from threadmatch.model.features import CELLS
from threadmatch.model.region_matchers import FeatureMatcher

DENSE_CHUNK_PAIRS = 256


def dense_similarity(query: Tensor, items: Tensor) -> Tensor:
    """Each cell of the photo with its best partner of the item, as a mean.

        s = 1/P sum_i max_j x_i . y_j

    Args:
        query: (B or 1, P, K) unit vectors x, float.
        items: (B, Q, K) unit vectors y, float.

    Returns:
        (B,) in -1..1.
    """
    b, cells, channels = items.shape
    if len(query) == 1:  # one photo against many items is one matrix product
        products = items.reshape(b * cells, channels) @ query[0].T  # (B * Q, P)
        return products.view(b, cells, -1).amax(dim=1).mean(dim=1)
    return (items @ query.transpose(1, 2)).amax(dim=1).mean(dim=1)


def dense_similarity_across(queries: Tensor, items: Tensor) -> Tensor:
    """`dense_similarity` of every photo with every item.

    Args:
        queries: (q, P, K), any length; made unit length here, so that a loss may read them as they come.
        items: (n, Q, K).

    Returns:
        (q, n) in -1..1.
    """
    (q, p, _), (n, cells, _) = queries.shape, items.shape
    photo, shown = F.normalize(queries, dim=-1).flatten(0, 1), F.normalize(items, dim=-1).flatten(0, 1)
    return (photo @ shown.T).view(q, p, n, cells).amax(dim=3).mean(dim=1)


class DenseMatcher(FeatureMatcher):
    """Mean cosine of each cell's best partner, -1..1, straight from the cells that a gallery keeps."""

    def __init__(self, *, device: str = "cpu") -> None:
        super().__init__("dense", CELLS, dense_similarity, device=device, chunk_pairs=DENSE_CHUNK_PAIRS)
