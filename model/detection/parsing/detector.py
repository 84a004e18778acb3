"""A parser as a detector: a photo goes in, its garments come out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast
from weakref import WeakValueDictionary

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from threadmatch.model.backbone import Backbone
from threadmatch.model.compiling.cache import default_folder
from threadmatch.model.compiling.choosing import choose_engine
from threadmatch.model.compiling.network import probe_photo
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
)
from threadmatch.model.detection.parsing.kinds import KINDS
from threadmatch.model.detection.parsing.network import Parser, kind_probabilities
from threadmatch.model.detection.parsing.presence import Presence, load_presence, shows_none
from threadmatch.model.detection.parsing.weights import ParserConfig, fingerprint, load_parser, parser_folder
from threadmatch.model.detection.plain import plain_ground
from threadmatch.model.detection.proposals import Proposal
from threadmatch.model.detection.things.network import Things
from threadmatch.model.fusing import fold_batch_norm

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
        presence: probability that the photo holds a garment at all, 0..1; 1 where the parser is sure of it by itself,
            None where it cannot say.
    """

    garments: list[Garment]
    person: float
    plain: bool
    kept: Mask
    presence: float | None = None

    @property
    def shows_garment(self) -> bool:
        """Whether the photo holds a garment at all, as far as the parser can say."""
        return not shows_none(self.presence, structured=True)

    @property
    def shows_person(self) -> bool:
        """Whether somebody is seen; a garment that lies or hangs alone is neither cropped nor quieted."""
        return self.person >= PERSON

    @property
    def choice(self) -> Choice:
        """What to search for where nobody says."""
        return self.choice_of()

    def choice_of(self, kinds: Collection[str] = ()) -> Choice:
        """The same where the kinds of garment that are meant may be known."""
        return choose(self.garments, self.person, plain=self.plain, kinds=kinds)

    @property
    def proposals(self) -> list[Proposal]:
        """The garments, surest first, the main one before all where one is sure; none of a photo without one."""
        if not self.shows_garment:
            return []
        main = self.choice.garment
        ordered = sorted(self.garments, key=lambda garment: (garment is not main, -garment.score))
        return [Proposal(garment.box, garment.score, garment.kind) for garment in ordered]


@dataclass(frozen=True, slots=True, eq=False)
class Looked:
    """What the network gives of one photo.

    Fields:
        kinds: (K, h, w) float32 over all of the photo, summing to 1 over K.
        mean: (C,) float32, mean of the deepest map: what `presence` is fitted on.
    """

    kinds: Floats
    mean: Floats


class ParserNetwork(nn.Module):
    """A parser as one function from sized photos to kinds: what every engine computes."""

    def __init__(self, parser: Parser) -> None:
        super().__init__()
        self.parser = parser

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """(B, H, W, 3) uint8 RGB -> (B, K, h, w) float32, summing to 1 over K, and (B, C); see `Looked`."""
        maps = self.parser.encoder(pixels.permute(0, 3, 1, 2))
        kinds = kind_probabilities(self.parser.decoder(maps))
        raised = F.interpolate(kinds, scale_factor=float(FINER), mode="bilinear", align_corners=False)
        return raised, maps[-1].mean(dim=(2, 3))


