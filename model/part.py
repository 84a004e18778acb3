"""A part of a model: what learns further features on top of the core network and changes nothing in it.

A part lives in a folder of its own inside the checkpoint's and may be there or not: galleries made without it stay
valid. `parts` has the table of those there are.

Letters  B photos, S image side, E embedding size, R regions, C channels, h x w the backbone's last map
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor, nn

from threadmatch.model.features import FeatureSpec
from threadmatch.model.tensor_files import digest


@dataclass(frozen=True, slots=True)
class Seen:
    """What a network has made of a batch: what features are computed from. Made by `encoding.see`.

    Fields:
        images: (B, 3, S, S) uint8.
        feature_map: (B, C + taps, h, w), the backbone's.
        embedding: (B, E).
        regions: (B, R, C).
        cells: (B, h * w, C) unit vectors, row by row, behind the neck.
        stages: maps of those stages of the backbone that parts read (`Part.stages`): number -> (B, C', h', w').
        made: what each part made of it, by the part's name; filled when first asked for.
    """

    images: Tensor
    feature_map: Tensor
    embedding: Tensor
    regions: Tensor
    cells: Tensor
    stages: Mapping[int, Tensor] = field(default_factory=dict)
    made: dict[str, Mapping[str, Tensor]] = field(default_factory=dict)


class Part(nn.Module):
    """Base of all parts: parameters, what they make of a batch, and what ties them to a core.

    `forward` is a function of tensors alone, without loops over data: it is exported with the network.

    Fields:
        name: of the part, its folder and its place in `parts.PARTS`.
        stages: stages of the backbone, counted from 0 as in `Backbone.split`, whose maps it reads.
        core: fingerprint of the features it was trained on, "" until it is attached (`GRNet.attach`).
        fingerprint: of settings, weights and `core`; "" until then. Galleries keep it beside what the part made.
    """

    name: ClassVar[str]
    stages: tuple[int, ...] = ()
    core: str = ""
    fingerprint: str = ""

    @property
    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """All that `parts.PARTS` needs to build it, plain JSON."""

    @property
    @abstractmethod
    def specs(self) -> tuple[FeatureSpec, ...]:
        """The features it makes, `made_by` left empty."""

    @abstractmethod
    def forward(self, seen: Seen) -> dict[str, Tensor]:
        """The features by name, (B, *shape) each."""

    def tie(self, core: str) -> None:
        """Name the features below, and with them the part as its weights are now."""
        self.core = core
        self.fingerprint = digest({"part": self.name, "core": core, "settings": self.settings}, self.state_dict())
