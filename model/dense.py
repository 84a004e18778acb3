"""Dense matching: every cell of the photo's map with its best cell of the item's.

Letters  B pairs, P cells of the photo's map, Q of the item's (49 and 49 in what ships), K numbers a cell
Paper    Kuang et al., ICCV 2019, Eq. 2 and 3, with the grid as fine as the map is
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from threadmatch.model.cell_evidence import heat_of, heaviest, partners_of
from threadmatch.model.coded import Coded, Stored
from threadmatch.model.explain import Explanation
from threadmatch.model.features import CELLS
from threadmatch.model.matching import Items, Photo
from threadmatch.model.pyramid import region_boxes
from threadmatch.model.region_matchers import FeatureMatcher, tensor

DENSE_CHUNK_PAIRS = 256
FULL: Final = 127
"""Largest whole number of one byte that has its opposite."""
MOST_CHANNELS: Final = 512
"""Numbers a cell whose products still add up in 32 bits: FULL * (2 FULL + 1) * FULL each."""
ROWS_AT_ONCE: Final = 16
"""Numbers of one vector register: with a photo's rows filled up to a multiple of it, the product takes a third less."""
COLUMNS_AT_ONCE: Final = 64
"""Columns whose largest numbers torch finds together; what is left over it takes one by one, six times as long."""
TINIEST: Final = 1e-30
"""In place of a vector's largest number where all are zero."""


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


def dense_similarity_coded(query: Tensor, items: Coded, *, in_bytes: bool) -> Tensor:
    """`dense_similarity` of one photo, straight from the whole numbers that a gallery keeps.

        y_j = t_j c_j,  x_i . y_j = t_j (x_i . c_j)     c whole numbers of one byte

    The items a few at a time, from taking the numbers apart to the maximum, so that a core has them near.

    Args:
        query: (P, K) x, float32.
        items: (B, Q, K) c, and (B, Q) t, float32, 0 or more.
        in_bytes: whether to multiply bytes (`_ProductOfBytes`), for K at most MOST_CHANNELS; else c become floats.

    Returns:
        (B,).
    """
    (count, cells, channels), photo_cells = items.shape, len(query)
    kind = _ProductOfBytes if in_bytes else _ProductOfFloats
    width, some = _filled_up(photo_cells, COLUMNS_AT_ONCE), min(count, kind.near_items)  # P" >= P
    product = kind(query, some * cells, width)
    codes = np.empty((some, cells, channels), np.int8)
    scales, closest = tensor(items.scales).reshape(-1, 1), torch.empty(count, width)
    for first in range(0, count, some):
        last = min(first + some, count)
        items.codes_of(first, last, out=codes[: last - first])
        found = product(torch.from_numpy(codes[: last - first].reshape(-1, channels)))  # (B' * Q, P")
        found *= scales[first * cells : last * cells]
        torch.amax(found.view(-1, cells, width), dim=1, out=closest[first:last])  # (B', P")
    # Each row's scale is above 0, so it may come behind the maximum.
    return closest[:, :photo_cells] @ product.scales / photo_cells


class _ProductOfFloats:
    """x_i . c_j of a photo's cells with many others', for processors that multiply floats best.

    Args:
        query: (P, K) x, float32.
        rows: most rows asked for at a time, R.
        width: P" >= P, columns of what is found.

    Attributes:
        near_items: how many items' numbers and products a core keeps near until they are read again (3 MB; fewer at
            a time leave two threads too little).
        scales: (P,) what is found is to be multiplied by.
    """

    near_items = 50

    def __init__(self, query: Tensor, rows: int, width: int) -> None:
        self.scales = torch.ones(len(query))
        self._photo = torch.zeros(query.shape[1], width)
        self._photo[:, : len(query)] = query.T
        self._floats, self._found = torch.empty(rows, query.shape[1]), torch.empty(rows, width)

    def __call__(self, codes: Tensor) -> Tensor:
        """(R', K) int8 -> (R', P") float32, overwritten by the next call."""
        rows = len(codes)
        return torch.mm(self._floats[:rows].copy_(codes), self._photo, out=self._found[:rows])


