"""The part of a network that fine-tuning trains, and what it makes of the front's maps.

Letters  n images, c channels of a map, h x w the map, E embedding size, R regions, C channels
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from threadmatch.model.data.sides import Sides
from threadmatch.model.dense import dense_similarity_across
from threadmatch.model.evaluate.metrics import first_hit, rates
from threadmatch.model.grnet import GRNet
from threadmatch.model.looked import Looked
from threadmatch.model.neck import HypercolumnNeck, learned_layer
from threadmatch.model.progress import Progress, unheard
from threadmatch.model.pyramid import pool_looked
from threadmatch.model.similarity import greedy_similarity_across
from threadmatch.model.train.inputs.front_maps import MapSet
from threadmatch.model.train.losses import Vectors

ENCODE_BATCH = 64
DENSE_CHUNK = 8
"""Queries whose cells are compared at a time: 49 x 49 cosines an item each."""

ENCODING = "encoding maps"
"""The stage that `progress` hears."""


class _Centred(nn.Module):
    """A linear layer on inputs less their mean: W (x - m) + c, the same map as W x + (c - W m).

    After a ReLU all inputs have a positive mean, so one step of an optimiser that gives every weight the same step
    moves the output by their sum, which is more than the output itself. On centred inputs the steps do not add up.
    """

    mean: Tensor

    def __init__(self, layer: nn.Linear, mean: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(layer.weight.detach().clone())
        self.offset = nn.Parameter((layer.bias + layer.weight @ mean).detach().clone())
        self.register_buffer("mean", mean.clone())

    def forward(self, inputs: Tensor) -> Tensor:
        return F.linear(inputs - self.mean, self.weight, self.offset)

    def write_to(self, layer: nn.Linear) -> None:
        """Give the layer this map."""
        with torch.no_grad():
            layer.weight.copy_(self.weight)
            layer.bias.copy_(self.offset - self.weight @ self.mean)


class TrainedPart(nn.Module):
    """All that is trained, from the front's maps on: the backbone's rest, neck and embedding.

    Args:
        network: with neck and embedding at a good start.
        rest: of its backbone; shared, not copied.
        sample: maps that the means of the features are taken from, (n, c, h, w).
        hypercolumn: whether regions have the earlier maps too, if the network reads some; False: the last one alone.
        cells: whether the cells of the map are made, too.
    """

    def __init__(
        self, network: GRNet, rest: nn.Module, sample: Tensor, *, hypercolumn: bool = True, cells: bool = False
    ) -> None:
        super().__init__()
        self.rest = rest
        self.config = network.config
        self.channels = network.backbone.channels
        self._layout, self._tap_channels = network.backbone.layout, list(network.backbone.tap_channels)
        self.eval()
        with torch.no_grad():
            looked = self._layout.looked(rest(sample))
            pooled, regions = pool_looked(looked, self.config, self.channels)
        mean = regions[..., : self.channels].mean((0, 1))
        self.neck = None if network.neck is None else _Centred(learned_layer(network.neck), mean)
        self.cell_neck: HypercolumnNeck | None = None
        if network.cell_neck is not None:
            self.cell_neck = _learning(network, _cells_of(looked.whole).mean((0, 1)))
            # One layer reads the first network's last map for regions and for cells, as where networks are joined.
            self.neck = self.cell_neck.last  # type: ignore[assignment]  # `_learning` put a _Centred there
        joins = hypercolumn and isinstance(network.neck, HypercolumnNeck)
        self.hypercolumn: HypercolumnNeck | None = copy.deepcopy(network.neck) if joins else None  # type: ignore[assignment]
        self._whole, self._cells = hypercolumn, cells
        self.embedding = None if network.embedding is None else _Centred(network.embedding, pooled.mean(0))

    @classmethod
    def over(
        cls, network: GRNet, rest: nn.Module, gallery: MapSet, *, hypercolumn: bool = True, cells: bool = False
    ) -> TrainedPart:
        """One whose means are those of items spread over a gallery."""
        at = np.linspace(0, len(gallery.products) - 1, ENCODE_BATCH).astype(np.int64)
        return cls(network, rest, gallery.take(at), hypercolumn=hypercolumn, cells=cells)

    def forward(self, maps: Tensor) -> Vectors:
        """(B, c, h, w) maps of the front -> (B, E) unit embeddings, (B, R, C) regions and, where asked for, cells."""
        looked = self._layout.looked(self.rest(maps))
        pooled, regions = pool_looked(looked, self.config, self.channels)
        embedding = F.normalize(pooled if self.embedding is None else self.embedding(pooled), dim=-1)
        return Vectors(embedding, self._vectors(regions), self._made_cells(looked) if self._cells else None)

    def write_to(self, network: GRNet) -> None:
        """Give the network's neck and embedding what was learned; the backbone's rest is its own already."""
        if network.neck is not None and self.neck is not None:
            self.neck.write_to(learned_layer(network.neck))
        if self.cell_neck is not None:
            assert isinstance(network.cell_neck, HypercolumnNeck)
            for own, layer in zip([self.cell_neck.last, *self.cell_neck.taps], network.cell_neck.layers, strict=True):
                if isinstance(own, _Centred):
                    own.write_to(layer)
        if network.embedding is not None and self.embedding is not None:
            self.embedding.write_to(network.embedding)

    def learn(self) -> TrainedPart:
        """Let all of it learn but the components of earlier maps."""
        self.requires_grad_(True)
        for neck in (self.hypercolumn, self.cell_neck):
            if neck is not None:
                neck.requires_grad_(False)
        for layer in self.modules():
            if isinstance(layer, _Centred):
                layer.requires_grad_(True)
        return self

    def _made_cells(self, looked: Looked) -> Tensor:
        """(B, P, C): of both networks, where there are two."""
        if self.cell_neck is None:
            return self._vectors(_cells_of(looked.feature_map))
        cells: Tensor = self.cell_neck(_cells_of(looked.whole))
        return cells

    def _vectors(self, regions: Tensor) -> Tensor:
        last, *taps = regions.split([self.channels, *self._tap_channels], dim=-1)
        if self.neck is None:
            return regions if self._whole else last
        vectors: Tensor = self.neck(last)
        return vectors if self.hypercolumn is None else self.hypercolumn.joined(vectors, taps)


def _learning(network: GRNet, mean: Tensor) -> HypercolumnNeck:
    """A copy of the neck over both networks' maps in which the layers of their last maps are centred.

    Args:
        network: joined.
        mean: (C and those of all other maps,) of the cells.
    """
    assert isinstance(network.cell_neck, HypercolumnNeck)
    neck = copy.deepcopy(network.cell_neck)
    last, *others = neck.parts_of(mean)
    place = network.backbone.companion_place
    centred = _Centred(neck.components[place], others[place])
    neck.last = _Centred(neck.last, last)  # type: ignore[assignment]  # the same map, as a layer that learns better
    neck.taps[place] = centred
    return neck


def _cells_of(feature_map: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, h * w, C), row by row."""
    return feature_map.flatten(2).transpose(1, 2)


