"""A parser as a detector: a photo goes in, its garments come out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from threadmatch.model.backbone import Backbone
from threadmatch.model.compiling.cache import default_folder
from threadmatch.model.compiling.network import compile_network, probe_photo
from threadmatch.model.descriptions import DEFAULT_PARSER
from threadmatch.model.detection.parsing.garments import (
    PERSON,
    Choice,
    Floats,
    Garment,
    Mask,
    choose,
    find_garments,
    kept_of_ground,
    plain_ground,
)
from threadmatch.model.detection.parsing.kinds import KINDS
from threadmatch.model.detection.parsing.network import Parser, kind_probabilities
from threadmatch.model.detection.parsing.weights import ParserConfig, fingerprint, load_parser
from threadmatch.model.detection.proposals import Proposal
from threadmatch.model.errors import CheckpointError, CompileError
from threadmatch.model.fusing import fold_batch_norm

logger = logging.getLogger(__name__)

Pixels = NDArray[np.uint8]
FINER: Final = 2
"""Probabilities are raised this many times before garments are read off them: smoother outlines, tighter boxes."""


@dataclass(frozen=True, slots=True)
class Parsing:
    """What a parser saw in a photo.

    Fields:
        garments: largest first.
        person: share of all that is not background that is skin and hair, 0..1.
        plain: the ground is plain.
        kept: (h, w) uint8 over all of the photo, 255 where it stays when its background is quieted.
    """

    garments: list[Garment]
    person: float
    plain: bool
    kept: Mask

    @property
    def shows_person(self) -> bool:
        """Whether somebody is seen; a garment that lies or hangs alone is neither cropped nor quieted."""
        return self.person >= PERSON

    @property
    def choice(self) -> Choice:
        """What to search for where nobody says."""
        return choose(self.garments, self.person, plain=self.plain)

    @property
    def proposals(self) -> list[Proposal]:
        """The garments, surest first; the main one before all where one is sure."""
        main = self.choice.garment
        ordered = sorted(self.garments, key=lambda garment: (garment is not main, -garment.score))
        return [Proposal(garment.box, garment.score, garment.kind) for garment in ordered]


class ParserNetwork(nn.Module):
    """A parser as one function from sized photos to kinds: what every engine computes."""

    def __init__(self, parser: nn.Module) -> None:
        super().__init__()
        self.parser = parser

    def forward(self, pixels: Tensor) -> tuple[Tensor]:
        """(B, H, W, 3) uint8 RGB -> (B, K, h, w) float32, summing to 1 over K."""
        kinds = kind_probabilities(self.parser(pixels.permute(0, 3, 1, 2)))
        return (F.interpolate(kinds, scale_factor=float(FINER), mode="bilinear", align_corners=False),)


class ParserDetector:
    """Finds garments with a parser. Thread-safe.

    Args:
        parser: trained; left as it is.
        config: that belongs to it.
        engine: "torch", "openvino", or "auto" for OpenVINO where it can be had.
        cache: folder that keeps converted networks; None keeps none.

    Raises:
        CheckpointError: OpenVINO was asked for by name and cannot be had.
    """

    on_model_thread = True

    def __init__(
        self,
        parser: Parser,
        config: ParserConfig,
        *,
        engine: str = "torch",
        cache: Path | None = None,
    ) -> None:
        self.name, self.sides_px = config.name, config.sides_px
        parser.eval().requires_grad_(False)
        self.engine, self._kinds = (
            ("torch", _by_torch(parser, config)) if engine == "torch" else _compiled(parser, config, engine, cache)
        )

    def detect(self, photo: Pixels) -> list[Proposal]:
        """See `detection.Detector.detect`."""
        return self.parse(photo).proposals

    def parse(self, photo: Pixels) -> Parsing:
        """(H, W, 3) uint8 RGB to its garments, with their masks."""
        return read_kinds(self.probabilities(photo), photo)

    def probabilities(self, photo: Pixels) -> Floats:
        """(H, W, 3) uint8 RGB -> (K, h, w) float32 over all of the photo, summing to 1 over K."""
        return self.probabilities_many([self.sized(photo)])[0]

    def sized(self, photo: Pixels) -> Pixels:
        """(H, W, 3) uint8 RGB, squashed to one of the two sizes that the parser sees."""
        height, width = self.sides_px if photo.shape[0] >= photo.shape[1] else self.sides_px[::-1]
        shrinks = photo.shape[0] > height or photo.shape[1] > width
        small = cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        return np.asarray(small, np.uint8)

    def probabilities_many(self, sized: Sequence[Pixels]) -> list[Floats]:
        """`probabilities` of each of several photos of `sized`; those of one size in one call of the network."""
        found: dict[int, Floats] = {}
        for shape in dict.fromkeys(photo.shape for photo in sized):
            places = [place for place, photo in enumerate(sized) if photo.shape == shape]
            found.update(zip(places, self._kinds(np.stack([sized[place] for place in places])), strict=True))
        return [found[place] for place in range(len(sized))]


def read_kinds(kinds: Floats, photo: Pixels) -> Parsing:
    """What the probabilities (K, h, w) of a photo (H, W, 3) say."""
    likeliest = kinds.argmax(axis=0)  # (h, w)
    skin, foreground = (likeliest == KINDS.index("skin_and_hair")).sum(), (likeliest > 0).sum()
    person = float(skin / max(1, foreground))
    return Parsing(find_garments(kinds), person, plain_ground(photo), kept_of_ground(kinds[0]))


def _by_torch(parser: Parser, config: ParserConfig) -> Callable[[Pixels], Floats]:
    """The parser itself: a copy with its batch norm folded."""
    # It asks for a backbone, but folds whatever turns photos into one tensor.
    folded = fold_batch_norm(cast(Backbone, parser), image_px=max(config.sides_px))
    network = ParserNetwork(folded.to(memory_format=torch.channels_last))

    @torch.inference_mode()
    def kinds(pixels: Pixels) -> Floats:
        return np.asarray(network(torch.from_numpy(pixels))[0].numpy(), np.float32)

    return kinds


def _compiled(
    parser: Parser, config: ParserConfig, engine: str, cache: Path | None
) -> tuple[str, Callable[[Pixels], Floats]]:
    """The parser as OpenVINO runs it, or torch's where that cannot be had and "auto" was asked for."""
    if engine not in ("auto", "openvino"):
        raise CheckpointError(f"engine {engine!r} is unknown to parsers, expected auto, openvino or torch")
    probes = [probe_photo(*config.sides_px), probe_photo(*config.sides_px[::-1])]
    try:
        compiled = compile_network(ParserNetwork(parser), probes, key=f"parser-{fingerprint(parser)}", cache=cache)
    except CompileError as error:
        if engine != "auto":
            raise CheckpointError(f"engine {engine} cannot run parser {config.name}: {error}") from error
        logger.warning("torch parses", extra={"parser": config.name, "reason": str(error)})
        return "torch", _by_torch(parser, config)
    return "openvino", lambda pixels: compiled(pixels)[0]


def load_parser_detector(
    folder: str | Path = DEFAULT_PARSER, *, engine: str = "auto", cache: Path | None = None
) -> ParserDetector:
    """The detector of a parser's folder, or of a shipped one by its name.

    Args:
        folder: or name.
        engine: see `ParserDetector`.
        cache: folder for converted networks; None takes the user's (`compiling.cache.default_folder`).

    Raises:
        CheckpointError: see `weights.load_parser`; the engine cannot be had.
    """
    return ParserDetector(*load_parser(folder), engine=engine, cache=cache or default_folder())