class _ProductOfBytes:
    """The same for processors that multiply bytes several times as fast.

        x_i = h_i (a_i + b_i / 2F)      a, b whole numbers of one byte; F = 127
        x_i . c_j = h_i / 2F (2F a_i . c_j + b_i . c_j)

    The photo's numbers in two bytes each, so that what they lose is far below a difference between two items.

    Args:
        query, rows, width: see `_ProductOfFloats`; K at most MOST_CHANNELS.

    Attributes:
        near_items: likewise (1.6 MB).
        scales: (P,) h / 2F.
    """

    near_items = 25

    def __init__(self, query: Tensor, rows: int, width: int) -> None:
        photo_cells, channels = query.shape
        assert channels <= MOST_CHANNELS, "beyond it, 32 bits would not hold the sums"
        widths = query.abs().amax(dim=1).clamp(min=TINIEST) / FULL  # (P,) h
        steps = query / widths[:, None]
        coarse = steps.round()
        self.scales = widths / (2 * FULL)
        self._half = half = _filled_up(photo_cells, ROWS_AT_ONCE // 2)  # P' >= P
        self._both = torch.zeros(2 * half, channels, dtype=torch.int8)
        self._both[:photo_cells] = coarse  # a
        self._both[half : half + photo_cells] = ((steps - coarse) * (2 * FULL)).round()  # b
        self._products = torch.empty(rows, 2 * half, dtype=torch.int32)
        self._sums, self._found = torch.zeros(rows, width, dtype=torch.int32), torch.empty(rows, width)

    def __call__(self, codes: Tensor) -> Tensor:
        """(R', K) int8 -> (R', P") float32, overwritten by the next call."""
        rows, half = len(codes), self._half
        products, sums = self._products[:rows], self._sums[:rows]
        torch._int_mm(codes, self._both.T, out=products)  # (R', 2 P'), exact
        torch.add(products[:, half:], products[:, :half], alpha=2 * FULL, out=sums[:, :half])
        return self._found[:rows].copy_(sums)  # by itself: whole numbers times floats take torch six times as long


def _filled_up(count: int, at_once: int) -> int:
    """The multiple of `at_once` that holds so many."""
    return -(-count // at_once) * at_once


def multiplies_bytes() -> bool:
    """Whether this processor and this torch multiply bytes faster than floats, and exactly.

    Without VNNI (a processor's instruction that adds up products of bytes in 32 bits) sums are cut off at 16.
    """
    ask = getattr(torch.cpu, "get_capabilities", None)
    return hasattr(torch, "_int_mm") and ask is not None and bool(ask().get("avx512_vnni"))


class CellEngine(Protocol):
    """Computes `dense_similarity` of many pairs elsewhere than in torch."""

    def score_many(self, photos: Sequence[Tensor], items: Sequence[Stored]) -> list[Tensor]:
        """(P, K) float32 each, and (n, Q, K) as a gallery keeps them, n may be 0 -> (n,) float32 on the CPU each."""
        ...


class DenseMatcher(FeatureMatcher):
    """Mean cosine of each cell's best partner, -1..1, straight from the cells that a gallery keeps.

    Args:
        grid: tells rows and columns of the cells; asked for when something is to be explained.
        device: "cpu" or "cuda".
        calibrated: see `Matcher`.
        in_bytes: whether to multiply what is coded as bytes, on a CPU; None where it can.
        engine: what computes in place of torch; None for torch.
    """

    explains = True

    def __init__(
        self,
        grid: Callable[[], tuple[int, int]],
        *,
        device: str = "cpu",
        calibrated: bool = False,
        in_bytes: bool | None = None,
        engine: CellEngine | None = None,
    ) -> None:
        super().__init__(
            "dense", CELLS, dense_similarity, device=device, chunk_pairs=DENSE_CHUNK_PAIRS, calibrated=calibrated
        )
        self._ask_grid = grid
        can = multiplies_bytes()
        self._in_bytes = can if in_bytes is None else in_bytes and can
        self._engine = engine

    @torch.inference_mode()
    def score_many(self, queries: Sequence[Photo], candidates: Sequence[Items]) -> list[NDArray[np.float32]]:
        """See `Matcher.score_many`."""
        items = [each[CELLS] for each in candidates]
        if self._engine is not None:
            photos = [tensor(query[CELLS]).float() for query in queries]
            return [scores.numpy() for scores in self._engine.score_many(photos, items)]
        coded = [each for each in items if isinstance(each, Coded) and len(each)]
        if self._device.type != "cpu" or len(coded) < len(items):
            return super().score_many(queries, candidates)
        return [self._coded(tensor(query[CELLS]).float(), each) for query, each in zip(queries, coded, strict=True)]

    @functools.cached_property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the cells."""
        return self._ask_grid()

    def region_boxes(self) -> NDArray[np.float32]:
        """(P, 4) x0, y0, x1, y1 of each cell in 0..1 of the crop."""
        boxes: NDArray[np.float32] = region_boxes([self.grid], *self.grid).numpy()
        return boxes

    @torch.inference_mode()
    def evidence(self, query: Photo, candidates: Items, *, top: int = 5) -> list[Explanation]:
        """The cells with the closest partners; what all cells contribute adds up to the score."""
        said, partners = self._said(query, candidates)
        found = [heaviest(own, at, grid=self.grid, top=top) for own, at in zip(said, partners, strict=True)]
        return [Explanation(before=one, after=one) for one in found]

    @torch.inference_mode()
    def heat(self, query: Photo, candidates: Items) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """How much closer than the farthest each cell's partner is, of the photo and of the item: (N, h, w) twice."""
        of_photo, of_item = heat_of(*self._said(query, candidates), grid=self.grid)
        return of_photo.numpy(), of_item.numpy()

    def _said(self, query: Photo, candidates: Items) -> tuple[Tensor, Tensor]:
        """(N, P) parts of the scores, and the partners."""
        photo, items = tensor(query[CELLS]).float(), tensor(candidates[CELLS]).float()
        if not len(items):
            return torch.empty(0, len(photo)), torch.empty(0, len(photo), dtype=torch.int64)
        closest = (items @ photo.T).amax(dim=1)  # (N, P)
        return closest / len(photo), partners_of(photo, items)

    def _coded(self, photo: Tensor, items: Coded) -> NDArray[np.float32]:
        """(N,)."""
        in_bytes = self._in_bytes and items.shape[2] <= MOST_CHANNELS
        return dense_similarity_coded(photo, items, in_bytes=in_bytes).numpy()
