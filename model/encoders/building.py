"""The one table of libraries, and from a model's config to its backbone. Nothing is fetched here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Final

import torch

from threadmatch.model.backbone import BUILDERS, Backbone, build_backbone
from threadmatch.model.config import GRNetConfig
from threadmatch.model.encoder_config import EncoderConfig
from threadmatch.model.encoders.library import Trained, Wanted
from threadmatch.model.errors import ConfigError
from threadmatch.model.pretrained import load_pretrained

LIBRARIES: Final = {
    "timm": "threadmatch.model.encoders.timm_library",
    "open_clip": "threadmatch.model.encoders.open_clip_library",
    "hf": "threadmatch.model.encoders.transformers_library",
}
"""Prefix of a name, and the module with its `open_trained` and `build`, imported when first asked for."""


@dataclass(frozen=True, slots=True)
class Library:
    """One of LIBRARIES."""

    open_trained: Callable[[Wanted], Trained]
    build: Callable[[GRNetConfig], Backbone]


def library(prefix: str) -> Library:
    """By its prefix, which is in LIBRARIES."""
    module = import_module(LIBRARIES[prefix])
    return Library(module.open_trained, module.build)


def open_trained(wanted: Wanted) -> Trained:
    """A network with the weights that others trained.

    Args:
        wanted: its name has a prefix of LIBRARIES, or is one of `backbone.BUILDERS`.

    Raises:
        ConfigError: the name is unknown, its library is not installed, or the network cannot be used.
        CheckpointError: its weights cannot be had.
    """
    prefix, colon, name = wanted.name.partition(":")
    if colon and prefix in LIBRARIES:
        return library(prefix).open_trained(Wanted(name, wanted.image_px, wanted.weights))
    if wanted.name not in BUILDERS:
        known = ", ".join(f"{one}:NAME" for one in LIBRARIES)
        raise ConfigError(f"encoder {wanted.name!r} is unknown, expected {known} or one of {', '.join(BUILDERS)}")
    backbone = build_backbone(wanted.name)
    load_pretrained(backbone, wanted.name, source=wanted.weights)
    own = EncoderConfig(mean=_triple(backbone.mean), std=_triple(backbone.std))
    return Trained(wanted.name, backbone.eval(), wanted.image_px or GRNetConfig().image_px, own)


def build_encoder(config: GRNetConfig) -> Backbone:
    """The backbone of a model, its weights still to be read.

    Raises:
        ConfigError: it is unknown, or its library is not installed.
    """
    own = config.encoder
    if own is None:
        return build_backbone(config.backbone, image_px=config.image_px)
    prefix, colon, _ = config.backbone.partition(":")
    known = bool(colon) and prefix in LIBRARIES
    backbone = library(prefix).build(config) if known else build_backbone(config.backbone)
    backbone.grid = own.grid
    return backbone


def build_joined(config: GRNetConfig) -> Backbone:
    """`build_encoder`, with the earlier maps that are read and the companion, where there is one.

    Raises:
        ConfigError: as `build_encoder`, or it has no such maps, or can have no companion.
    """
    backbone = build_encoder(config).tap(config.hypercolumn)
    if not config.companion:
        return backbone
    other = build_backbone(config.companion, image_px=config.image_px).tap(config.cell_hypercolumn)
    return backbone.accompany(other, further_stages(config))


def further_stages(config: GRNetConfig) -> tuple[int, ...]:
    """Stages of the first network that its cells read and its regions do not."""
    return tuple(stage for stage in config.cell_hypercolumn if stage not in config.hypercolumn)


def _triple(values: torch.Tensor) -> tuple[float, float, float]:
    red, green, blue = (round(value / 255, 6) for value in values.flatten().tolist())
    return red, green, blue
