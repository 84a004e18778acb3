"""Which of a thousand kinds of things a photo shows: EfficientNet-Lite0 as ImageNet taught it, whole.

Letters  B photos, S side, K = 1000 classes of ILSVRC 2012, C = 1280 channels
Paper    Tan and Le, ICML 2019 (EfficientNet); Russakovsky et al., IJCV 2015 (the classes)

A parser forgets what else there is while it learns garments: a cat becomes a coat. This one was taught nothing else.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from threadmatch.model.backbone import Backbone, build_backbone
from threadmatch.model.compiling.choosing import Run, choose_engine
from threadmatch.model.compiling.network import probe_photo
from threadmatch.model.detection.things.weights import fingerprint, load_weights
from threadmatch.model.fusing import fold_batch_norm

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]

BACKBONE: Final = "efficientnet_lite0"
SIDE_PX: Final = 224
CLASSES: Final = 1000


class ThingsNetwork(nn.Module):
    """Photos to probabilities of classes."""

    def __init__(self, backbone: Backbone, classify: nn.Linear) -> None:
        super().__init__()
        self.backbone, self.classify = backbone, classify

    def forward(self, pixels: Tensor) -> tuple[Tensor]:
        """(B, S, S, 3) uint8 RGB -> (B, K) float32, summing to 1."""
        means = self.backbone(pixels.permute(0, 3, 1, 2)).mean(dim=(2, 3))  # (B, C)
        return (self.classify(means).softmax(dim=1),)


def build_network() -> ThingsNetwork:
    """The network with weights of chance."""
    backbone = build_backbone(BACKBONE)
    return ThingsNetwork(backbone, nn.Linear(backbone.channels, CLASSES))


class Things:
    """Says what a photo shows. Thread-safe; the network is read and made ready when a photo first asks.

    Args:
        folder: of its weights; None for those that ship.
        engine, cache: see `compiling.choosing.choose_engine`.
    """

    def __init__(self, folder: Path | None = None, *, engine: str = "auto", cache: Path | None = None) -> None:
        self._folder, self._engine, self._cache = folder, engine, cache
        self._run: Run | None = None
        self._lock = threading.Lock()

    def __call__(self, photo: Pixels) -> Floats:
        """(H, W, 3) uint8 RGB -> (K,) probabilities.

        Raises:
            CheckpointError: the weights are missing or damaged.
        """
        shrinks = max(photo.shape[:2]) > SIDE_PX
        small = cv2.resize(photo, (SIDE_PX,) * 2, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        (found,) = self.ready()(np.asarray(small, np.uint8)[None])
        return np.asarray(found[0])

    def ready(self) -> Run:
        """Make it ready, once."""
        with self._lock:
            if self._run is None:
                network = build_network()
                load_weights(network, self._folder)
                network.eval().requires_grad_(False)

                def plain() -> ThingsNetwork:
                    return ThingsNetwork(fold_batch_norm(network.backbone, image_px=SIDE_PX), network.classify)

                _, self._run = choose_engine(
                    network, plain, [probe_photo(SIDE_PX, SIDE_PX)], name=BACKBONE,
                    key=f"things-1-{fingerprint(network)}", engine=self._engine, cache=self._cache,
                )  # fmt: skip
            return self._run
