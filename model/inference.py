"""The model as the other rooms see it: numpy in, numpy out.

Letters  B images, S image side, E embedding size, R regions, C channels, N candidates
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from threadmatch.model.checkpoint import fetch_checkpoint, fingerprints, load_checkpoint
from threadmatch.model.config import Calibration
from threadmatch.model.descriptions import DEFAULT_MODEL, SHIPPED, shipped_models
from threadmatch.model.engine import Engine
from threadmatch.model.errors import CheckpointError
from threadmatch.model.explain import Explanation, Side, explain, grad_cam, region_heat
from threadmatch.model.fusing import fold_batch_norm
from threadmatch.model.grnet import GRNet
from threadmatch.model.pyramid import region_boxes

Floats = NDArray[np.float16] | NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Features:
    """What a gallery keeps of an image: (B, E) float32 unit embeddings and (B, R, C) float32 regions."""

    embeddings: NDArray[np.float32]
    regions: NDArray[np.float32]


class Model:
    """A trained network, ready to encode and to score. Thread-safe.

    Args:
        network: trained; handed over, since its batch norm is folded and it moves to the device.
        device: "cpu" or "cuda".
        fold: fold the batch norm; False for a backbone that is folded already.
    """

    def __init__(self, network: GRNet, *, device: str = "cpu", fold: bool = True) -> None:
        prints = fingerprints(network)
        self.name = network.name
        self.device = device
        self.fingerprint, self.features_fingerprint = prints.model, prints.features
        self.config = network.config
        self.calibration = network.calibration
        self._network = network.eval().requires_grad_(False)
        if fold:
            self._network.backbone = fold_batch_norm(network.backbone, image_px=self.image_px)
        self._network.to(device)
        self._network.to(memory_format=torch.channels_last)
        self._engine = Engine(network.head, device=device)
        side = self.image_px
        blank = torch.zeros(1, 3, side, side, dtype=torch.uint8, device=device)
        rows, columns = self._network.backbone(blank).shape[2:]
        self.map_grid: tuple[int, int] = (rows, columns)
        self._region_boxes = region_boxes(self.config.grids, rows, columns).numpy()
        self._region_cells = np.rint(self._region_boxes * (columns, rows, columns, rows)).astype(np.int64)

    @property
    def image_px(self) -> int:
        """S, side of the square images that `encode` takes."""
        side: int = self.config.image_px
        return side

    @property
    def embedding_dim(self) -> int:
        """E."""
        return self._network.embedding_dim

    @property
    def regions_shape(self) -> tuple[int, int]:
        """R and C of one image's regions."""
        return self.config.regions, self._network.region_channels

    @property
    def scale_names(self) -> tuple[str, ...]:
        """The grids, such as "2x1", in the order of the regions."""
        return self.config.scales

    def region_boxes(self) -> NDArray[np.float32]:
        """(R, 4) x0, y0, x1, y1 of each region in 0..1 of the crop."""
        return self._region_boxes

    def with_scales(self, scales: tuple[str, ...]) -> Model:
        """The same backbone, neck and embedding with regions on other grids, such as ("1x1", "7x7") for the whole map.

        Its head is untrained: encode with it, don't score with it.

        Raises:
            ConfigError: the scales cannot be built.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = GRNet(replace(self.config, scales=scales), backbone=self._network.backbone)
        network.neck, network.embedding, network.name = self._network.neck, self._network.embedding, self.name
        return Model(network, device=self.device, fold=False)

    @torch.inference_mode()
    def encode(self, pixels: NDArray[np.uint8]) -> Features:
        """Encode prepared images.

        Args:
            pixels: (B, S, S, 3) uint8 RGB from `images.prepare_image`.

        Raises:
            ValueError: another shape or type.
        """
        embedding, regions = self._network.features(self._images(pixels))
        return Features(embedding.cpu().numpy(), regions.contiguous().cpu().numpy())

    def score(self, query: Floats, candidates: Floats) -> NDArray[np.float32]:
        """Score one query against its candidates.

        Args:
            query: (R, C) regions.
            candidates: (N, R, C) regions.

        Returns:
            (N,) logits, higher is more alike; any real number.
        """
        return self.score_many([query], [candidates])[0]

    def score_many(self, queries: Sequence[Floats], candidates: Sequence[Floats]) -> list[NDArray[np.float32]]:
        """`score` for several queries at once, sharing the model's batches."""
        scored = self._engine.score_many([_tensor(q) for q in queries], [_tensor(c) for c in candidates])
        return [scores.numpy() for scores in scored]

    def greedy_many(self, queries: Sequence[Floats], candidates: Sequence[Floats]) -> list[NDArray[np.float32]]:
        """Greedy local matching (Eq. 2, 3) in place of the graph: (N,) mean cosines, -1..1, for each query."""
        scored = self._engine.greedy_many([_tensor(q) for q in queries], [_tensor(c) for c in candidates])
        return [scores.numpy() for scores in scored]

    def probability(self, scores: NDArray[np.float32], *, items: int | None = None) -> NDArray[np.float32]:
        """Calibrated probability of "same garment" for each score, 0..1.

        Args:
            scores: of any shape.
            items: size of the gallery searched; None takes that of the gallery it was calibrated on.
        """
        return calibrated(self.calibration, scores, items=items)

    @torch.inference_mode()
    def evidence(self, query: Floats, candidates: Floats, *, top: int = 5) -> list[Explanation]:
        """The region pairs that decided each score (paper sec. 5.3); see `model.explain`.

        Args:
            query: (R, C) regions.
            candidates: (N, R, C) regions; a few, since this runs the literal form.
            top: pairs a candidate.

        Returns:
            For each candidate its pairs, heaviest first.
        """
        if not len(candidates):
            return []
        return explain(self._network.head, *self._pair(query, candidates), top=top)

    @torch.inference_mode()
    def region_heat(self, query: Floats, candidates: Floats) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Where the two photos of each pair speak for the match.

        Args:
            query: (R, C) regions.
            candidates: (N, R, C) regions; a few, since this runs the literal form.

        Returns:
            (N, h, w) of the query and (N, h, w) of the item, on the feature map, 0 or more.
        """
        cells = torch.from_numpy(self._region_cells)
        of_query, of_item = region_heat(self._network.head, *self._pair(query, candidates), cells)
        return of_query.cpu().numpy(), of_item.cpu().numpy()

    def grad_cam(self, pixels: NDArray[np.uint8], other: Floats, *, side: Side) -> NDArray[np.float32]:
        """Grad-CAM of the score on the last feature map, (h, w), 0 or more.

        Args:
            pixels: (S, S, 3) uint8 RGB of the photo to paint, from `images.prepare_image`.
            other: (R, C) regions of the other photo.
            side: which of the two `pixels` is.
        """
        images = self._images(pixels[None])
        regions = _tensor(other).to(self.device, torch.float32)[None]
        return grad_cam(self._network, images, regions, side)[0].float().cpu().numpy()

    def _images(self, pixels: NDArray[np.uint8]) -> Tensor:
        """(B, S, S, 3) checked -> (B, 3, S, S)."""
        side = self.image_px
        if pixels.dtype != np.uint8 or pixels.shape[1:] != (side, side, 3):
            raise ValueError(f"pixels are {pixels.dtype} {pixels.shape}, expected uint8 (B, {side}, {side}, 3)")
        return _tensor(np.ascontiguousarray(pixels)).to(self.device).permute(0, 3, 1, 2)

    def _pair(self, query: Floats, candidates: Floats) -> tuple[Tensor, Tensor]:
        """(R, C), (N, R, C) -> (N, R, C) twice, float32 on the device."""
        gallery = _tensor(candidates).to(self.device, torch.float32)
        return _tensor(query).to(self.device, torch.float32)[None].expand(len(gallery), -1, -1), gallery


def calibrated(
    calibration: Calibration, scores: NDArray[np.float32] | NDArray[np.float64], *, items: int | None = None
) -> NDArray[np.float32]:
    """Scores to probabilities, 0..1, in a gallery of `items`; see `Calibration`."""
    logits = calibration.scale * scores.astype(np.float64) + calibration.offset + calibration.size_shift(items)
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -60, 60))), dtype=np.float32)


def load_model(name_or_folder: str | Path = DEFAULT_MODEL, *, device: str = "auto") -> Model:
    """Load a model by the name of a shipped one, a checkpoint folder, or a Hugging Face repository id.

    Args:
        name_or_folder: such as DEFAULT_MODEL, "runs/mine/checkpoint" or "someone/grnet".
        device: "auto" (CUDA where there is one), "cpu" or "cuda".

    Raises:
        CheckpointError: not found, damaged, or the device can't be had.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise CheckpointError(f"device {device!r} is unknown, expected auto, cpu or cuda")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise CheckpointError("device cuda was asked for, but torch sees no CUDA device; use --device cpu")
    network = load_checkpoint(model_folder(str(name_or_folder)))
    return Model(network, device=device)


def model_folder(name: str) -> Path:
    """The checkpoint folder that `load_model` reads under this name.

    Raises:
        CheckpointError: there is none, here or on the hub.
    """
    if name in shipped_models():
        return SHIPPED / name
    try:
        return fetch_checkpoint(name)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; shipped with threadmatch: {', '.join(shipped_models()) or 'none'}") from error


def _tensor(values: Floats | NDArray[np.uint8]) -> Tensor:
    """Wrap without a copy, but for read-only arrays, such as those over a database's bytes: torch warns of them."""
    return torch.from_numpy(values if values.flags.writeable else values.copy())
