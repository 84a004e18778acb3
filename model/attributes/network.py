"""AG-MAN and ASENet_V2: from two maps of a backbone to an embedding an attribute, with where each was seen.

What stands here trains and is the reference; `reader` computes the same embeddings with the parts that depend on the
attribute alone tabulated. Three faults of the published code are mended (`losses` says which of its own): the embedding
is divided by its length with an epsilon, a module that was never called and an argument that was never read are left
out, and an image is classified by all attributes that it has rather than by the one it was drawn for, which is the
same where a photo is labelled with one, as in FashionAI.

Letters  B photos, A attributes, Ca, Cb channels of the two stages, d width, P = h x w positions of the later map
Paper    Xiao and Yamasaki, IEEE Access 2024 (AG-MAN); Ma et al., AAAI 2020 (ASEN)
"""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from threadmatch.model.attributes.attention import (
    channel_attention,
    first_masks,
    pooled,
    spatial_attention,
    spatial_gate,
    swish,
)
from threadmatch.model.attributes.config import AttributeConfig

GATE_PX = 7
"""Side of the spatial gate's kernel."""


class Attended(NamedTuple):
    """What a network makes of B photos.

    Fields:
        embeddings: (B, A, D) unit vectors; D is d, of ASENet_V2 Cb.
        attention: (B, A, h, w), each summing to 1: where the attribute was seen.
        logits: (B, A) of "this photo has the attribute"; None without a classifier.
    """

    embeddings: Tensor
    attention: Tensor
    logits: Tensor | None


class Guides(NamedTuple):
    """What depends on the attribute alone: u (A, d) of where to look, Wr r + b1 (A, k) of which channels count."""

    spatial: Tensor
    channel: Tensor


class AttributeNetwork(nn.Module):
    """What both forms are to whoever trains or reads them.

    Args:
        config: the network.
        channels: Ca and Cb.

    Fields:
        values: of each attribute (V, D), the directions of its known values, for `model.attributes.values`.
        embedding_dim: D.
    """

    def __init__(self, config: AttributeConfig, channels: tuple[int, int], embedding_dim: int) -> None:
        super().__init__()
        self.config, self.channels, self.embedding_dim = config, channels, embedding_dim
        self.table = nn.Parameter(torch.randn(len(config.attributes), config.width))  # e_c
        self.values = nn.ParameterList(torch.randn(len(one.values), embedding_dim) for one in config.attributes)

    @abstractmethod
    def forward(self, levels: Tensor) -> Attended:
        """(B, Cb + Ca, h, w) of `levels.Levels` -> all attributes of each photo."""


