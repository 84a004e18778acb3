"""A parser as a detector: a photo goes in, its garments come out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from threadmatch.model.backbone import Backbone
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
from threadmatch.model.detection.parsing.presence import LEAST_PRESENCE, Presence, load_presence
from threadmatch.model.detection.parsing.weights import WEIGHTS_FILE, ParserConfig, load_parser, parser_folder
from threadmatch.model.detection.proposals import Proposal
from threadmatch.model.fusing import fold_batch_norm

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
        presence: probability that the photo holds a garment at all, 0..1; 1 where the parser cannot say.
    """

    garments: list[Garment]
    person: float
    plain: bool
    kept: Mask
    presence: float = 1.0

    @property
    def shows_garment(self) -> bool:
        """Whether the photo holds a garment at all, as far as the parser can say."""
        return self.presence >= LEAST_PRESENCE

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
        """The garments to choose from: the main one first where one is sure, then the surest."""
        main = self.choice.garment
        ordered = sorted(self.garments, key=lambda garment: (garment is not main, -garment.score))
        return [Proposal(garment.box, garment.score, garment.kind) for garment in ordered]


class ParserDetector:
    """Finds garments with a parser. Thread-safe.

    Args:
        parser: trained; left as it is, since a copy with its batch norm folded computes.
        config: that belongs to it.
        presence: fitted on it; None where nothing was.
    """

    on_model_thread = True

    def __init__(self, parser: Parser, config: ParserConfig, presence: Presence | None = None) -> None:
        self.name, self._sides, self._presence = config.name, config.sides_px, presence
        # It asks for a backbone, but folds whatever turns photos into one tensor.
        folded = fold_batch_norm(cast(Backbone, parser.eval().requires_grad_(False)), image_px=max(config.sides_px))
        self._parser = cast(Parser, folded.to(memory_format=torch.channels_last))

    def detect(self, photo: NDArray[np.uint8]) -> list[Proposal]:
        """See `detection.Detector.detect`; the main garment comes first where one is sure."""
        parsing = self.parse(photo)
        return parsing.proposals if parsing.shows_garment else []

    def parse(self, photo: NDArray[np.uint8]) -> Parsing:
        """(H, W, 3) uint8 RGB to its garments, with their masks."""
        kinds, mean = self._seen(photo)
        likeliest = kinds.argmax(axis=0)  # (h, w)
        skin, foreground = (likeliest == KINDS.index("skin_and_hair")).sum(), (likeliest > 0).sum()
        person = float(skin / max(1, foreground))
        presence = 1.0 if self._presence is None else self._presence(mean)
        return Parsing(find_garments(kinds), person, plain_ground(photo), kept_of_ground(kinds[0]), presence)

    def probabilities(self, photo: NDArray[np.uint8]) -> Floats:
        """(H, W, 3) uint8 RGB -> (K, h, w) float32 over all of the photo, summing to 1 over K."""
        return self._seen(photo)[0]

    def deepest(self, photo: NDArray[np.uint8]) -> Floats:
        """(H, W, 3) uint8 RGB -> (C,) float32, mean of the deepest map: what `presence` is fitted on."""
        return self._seen(photo)[1]

    @torch.inference_mode()
    def _seen(self, photo: NDArray[np.uint8]) -> tuple[Floats, Floats]:
        height, width = self._sides if photo.shape[0] >= photo.shape[1] else self._sides[::-1]
        shrinks = photo.shape[0] > height or photo.shape[1] > width
        small = cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        pixels = torch.from_numpy(np.ascontiguousarray(small)).permute(2, 0, 1)[None]  # (1, 3, H, W)
        maps = self._parser.encoder(pixels)
        kinds = kind_probabilities(self._parser.decoder(maps))
        raised = F.interpolate(kinds, scale_factor=float(FINER), mode="bilinear", align_corners=False)
        mean = maps[-1][0].mean(dim=(1, 2))
        return np.asarray(raised[0].numpy(), np.float32), np.asarray(mean.numpy(), np.float32)


def load_parser_detector(folder: str | Path = DEFAULT_PARSER) -> ParserDetector:
    """The detector of a parser's folder, or of a shipped one by its name.

    Raises:
        CheckpointError: see `weights.load_parser`.
    """
    parser, config = load_parser(folder)
    place = parser_folder(folder)
    return ParserDetector(parser, config, load_presence(place, place / WEIGHTS_FILE))
