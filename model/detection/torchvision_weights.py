"""A garment detector from weights that the user has: a torchvision network as safetensors, with a description.

    folder/detector.json        {"architecture": "fasterrcnn_mobilenet_v3_large_320_fpn", "labels": ["top", "skirt"],
                                 "least_score": 0.3}
    folder/model.safetensors    the network's state_dict; class 0 is the background, class n is labels[n - 1]

Nothing in the folder is run or unpickled.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from threadmatch.model.detection.proposals import Detector, GrabCutDetector, Proposal
from threadmatch.model.errors import CheckpointError
from threadmatch.model.images import Box

ARCHITECTURES: Final = (
    "fasterrcnn_mobilenet_v3_large_320_fpn", "fasterrcnn_mobilenet_v3_large_fpn", "fasterrcnn_resnet50_fpn",
    "fasterrcnn_resnet50_fpn_v2", "retinanet_resnet50_fpn", "retinanet_resnet50_fpn_v2", "fcos_resnet50_fpn",
    "ssdlite320_mobilenet_v3_large",
)  # fmt: skip
DESCRIPTION_FILE: Final = "detector.json"
WEIGHTS_FILE: Final = "model.safetensors"
MOST: Final = 20
"""Proposals of one photo."""


class _Description(BaseModel):
    model_config = ConfigDict(extra="forbid")

    architecture: str
    labels: Annotated[list[str], Field(min_length=1, max_length=1000)]
    least_score: float = Field(default=0.3, ge=0, le=1)


class TorchvisionDetector:
    """One of torchvision's detection networks.

    Args:
        network: of `ARCHITECTURES`, with weights, trained on these labels.
        labels: of classes 1, 2, ...
        least_score: proposals below are left out.
        device: "cpu" or "cuda".
    """

    on_model_thread = True

    def __init__(
        self, network: nn.Module, labels: list[str], *, name: str, least_score: float = 0.3, device: str = "cpu"
    ) -> None:
        self.name, self.labels, self.least_score, self.device = name, labels, least_score, device
        self._network = network.eval().requires_grad_(False).to(device)

    @torch.inference_mode()
    def detect(self, photo: NDArray[np.uint8]) -> list[Proposal]:
        """See `Detector.detect`."""
        height, width = photo.shape[:2]
        image = torch.from_numpy(np.array(photo)).to(self.device).permute(2, 0, 1).float() / 255  # (3, H, W)
        (found,) = self._network([image])
        proposals = []
        for edges, score, label in zip(
            found["boxes"].tolist(), found["scores"].tolist(), found["labels"].tolist(), strict=True
        ):
            x0, y0, x1, y1 = np.clip(edges, 0, (width, height, width, height)).tolist()
            if score < self.least_score or x1 - x0 < 1 or y1 - y0 < 1 or not 1 <= label <= len(self.labels):
                continue
            box = Box(x0 / width, y0 / height, x1 / width, y1 / height)
            proposals.append(Proposal(box, float(score), self.labels[label - 1]))
        return sorted(proposals, key=lambda proposal: -proposal.score)[:MOST]


def load_detector(folder: str | Path = "", *, device: str = "auto") -> Detector:
    """The detector in a folder; "" gives the one that needs no weights.

    Args:
        folder: with the two files above.
        device: "auto" (CUDA where there is one), "cpu" or "cuda".

    Raises:
        CheckpointError: a file is missing or damaged, or the two do not belong together.
    """
    if not str(folder):
        return GrabCutDetector()
    folder = Path(folder)
    try:
        described = _Description.model_validate_json((folder / DESCRIPTION_FILE).read_bytes())
    except (OSError, ValidationError, json.JSONDecodeError) as error:
        raise CheckpointError(
            f"no detector in {folder}: {DESCRIPTION_FILE} cannot be used ({error}); docs/explain.md says what it holds"
        ) from error
    if described.architecture not in ARCHITECTURES:
        raise CheckpointError(
            f"{folder / DESCRIPTION_FILE} names {described.architecture!r}, expected one of {', '.join(ARCHITECTURES)}"
        )
    from torchvision.models import get_model  # seconds to import, and only this needs it

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    classes = len(described.labels) + 1
    network = get_model(described.architecture, weights=None, weights_backbone=None, num_classes=classes)
    try:
        network.load_state_dict(load_file(folder / WEIGHTS_FILE))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise CheckpointError(
            f"{folder / WEIGHTS_FILE} does not fit {described.architecture} with {classes - 1} labels: {error}"[:2000]
        ) from error
    return TorchvisionDetector(
        network, described.labels, name=folder.name, least_score=described.least_score, device=device
    )