class ParserDetector:
    """Finds garments with a parser. Thread-safe.

    Args:
        parser: trained; left as it is.
        config: that belongs to it.
        presence: fitted on it; None where nothing was.
        things: asked where `presence` is unsure; None for what ships.
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
        presence: Presence | None = None,
        things: Callable[[Pixels], Floats] | None = None,
        engine: str = "torch",
        cache: Path | None = None,
    ) -> None:
        self.name, self.sides_px, self._presence = config.name, config.sides_px, presence
        self.fingerprint = fingerprint(parser)
        self._things = things or Things(engine=engine, cache=cache)
        parser.eval().requires_grad_(False)

        def plain() -> ParserNetwork:
            # It asks for a backbone, but folds whatever turns photos into one tensor.
            folded = fold_batch_norm(cast(Backbone, parser), image_px=max(config.sides_px))
            return ParserNetwork(cast(Parser, folded.to(memory_format=torch.channels_last)))

        probes = [probe_photo(*config.sides_px), probe_photo(*config.sides_px[::-1])]
        self.engine, self._run = choose_engine(
            ParserNetwork(parser), plain, probes, name=f"parser {config.name}", key=f"parser-2-{self.fingerprint}",
            engine=engine, cache=cache,
        )  # fmt: skip

    def make_ready(self) -> None:
        """Read now what only some photos need, so that none of them waits for it.

        Raises:
            CheckpointError: it is missing or damaged.
        """
        if self._presence is not None and isinstance(self._things, Things):
            self._things.ready()

    def detect(self, photo: Pixels) -> list[Proposal]:
        """See `detection.Detector.detect`."""
        return self.parse(photo).proposals

    def parse(self, photo: Pixels) -> Parsing:
        """(H, W, 3) uint8 RGB to its garments, with their masks."""
        return self.read(self.look([self.sized(photo)])[0], photo)

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
        """`probabilities` of each of several photos of `sized`."""
        return [looked.kinds for looked in self.look(sized)]

    def look(self, sized: Sequence[Pixels]) -> list[Looked]:
        """What the network gives of photos of `sized`; those of one size in one call of it."""
        found: dict[int, Looked] = {}
        for shape in dict.fromkeys(photo.shape for photo in sized):
            places = [place for place, photo in enumerate(sized) if photo.shape == shape]
            kinds, means = self._run(np.stack([sized[place] for place in places]))
            found.update(
                (place, Looked(*both)) for place, both in zip(places, zip(kinds, means, strict=True), strict=True)
            )
        return [found[place] for place in range(len(sized))]

    def read(self, looked: Looked, photo: Pixels) -> Parsing:
        """What the network gave of a photo (H, W, 3), as garments."""
        kinds = looked.kinds
        likeliest = kinds.argmax(axis=0)  # (h, w)
        skin, foreground = (likeliest == KINDS.index("skin_and_hair")).sum(), (likeliest > 0).sum()
        person = float(skin / max(1, foreground))
        presence = self._shown(looked.mean, photo)
        return Parsing(find_garments(kinds), person, plain_ground(photo), kept_of_ground(kinds[0]), presence)

    def _shown(self, mean: Floats, photo: Pixels) -> float | None:
        """`Parsing.presence`; most photos of garments need no second network."""
        if self._presence is None:
            return None
        own = self._presence.own(mean)
        return 1.0 if own >= self._presence.sure else self._presence(own, self._things(photo))


_SHIPPED: Final[WeakValueDictionary[tuple[str, Path | None, int], ParserDetector]] = WeakValueDictionary()
"""The shipped parser by engine, cache and threads, while somebody has it; its files stay as they are."""
_LOADING: Final = threading.Lock()


def load_parser_detector(
    folder: str | Path = DEFAULT_PARSER, *, engine: str = "auto", cache: Path | None = None
) -> ParserDetector:
    """The detector of a parser's folder, or of a shipped one by its name.

    Who asks for the shipped one while somebody in this process has it gets that: the gallery that is opened during an
    ingestion, or each of several.

    Args:
        folder: or name.
        engine: see `ParserDetector`.
        cache: folder for converted networks; None takes the user's (`compiling.cache.default_folder`).

    Raises:
        CheckpointError: see `weights.load_parser`; the engine cannot be had.
    """
    cache = cache or default_folder()
    if str(folder) != DEFAULT_PARSER:
        return _read(folder, engine, cache)
    key = (engine, cache, torch.get_num_threads())  # whose number a converted network keeps
    with _LOADING:
        detector = _SHIPPED.get(key)
        if detector is None:
            detector = _SHIPPED[key] = _read(folder, engine, cache)
        return detector


def _read(folder: str | Path, engine: str, cache: Path | None) -> ParserDetector:
    parser, config = load_parser(folder)
    presence = load_presence(parser_folder(folder), fingerprint(parser))
    return ParserDetector(parser, config, presence=presence, engine=engine, cache=cache)