class AGMAN(AttributeNetwork):
    """The attribute-guided multi-level attention network.

    Args:
        config: the network.
        channels: Ca and Cb.
        rest: the backbone's stages behind `late`, for `classifier = "rest"`; (B, Cb, h, w) -> (B, rest_channels, ., .).
        rest_channels: of its map.
    """

    def __init__(
        self,
        config: AttributeConfig,
        channels: tuple[int, int],
        *,
        rest: nn.Module | None = None,
        rest_channels: int = 0,
    ) -> None:
        super().__init__(config, channels, config.width)
        (early, late), d, count = channels, config.width, len(config.attributes)
        self.fuse = nn.Conv2d(early, late, 1)  # a' of a
        self.gain = nn.Parameter(torch.ones(()))  # w
        self.reduce = nn.Conv2d(2 * late, d, 1)
        self.norm = nn.BatchNorm2d(d)
        self.look = nn.Linear(d, d)  # t of e_c
        self.look_gain = nn.Parameter(torch.ones(()))  # w1
        self.gate = nn.Conv2d(2, 1, GATE_PX, padding=GATE_PX // 2, bias=False)
        self.weigh = nn.Linear(d, d)  # t' of e_c
        self.hidden = nn.Linear(2 * d, d)  # of [v ; r]
        self.out = nn.Linear(d, d)
        self.out_gain = nn.Parameter(torch.ones(()))  # w2
        self.masks = nn.Parameter(first_masks(count, d))
        self.rest = rest if config.classifier == "rest" else None
        assert config.classifier != "rest" or rest is not None, "whoever builds the paper's form hands in layer4"
        self.classify = None
        if config.classifier != "none":
            self.classify = nn.Linear(rest_channels if config.classifier == "rest" else late, count)

    def fused(self, levels: Tensor) -> tuple[Tensor, Tensor]:
        """The attribute-free part.

        Returns:
            m = b + a' (B, Cb, h, w), and X (B, d, h, w).
        """
        early, late = self.channels
        b, a = levels.split([late, early], dim=1)
        m = b + self.fuse(a)
        return m, self.reduce(self.gain * torch.cat([b, m], dim=1))

    def guides(self) -> Guides:
        """What depends on the attribute alone, swish of a linear layer each."""
        guided = F.linear(swish(self.weigh(self.table)), self.hidden.weight[:, self.config.width :], self.hidden.bias)
        return Guides(swish(self.look(self.table)), guided)

    def forward(self, levels: Tensor) -> Attended:
        """See `AttributeNetwork.forward`."""
        m, x = self.fused(levels)
        rows, columns = x.shape[2:]
        guides, values = self.guides(), self.look_gain * x.flatten(2)  # (B, d, P)
        attention = spatial_attention(self.norm(x).tanh().flatten(2), guides.spatial)
        gate = spatial_gate(attention, values, self.gate.weight, (rows, columns))
        v = pooled(gate * attention, values)  # (B, A, d)
        seen = self.hidden.weight[:, : self.config.width]
        g = channel_attention(v, seen, guides.channel, self.out.weight, self.out.bias)
        z = self.out_gain * g * v * self.masks.relu()
        return Attended(F.normalize(z, dim=-1), attention.unflatten(2, (rows, columns)), self._logits(m))

    def _logits(self, m: Tensor) -> Tensor | None:
        if self.classify is None or not self.training:
            return None
        logits: Tensor = self.classify((m if self.rest is None else self.rest(m)).mean((2, 3)))
        return logits


class ASENetV2(AttributeNetwork):
    """The network that AG-MAN started from: it reads the later map alone."""

    def __init__(self, config: AttributeConfig, channels: tuple[int, int]) -> None:
        late, d = channels[1], config.width
        super().__init__(config, channels, late)
        self.reduce = nn.Conv2d(late, d, 1)
        self.norm = nn.BatchNorm2d(d)
        self.look = nn.Linear(d, d)
        self.weigh = nn.Linear(d, d)
        self.hidden = nn.Linear(late + d, d)
        self.out = nn.Linear(d, late)

    def guides(self) -> Guides:
        """What depends on the attribute alone: tanh of one linear layer, ReLU of the other."""
        guided = F.linear(F.relu(self.weigh(self.table)), self.hidden.weight[:, self.channels[1] :], self.hidden.bias)
        return Guides(self.look(self.table).tanh(), guided)

    def forward(self, levels: Tensor) -> Attended:
        """See `AttributeNetwork.forward`."""
        x = levels[:, : self.channels[1]]
        guides = self.guides()
        attention = spatial_attention(self.norm(self.reduce(x)).tanh().flatten(2), guides.spatial)
        v = pooled(attention, x.flatten(2))  # (B, A, Cb)
        seen = self.hidden.weight[:, : self.channels[1]]
        g = channel_attention(v, seen, guides.channel, self.out.weight, self.out.bias)
        return Attended(F.normalize(g * v, dim=-1), attention.unflatten(2, tuple(x.shape[2:])), None)


def build_network(
    config: AttributeConfig, channels: tuple[int, int], *, rest: nn.Module | None = None, rest_channels: int = 0
) -> AttributeNetwork:
    """An untrained network of the form that `config` names; see `AGMAN` for the arguments."""
    if config.form == "asenet-v2":
        return ASENetV2(config, channels)
    return AGMAN(config, channels, rest=rest, rest_channels=rest_channels)
