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
from threadmatch.model.evaluate.metrics import first_hit, rates
from threadmatch.model.grnet import GRNet
from threadmatch.model.neck import HypercolumnNeck, learned_layer
from threadmatch.model.progress import Progress, unheard
from threadmatch.model.pyramid import pool_map
from threadmatch.model.similarity import greedy_similarity_across
from threadmatch.model.train.inputs.front_maps import MapSet

ENCODE_BATCH = 64

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
    """

    def __init__(self, network: GRNet, rest: nn.Module, sample: Tensor, *, hypercolumn: bool = True) -> None:
        super().__init__()
        self.rest = rest
        self.config = network.config
        self.channels = network.backbone.channels
        self._tap_channels = list(network.backbone.tap_channels)
        self.eval()
        with torch.no_grad():
            pooled, regions = pool_map(rest(sample), self.config, self.channels)
        mean = regions[..., : self.channels].mean((0, 1))
        self.neck = None if network.neck is None else _Centred(learned_layer(network.neck), mean)
        joins = hypercolumn and isinstance(network.neck, HypercolumnNeck)
        self.hypercolumn: HypercolumnNeck | None = copy.deepcopy(network.neck) if joins else None  # type: ignore[assignment]
        self._whole = hypercolumn
        self.embedding = None if network.embedding is None else _Centred(network.embedding, pooled.mean(0))

    @classmethod
    def over(cls, network: GRNet, rest: nn.Module, gallery: MapSet, *, hypercolumn: bool = True) -> TrainedPart:
        """One whose means are those of items spread over a gallery."""
        at = np.linspace(0, len(gallery.products) - 1, ENCODE_BATCH).astype(np.int64)
        return cls(network, rest, gallery.take(at), hypercolumn=hypercolumn)

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """(B, c, h, w) maps of the front -> (B, E) unit embeddings, (B, R, C) regions."""
        pooled, regions = pool_map(self.rest(maps), self.config, self.channels)
        embedding = F.normalize(pooled if self.embedding is None else self.embedding(pooled), dim=-1)
        return embedding, self._vectors(regions)

    def write_to(self, network: GRNet) -> None:
        """Give the network's neck and embedding what was learned; the backbone's rest is its own already."""
        if network.neck is not None and self.neck is not None:
            self.neck.write_to(learned_layer(network.neck))
        if network.embedding is not None and self.embedding is not None:
            self.embedding.write_to(network.embedding)

    def learn(self) -> TrainedPart:
        """Let all of it learn but the components of earlier maps."""
        self.requires_grad_(True)
        if self.hypercolumn is not None:
            self.hypercolumn.requires_grad_(False)
        return self

    def _vectors(self, regions: Tensor) -> Tensor:
        last, *taps = regions.split([self.channels, *self._tap_channels], dim=-1)
        if self.neck is None:
            return regions if self._whole else last
        vectors: Tensor = self.neck(last)
        return vectors if self.hypercolumn is None else self.hypercolumn.joined(vectors, taps)


@torch.no_grad()
def encode_maps(part: TrainedPart, images: MapSet, *, progress: Progress = unheard) -> tuple[Tensor, Tensor]:
    """(n, E) embeddings and (n, R, C) regions of a set of maps, on the CPU."""
    part.eval()
    device = next(part.parameters()).device
    embeddings: list[Tensor] = []
    regions: list[Tensor] = []
    for start in range(0, len(images.products), ENCODE_BATCH):
        embedding, many = part(
            images.take(np.arange(start, min(start + ENCODE_BATCH, len(images.products)))).to(device)
        )
        embeddings.append(embedding.cpu())
        regions.append(many.cpu())
        progress(ENCODING, start + len(many), len(images.products))
    return torch.cat(embeddings), torch.cat(regions)


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
        feature_map = rest((maps if change is None else change(maps)).to(device))
        one, many = pool_map(feature_map, network.config, network.backbone.channels)
        one, many = network.project(one.cpu(), many.cpu()) if project else (one.cpu(), many.cpu())
        pooled.append(one)
        regions.append(many.half())
        progress(ENCODING, start + len(one), len(at))
    return torch.cat(pooled), torch.cat(regions)


def evaluate_maps(part: TrainedPart, pairs: Sides[MapSet], *, progress: Progress = unheard) -> dict[str, float]:
    """top-1 and mean reciprocal rank over the whole gallery, by embedding and by greedy local matching."""
    embedding, regions = encode_maps(part, pairs.gallery, progress=progress)
    query_embedding, query_regions = encode_maps(part, pairs.queries, progress=progress)
    figures = {}
    with torch.no_grad():
        chunks = [
            greedy_similarity_across(chunk, regions, grids=part.config.grids)
            for chunk in query_regions.split(ENCODE_BATCH)
        ]
        for name, similar in (("global", query_embedding @ embedding.T), ("greedy", torch.cat(chunks))):
            order = similar.argsort(dim=1, descending=True).numpy()
            ranks = first_hit(list(order), pairs.gallery.products, pairs.queries.products)
            figures[f"{name}_top1"], figures[f"{name}_mrr"] = rates(ranks)["top1"], rates(ranks)["mrr"]
    return figures
