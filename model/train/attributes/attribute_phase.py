"""Training of a network of attributes over cached maps: the losses of a step, and MAP on held-out photos.

Letters  n photos, B photos of a step, A attributes, T triplets
Paper    Xiao and Yamasaki, IEEE Access 2024 (AG-MAN), its code's defaults where `PAPER` says so
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from threadmatch.model.attributes.network import Attended, AttributeNetwork
from threadmatch.model.data.attribute_labels import AttributeSet
from threadmatch.model.errors import ConfigError
from threadmatch.model.evaluate.attribute_precision import mean_precision, precisions
from threadmatch.model.train.attributes.attribute_losses import (
    Weighing,
    attribute_loss,
    shared_triplet_loss,
    triplet_loss,
    value_loss,
)
from threadmatch.model.train.attributes.triplets import Triplets, TripletSampler
from threadmatch.model.train.inputs.front_maps import MapSet
from threadmatch.model.train.loop.optimisers import steady
from threadmatch.model.train.loop.run_folder import ATTRIBUTES, Run
from threadmatch.model.train.loop.training_loop import Course, TrainingLoop

ENCODE_BATCH: Final = 64
VALUE_SCALE: Final = 16.0
"""Of cosines in `value_loss`."""
LOSSES: Final = ("triplet", "attribute", "value")


class Sampler(Protocol):
    """Where a step's triplets come from."""

    def draw(self, count: int, rng: np.random.Generator) -> Triplets:
        """Draw `count` triplets."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributeSettings:
    """How a network of attributes is trained. The defaults are those of what ships; `PAPER` is the authors' code."""

    steps: int = 4000
    triplets: int = 16
    """Drawn for a step, three photos each."""
    shared: bool = True
    """Every attribute of the photos drawn counts, with every triplet among them: a photo's maps are read once. False:
    each triplet for the attribute that it was drawn for, as in the paper."""
    weights: Mapping[str, float] = field(default_factory=lambda: {"triplet": 1.0, "attribute": 0.2, "value": 1.0})
    """Of the losses triplet, attribute and value. `value`, by the names of the values, is ours."""
    learned_weights: bool = False
    """Weigh losses by exp(-s) L + s, s learned."""
    rate: float = 1e-3
    decay_every: int = 0
    """Steps after which the rate is multiplied by `decay`; 0: it falls as half a cosine."""
    decay: float = 0.9
    flip: bool = True
    """Mirror half of the steps' maps."""
    evaluate_every: int = 500
    average: float = 0.998
    seed: int = 1

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.weights) - set(LOSSES)):
            raise ConfigError(f"weights has {unknown}, known losses are {', '.join(LOSSES)}")
        if not any(self.weights.values()) or any(weight < 0 for weight in self.weights.values()):
            raise ConfigError(f"weights are {dict(self.weights)}, expected one above 0 at least and none below")
        for name in ("steps", "triplets", "evaluate_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}, expected at least 1")


