"""A trained network in the form that serves: all that depends on the attribute alone is a table. Pure tensor code.

The four linear layers on e_c (two of them, and the halves of the channel attention's that read them) become two (A, d)
tables, masks lose what ReLU takes, gains are multiplied into their neighbours, and batch norm becomes a factor and an
offset. The same embeddings as `network` to rounding; `tests/model/attributes/test_reader.py` holds the two together.

Letters  B photos, A attributes, Ca, Cb channels of the two stages, d width, P = h x w positions, D embedding size
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from threadmatch.model.attributes.attention import channel_attention, pooled, spatial_attention, spatial_gate
from threadmatch.model.attributes.network import AGMAN, ASENetV2, AttributeNetwork

MULTIPLY_ADD = 2
"""Floating-point operations of one multiplication with its addition."""


class AttributeReader(nn.Module):
    """Levels in, embeddings and attention out, for all attributes at once.

    Args:
        network: trained; copied from, and left as it is.
    """

    look: Tensor
    guided: Tensor
    scale: Tensor
    offset: Tensor
    reduce: Tensor
    reduce_bias: Tensor
    seen: Tensor
    out: Tensor
    out_bias: Tensor
    look_gain: Tensor
    kernel: Tensor
    mask: Tensor

    def __init__(self, network: AttributeNetwork) -> None:
        super().__init__()
        assert isinstance(network, AGMAN | ASENetV2), "the two forms that there are"
        self.late = network.channels[1]
        with torch.no_grad():
            guides = network.guides()
            norm = network.norm
            assert norm.running_mean is not None
            assert norm.running_var is not None
            scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
            kept = {
                "look": guides.spatial, "guided": guides.channel, "scale": scale,
                "offset": norm.bias - norm.running_mean * scale,
                "out": network.out.weight, "out_bias": network.out.bias,
                **(self._ag_man(network) if isinstance(network, AGMAN) else self._asenet(network)),
            }  # fmt: skip
        for name, value in kept.items():
            self.register_buffer(name, value.detach().clone())
        self.gated = isinstance(network, AGMAN)

    def _ag_man(self, network: AGMAN) -> dict[str, Tensor]:
        """X = R [b ; b + F a] = (R1 + R2) b + R2 F a: one linear layer of both maps, the fusion in it."""
        first, second = network.reduce.weight.flatten(1).split(self.late, dim=1)  # (d, Cb) each
        fuse = network.fuse.weight.flatten(1)  # (Cb, Ca)
        assert network.fuse.bias is not None
        assert network.reduce.bias is not None
        reduce = network.gain * torch.cat([first + second, second @ fuse], dim=1)  # (d, Cb + Ca)
        bias = network.reduce.bias + network.gain * second @ network.fuse.bias
        return {
            "reduce": reduce, "reduce_bias": bias, "look_gain": network.look_gain, "kernel": network.gate.weight,
            "seen": network.hidden.weight[:, : network.config.width],
            "mask": network.out_gain * network.masks.relu(),
        }  # fmt: skip

    def _asenet(self, network: ASENetV2) -> dict[str, Tensor]:
        assert network.reduce.bias is not None
        return {
            "reduce": network.reduce.weight.flatten(1), "reduce_bias": network.reduce.bias,
            "seen": network.hidden.weight[:, : self.late],
        }  # fmt: skip

    def forward(self, levels: Tensor) -> tuple[Tensor, Tensor]:
        """Read all attributes.

        Args:
            levels: (B, Cb + Ca, h, w) of `levels.Levels`.

        Returns:
            (B, A, D) unit vectors, (B, A, h, w) attention.
        """
        rows, columns = levels.shape[2:]
        read = (levels if self.gated else levels[:, : self.late]).flatten(2)
        x = torch.matmul(self.reduce, read) + self.reduce_bias[:, None]  # (B, d, P)
        keys = (x * self.scale[:, None] + self.offset[:, None]).tanh()
        attention = spatial_attention(keys, self.look)
        if self.gated:
            values = self.look_gain * x
            v = pooled(spatial_gate(attention, values, self.kernel, (rows, columns)) * attention, values)
        else:
            v = pooled(attention, read)
        z = channel_attention(v, self.seen, self.guided, self.out, self.out_bias) * v
        embeddings = F.normalize(z * self.mask if self.gated else z, dim=-1)
        return embeddings, attention.unflatten(2, (rows, columns))

    def flops(self, grid: tuple[int, int]) -> int:
        """Operations for one photo, those of linear algebra: every product of a weight or an attention counts twice."""
        positions = grid[0] * grid[1]
        attributes, d = self.look.shape
        embedding, hidden = self.out.shape
        own = d * self.reduce.shape[1] * positions  # X, shared by all attributes
        own += attributes * positions * (d + embedding)  # where to look, and the sum there
        own += attributes * hidden * 2 * embedding  # which channels count
        if self.gated:
            own += attributes * positions * self.kernel.numel()
        return MULTIPLY_ADD * own
