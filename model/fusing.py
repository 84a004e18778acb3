"""Batch norm folded into the convolution before it: the same map from fewer passes over memory. Inference only."""

from __future__ import annotations

import copy
import logging

import torch
from torch import Tensor, nn

from threadmatch.model.backbone import Backbone

logger = logging.getLogger(__name__)

TOLERANCE = 1e-4
"""Largest difference from the unfolded map, as a share of its largest value, that rounding alone may cause."""


@torch.no_grad()
def fold_batch_norm(backbone: Backbone, *, image_px: int) -> Backbone:
    """Fold every batch norm that reads a convolution's output and nothing else.

    Which those are is seen by running one image and watching which module hands its output to which, so it works for
    any architecture; the folded network is kept only if it gives the same map.

    Args:
        backbone: in evaluation mode, float32, on the CPU; left as it is.
        image_px: side of the probe image.

    Returns:
        A folded copy, or the backbone itself where nothing could be folded.
    """
    if not any(isinstance(module, nn.BatchNorm2d) for module in backbone.modules()):
        return backbone
    probe = torch.randint(0, 256, (1, 3, image_px, image_px), generator=torch.Generator().manual_seed(0))
    folded = copy.deepcopy(backbone)
    pairs = _watch(folded, probe)
    for convolution, norm_name in pairs:
        norm = folded.get_submodule(norm_name)
        assert isinstance(norm, nn.BatchNorm2d)
        _fold(convolution, norm)
        folded.set_submodule(norm_name, _rest_of(norm))
    expected, found = backbone(probe), folded(probe)
    if not pairs or (expected - found).abs().max() > TOLERANCE * expected.abs().max():
        logger.warning("batch norm stays unfolded", extra={"pairs": len(pairs)})
        return backbone
    return folded


def _watch(backbone: Backbone, probe: Tensor) -> list[tuple[nn.Conv2d, str]]:
    """The convolutions whose output goes straight into a batch norm, with the norm's name."""
    made_by: dict[int, nn.Conv2d] = {}
    kept: list[Tensor] = []  # outputs stay alive while watched, so that an id names one tensor only
    pairs: list[tuple[nn.Conv2d, str]] = []

    def after_convolution(module: nn.Module, _: object, output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        made_by[id(output)] = module
        kept.append(output)

    def before_norm(name: str, inputs: tuple[Tensor, ...]) -> None:
        if id(inputs[0]) in made_by:
            pairs.append((made_by[id(inputs[0])], name))

    hooks = []
    for name, module in backbone.named_modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(after_convolution))
        elif isinstance(module, nn.BatchNorm2d) and module.track_running_stats:
            hooks.append(module.register_forward_pre_hook(lambda _, inputs, name=name: before_norm(name, inputs)))
    backbone(probe)
    for hook in hooks:
        hook.remove()
    return pairs


def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """W := W g / sqrt(v + e), b := (b - m) g / sqrt(v + e) + beta, in place."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = torch.rsqrt(norm.running_var + norm.eps) * (1 if norm.weight is None else norm.weight)
    bias = torch.zeros_like(norm.running_mean) if convolution.bias is None else convolution.bias
    shift = (bias - norm.running_mean) * scale + (0 if norm.bias is None else norm.bias)
    convolution.weight = nn.Parameter(convolution.weight * scale.view(-1, 1, 1, 1), requires_grad=False)
    convolution.bias = nn.Parameter(shift, requires_grad=False)


def _rest_of(norm: nn.BatchNorm2d) -> nn.Module:
    """What else the norm module does: timm's also drops and activates."""
    rest = [module for name in ("drop", "act") if isinstance(module := getattr(norm, name, None), nn.Module)]
    return nn.Sequential(*rest) if rest else nn.Identity()
