"""Kronecker-product matching: the reranker that the paper compares GRNet with, as a head over two feature maps.

Letters  B pairs, P positions of a map (h * w), C channels, G groups of C / G channels
Paper    Shen et al., CVPR 2018, "End-to-end deep Kronecker-product matching"; groups and their heads as in the same
         authors' "Deep group-shuffling random walk", CVPR 2018. Left out: the hourglass maps of several scales, the
         self-residual attention and the random walk between gallery images, which are no part of the matching itself.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from threadmatch.model.errors import CheckpointError, ConfigError
from threadmatch.model.region_matchers import FeatureMatcher

WEIGHTS_FILE = "kpm.safetensors"
CONFIG_FILE = "kpm.json"
FIRST_WEIGHT_STD = 0.001
"""Deviation of the classifier's first weights, as the authors have it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KPMConfig:
    """One matching head."""

    channels: int
    """C of the maps handed in."""
    grid: tuple[int, int] = (7, 7)
    """Rows and columns of the map: the backbone's last, not pooled (7x7 at 224 pixels)."""
    groups: int = 2
    dropout: float = 0.5

    def __post_init__(self) -> None:
        if min(self.channels, self.groups, *self.grid) < 1 or self.channels % self.groups:
            raise ConfigError(f"{self} cannot be built: sizes are at least 1 and channels a multiple of groups")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout is {self.dropout}, expected 0 <= dropout < 1")

    @property
    def positions(self) -> int:
        """P."""
        return self.grid[0] * self.grid[1]


def map_scales(grid: tuple[int, int]) -> tuple[str, str]:
    """The scales that make a model's regions end in the map: the global one and one cell a position."""
    return "1x1", f"{grid[0]}x{grid[1]}"


def warped_difference(query: Tensor, gallery: Tensor) -> Tensor:
    """How far the query's map, warped onto the gallery's layout, is from the gallery's map on average.

        A_pr = <x_p / |x_p|, y_r / |y_r|>, S = softmax_r(A), u = mean_p (sum_r S_pr y_r - x_p)

    Args:
        query: (B, P, C) map y of the probe, float.
        gallery: (B, P, C) map x, float.

    Returns:
        (B, C), signed.
    """
    affinity = F.normalize(gallery, dim=-1) @ F.normalize(query, dim=-1).transpose(1, 2)  # (B, P, P)
    heard = affinity.softmax(dim=-1).mean(dim=1)  # (B, P): a mean over p of rows, since u is one
    return (heard[:, None] @ query)[:, 0] - gallery.mean(dim=1)  # (B, C)


class KPMHead(nn.Module):
    """From two maps to a score: matching, the squared difference, batch norm, a linear map to "different" and "same".

    Each of G heads reads each of G groups of channels, while training and after (group shuffling).
    """

    def __init__(self, config: KPMConfig) -> None:
        super().__init__()
        self.config = config
        width = config.channels // config.groups
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(config.groups))
        self.classifiers = nn.ModuleList(nn.Linear(width, 2) for _ in range(config.groups))
        self.dropout = nn.Dropout(config.dropout)
        for classifier in self.classifiers:
            assert isinstance(classifier, nn.Linear)
            nn.init.normal_(classifier.weight, std=FIRST_WEIGHT_STD)
            nn.init.zeros_(classifier.bias)

    def logits(self, query: Tensor, gallery: Tensor) -> Tensor:
        """(B, P, C) twice -> (G * G, B, 2): "different" and "same" by every head on every group."""
        pairs = zip(query.chunk(self.config.groups, dim=-1), gallery.chunk(self.config.groups, dim=-1), strict=True)
        squares = [warped_difference(y, x).square() for y, x in pairs]  # G x (B, C / G)
        return torch.stack(
            [
                classifier(self.dropout(norm(square)))
                for norm, classifier in zip(self.norms, self.classifiers, strict=True)
                for square in squares
            ]
        )

    def forward(self, query: Tensor, gallery: Tensor) -> Tensor:
        """(B, P, C) twice -> (B,) mean logit of "same" over "different"; ranks as its probability does."""
        mean = self.logits(query, gallery).mean(dim=0)  # (B, 2)
        return mean[:, 1] - mean[:, 0]


class KPMMatcher(FeatureMatcher):
    """Scores maps. It reads the feature "map": region sets whose last P regions are the map.

    Args:
        head: trained.
        chunk_pairs: pairs at a time, bounding memory.
    """

    def __init__(self, head: KPMHead, *, chunk_pairs: int = 256) -> None:
        own, p = head.eval(), head.config.positions
        super().__init__(
            "kpm", "map", lambda q, g: own(q[:, -p:].expand(len(g), -1, -1), g[:, -p:]), chunk_pairs=chunk_pairs
        )


def save_kpm(head: KPMHead, folder: Path, *, features_fingerprint: str) -> None:
    """Write a head and which features it reads; files of the same names are replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: value.contiguous() for name, value in head.state_dict().items() if value.is_floating_point()},
        folder / WEIGHTS_FILE,
    )
    description = {"kpm": asdict(head.config), "features_fingerprint": features_fingerprint}
    (folder / CONFIG_FILE).write_text(json.dumps(description, indent=2) + "\n")


def load_kpm(folder: Path, *, features_fingerprint: str) -> KPMHead:
    """Read a head, in evaluation mode.

    Raises:
        CheckpointError: missing, damaged, or trained on another model's features.
    """
    try:
        description: dict[str, Any] = json.loads((folder / CONFIG_FILE).read_text())
        values = description["kpm"]
        head = KPMHead(KPMConfig(**{**values, "grid": tuple(values["grid"])}))
        head.load_state_dict(load_file(folder / WEIGHTS_FILE), strict=False)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError, ConfigError) as error:
        raise CheckpointError(
            f"{folder} holds no matching head ({error}); expected {WEIGHTS_FILE} and {CONFIG_FILE} as "
            "`threadmatch table` writes them"
        ) from error
    if description.get("features_fingerprint") != features_fingerprint:
        raise CheckpointError(
            f"{folder} was trained on features {description.get('features_fingerprint')}, this model's are "
            f"{features_fingerprint}; train one for this model"
        )
    return head.eval()