@torch.no_grad()
def encode_maps(part: TrainedPart, images: MapSet, *, progress: Progress = unheard) -> Vectors:
    """What the part makes of a set of maps, on the CPU."""
    part.eval()
    device = next(part.parameters()).device
    made: list[list[Tensor]] = []
    for start in range(0, len(images.products), ENCODE_BATCH):
        at = np.arange(start, min(start + ENCODE_BATCH, len(images.products)))
        made.append([one.cpu() for one in part(images.take(at).to(device)) if one is not None])
        progress(ENCODING, start + len(at), len(images.products))
    return Vectors(*(torch.cat(kind) for kind in zip(*made, strict=True)))


@torch.no_grad()
def bare_features(
    network: GRNet,
    rest: nn.Module,
    images: MapSet,
    at: NDArray[np.int64],
    *,
    change: Callable[[Tensor], Tensor] | None = None,
    project: bool = False,
    progress: Progress = unheard,
) -> tuple[Tensor, Tensor]:
    """Pooled (len(at), C) float32 and regions (len(at), R, C) float16, before neck and embedding unless told otherwise.

    Args:
        network: that says how to pool.
        rest: of its backbone.
        images: maps of the front.
        at: which of them.
        change: what happens to each batch of maps first.
        project: through neck and embedding, too.
        progress: hears how many images are done.
    """
    device = next((one.device for one in rest.parameters()), torch.device("cpu"))
    pooled: list[Tensor] = []
    regions: list[Tensor] = []
    for start in range(0, len(at), ENCODE_BATCH):
        maps = images.take(at[start : start + ENCODE_BATCH])
        seen = rest((maps if change is None else change(maps)).to(device))
        one, many = network.pool(network.backbone.layout.looked(seen))
        one, many = network.project(one.cpu(), many.cpu()) if project else (one.cpu(), many.cpu())
        pooled.append(one)
        regions.append(many.half())
        progress(ENCODING, start + len(one), len(at))
    return torch.cat(pooled), torch.cat(regions)


def evaluate_maps(part: TrainedPart, pairs: Sides[MapSet], *, progress: Progress = unheard) -> dict[str, float]:
    """top-1 and mean reciprocal rank over the whole gallery: by embedding, greedy and, where there are cells, dense."""
    items, queries = (encode_maps(part, side, progress=progress) for side in (pairs.gallery, pairs.queries))
    figures = {}
    with torch.no_grad():
        scores = {
            "global": queries.embedding @ items.embedding.T,
            "greedy": _in_chunks(
                queries.regions, lambda some: greedy_similarity_across(some, items.regions, grids=part.config.grids)
            ),
        }
        if queries.cells is not None and (shown := items.cells) is not None:
            scores["dense"] = _in_chunks(queries.cells, lambda some: dense_similarity_across(some, shown), DENSE_CHUNK)
    for name, similar in scores.items():
        order = similar.argsort(dim=1, descending=True).numpy()
        ranks = first_hit(list(order), pairs.gallery.products, pairs.queries.products)
        figures[f"{name}_top1"], figures[f"{name}_mrr"] = rates(ranks)["top1"], rates(ranks)["mrr"]
    return figures


def _in_chunks(queries: Tensor, similar: Callable[[Tensor], Tensor], size: int = ENCODE_BATCH) -> Tensor:
    """(q, ...) -> (q, n) without all the products in memory at once."""
    return torch.cat([similar(some) for some in queries.split(size)])