def paper_settings(*, epochs: int = 150, drawn: int = 100_000) -> AttributeSettings:
    """The authors' code: Adam at 1e-4, times 0.9 every 3 epochs, 16 triplets a step, triplet and attribute loss 1:1."""
    of_epoch = drawn // 16
    return AttributeSettings(
        steps=epochs * of_epoch, triplets=16, shared=False, weights={"triplet": 1.0, "attribute": 1.0}, rate=1e-4,
        decay_every=3 * of_epoch, evaluate_every=of_epoch, average=0.0,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class LabelledMaps:
    """Photos with their maps, and for each attribute (n, V) bool of what they show."""

    photos: AttributeSet
    maps: MapSet
    marks: list[NDArray[np.bool_]]

    @classmethod
    def of(cls, photos: AttributeSet, maps: MapSet, network: AttributeNetwork) -> LabelledMaps:
        """With the values that the network knows."""
        return cls(photos, maps, [photos.marks(one.name, one.values) for one in network.config.attributes])


class TrainedNetwork(nn.Module):
    """What the optimiser sees: the network, the stages in front of it where they learn too, and the losses' weights."""

    def __init__(self, network: AttributeNetwork, settings: AttributeSettings, front: nn.Module | None = None) -> None:
        super().__init__()
        self.network, self.front = network, front
        weights = {name: weight for name, weight in settings.weights.items() if weight}
        self.weighing = Weighing(weights, learned=settings.learned_weights)

    def forward(self, maps: Tensor) -> Attended:
        """(B, ...) maps, or pixels where a front learns."""
        made: Attended = self.network(maps if self.front is None else self.front(maps))
        return made


def train_attributes(
    network: AttributeNetwork,
    training: LabelledMaps,
    val: LabelledMaps,
    *,
    settings: AttributeSettings,
    run: Run,
    front: nn.Module | None = None,
    sampler: Sampler | None = None,
) -> dict[str, float]:
    """Train a network; its best weights by MAP on `val` stay in it.

    Args:
        network: untrained; changed.
        training, val: of other garments.
        settings: how.
        run: where; an unfinished one goes on.
        front: stages that learn too; maps are pixels then.
        sampler: of judged triplets; None draws them by the photos' values.

    Returns:
        The best figures on `val`: MAP by attribute, `all` and `mean`.

    Raises:
        DataError: no triplet can be drawn; ConfigError: the folder holds another run.
    """
    names = network.config.names
    drawn_from = sampler or TripletSampler(training.marks, names)
    module = TrainedNetwork(network, settings, front)
    optimiser = torch.optim.Adam(module.parameters(), lr=settings.rate)
    course = Course(
        files=ATTRIBUTES, steps=settings.steps, evaluate_every=settings.evaluate_every, chosen_by="map_mean",
        seed=settings.seed, average=settings.average,
    )  # fmt: skip
    loop = TrainingLoop(module, optimiser, _schedule(optimiser, settings), course=course, run=run)

    def losses(step: int) -> dict[str, Tensor]:
        module.train()
        return step_losses(module, training, drawn_from, settings, np.random.default_rng([settings.seed, step]))

    def evaluate(trained: TrainedNetwork) -> dict[str, float]:
        embeddings = embed(trained, val.maps)
        found = precisions(embeddings, val.photos, val.marks, names)
        return {f"map_{name}": value for name, value in mean_precision(found).items()}

    return loop.train(losses, evaluate)


def _schedule(optimiser: torch.optim.Optimizer, settings: AttributeSettings) -> torch.optim.lr_scheduler.LRScheduler:
    if settings.decay_every:
        return torch.optim.lr_scheduler.StepLR(optimiser, settings.decay_every, settings.decay)
    if settings.steps == 1:
        return steady(optimiser)
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.steps)


def step_losses(
    module: TrainedNetwork,
    data: LabelledMaps,
    sampler: Sampler,
    settings: AttributeSettings,
    rng: np.random.Generator,
) -> dict[str, Tensor]:
    """The losses of one step by name, and `total`."""
    drawn = sampler.draw(settings.triplets, rng)
    at, places = np.unique(drawn.photos, return_inverse=True)  # a photo drawn twice is read once
    maps = data.maps.take(at)
    if settings.flip and rng.random() < 0.5:
        maps = maps.flip(-1)
    made = module(maps)
    marks = [torch.from_numpy(own[at]) for own in data.marks]
    found: dict[str, Tensor] = {}
    for name in module.weighing.weights:
        if name == "triplet" and settings.shared:
            found[name] = shared_triplet_loss(made.embeddings, marks)
        elif name == "triplet":
            own = made.embeddings[torch.from_numpy(places).view(-1, 3), torch.from_numpy(drawn.attributes)[:, None]]
            found[name] = triplet_loss(*own.unbind(1))
        elif name == "attribute" and made.logits is not None:
            found[name] = attribute_loss(made.logits, torch.stack([own.any(1) for own in marks], dim=1))
        elif name == "value":
            found[name] = value_loss(made.embeddings, list(module.network.values), marks, scale=VALUE_SCALE)
    return {**found, "total": module.weighing(found)}


@torch.no_grad()
def embed(module: nn.Module, maps: MapSet, at: Sequence[int] | None = None) -> NDArray[np.float32]:
    """(n, A, D) embeddings of a set of maps, or of those at some positions."""
    module.eval()
    every = np.arange(len(maps.products)) if at is None else np.asarray(at, np.int64)
    parts = [
        module(maps.take(every[start : start + ENCODE_BATCH]))[0].numpy()
        for start in range(0, len(every), ENCODE_BATCH)
    ]
    return np.concatenate(parts)
