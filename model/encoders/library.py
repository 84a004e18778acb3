"""What every library of encoders has: how a trained network is opened, and how it is built again without fetching.

Letters  S image side
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import torch

from threadmatch.model.backbone import Backbone
from threadmatch.model.encoder_config import EncoderConfig
from threadmatch.model.errors import ConfigError
from threadmatch.model.framing import Framing


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which network.

    Fields:
        name: without the library's prefix: as its library or the hub knows it, or a folder here.
        image_px: S; 0 for the one it was trained with.
        weights: file of its weights; None for those of the folder, or of the hub.
    """

    name: str
    image_px: int = 0
    weights: Path | None = None

    @property
    def folder(self) -> Path | None:
        """The folder that the name is of; None where it is none."""
        path = Path(self.name)
        return path if path.is_dir() else None

    @property
    def short(self) -> str:
        """The name without the folders above it, which are nobody's business."""
        return self.name if self.folder is None else self.folder.resolve().name


@dataclass(frozen=True, slots=True)
class Trained:
    """A network with its weights.

    Fields:
        name: with the library's prefix, as `GRNetConfig.backbone` has it.
        backbone: in evaluation mode, on the CPU, float32.
        image_px: S.
        encoder: what builds it again.
    """

    name: str
    backbone: Backbone
    image_px: int
    encoder: EncoderConfig


def needed(module: str, extra: str) -> ModuleType:
    """A library that is no dependency of its own.

    Raises:
        ConfigError: it is not installed; names the extra.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"this model's encoder is one of {module}, which cannot be imported ({error}); "
            f"pip install 'threadmatch[{extra}]'"
        ) from error


def at_size(framing: Framing, trained_px: int, image_px: int) -> Framing:
    """The framing for another S: R grows along, so that the same part of a photo is seen."""
    if not framing.resize_px or trained_px == image_px:
        return framing
    return replace(framing, resize_px=round(framing.resize_px * image_px / trained_px))


@torch.inference_mode()
def grid_of(backbone: Backbone, image_px: int) -> tuple[int, int]:
    """Rows and columns of its map.

    Raises:
        ConfigError: it cannot see photos of this size.
    """
    try:
        rows, columns = backbone(
            torch.zeros(1, 3, image_px, image_px, dtype=torch.uint8, device=backbone.mean.device)
        ).shape[2:]
    except (RuntimeError, ValueError, AssertionError) as error:
        raise ConfigError(f"this encoder cannot see photos of {image_px} pixels: {error}") from error
    return rows, columns
