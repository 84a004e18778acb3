"""The attributes of a photo as a part of a model: one unit vector each, read from two maps of the frozen backbone.

What is stored is the tabulated form (`reader`) with the directions of known values; `train.attributes` makes it.

Letters  B photos, A attributes, D embedding size, V values of an attribute, h x w the later stage's map
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from threadmatch.model.attributes.config import AttributeConfig
from threadmatch.model.attributes.levels import levels_of
from threadmatch.model.attributes.network import AttributeNetwork, build_network
from threadmatch.model.attributes.reader import AttributeReader
from threadmatch.model.attributes.values import ValueDirections
from threadmatch.model.errors import ConfigError
from threadmatch.model.features import ATTRIBUTES, FeatureSpec
from threadmatch.model.part import Part, Seen


class AttributesPart(Part):
    """Embeddings of all attributes, and where each was seen.

    Args:
        network: trained; its tables are taken.
    """

    name = ATTRIBUTES

    def __init__(self, network: AttributeNetwork) -> None:
        super().__init__()
        self.config, self.channels = network.config, network.channels
        self.stages = (self.config.early, self.config.late)
        self.reader = AttributeReader(network)
        self.values = nn.ParameterList(F.normalize(own.detach(), dim=-1) for own in network.values).requires_grad_(
            False
        )
        self.spec = FeatureSpec(ATTRIBUTES, (len(self.config.attributes), network.embedding_dim), "int8")

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> AttributesPart:
        """Untrained, as `parts.PARTS` builds it.

        Raises:
            ConfigError: settings that this release does not know.
        """
        given = dict(settings)
        channels = given.pop("channels", None)
        if not (isinstance(channels, list) and len(channels) == 2 and all(type(one) is int for one in channels)):
            raise ConfigError(f"channels is {channels!r}, expected those of the two stages")
        with torch.random.fork_rng(devices=[]):
            return cls(
                build_network(AttributeConfig.from_dict({**given, "classifier": "none"}), (channels[0], channels[1]))
            )

    @property
    def settings(self) -> dict[str, Any]:
        """See `Part.settings`; the classifier is for training alone."""
        own = self.config.to_dict()
        del own["classifier"]
        return {**own, "channels": list(self.channels)}

    @property
    def specs(self) -> tuple[FeatureSpec, ...]:
        """One feature: (A, D) unit vectors in eight bits."""
        return (self.spec,)

    def forward(self, seen: Seen) -> dict[str, Tensor]:
        """See `Part.forward`: (B, A, D) under ATTRIBUTES."""
        return {ATTRIBUTES: self.read(seen)[0]}

    def read(self, seen: Seen) -> tuple[Tensor, Tensor]:
        """(B, A, D) embeddings and (B, A, h, w) attention, each map of which sums to 1."""
        embeddings, attention = self.reader(levels_of(*(seen.stages[stage] for stage in self.stages)))
        return embeddings, attention

    def directions(self) -> ValueDirections:
        """What the values of each attribute look like."""
        vectors = (np.asarray(value.detach().cpu().numpy(), np.float32) for value in self.values)
        own = dict(zip(self.config.names, vectors, strict=True))
        return ValueDirections(self.config.attributes, own)
