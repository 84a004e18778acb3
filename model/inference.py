"""The model as the other rooms see it: numpy in, numpy out.

Letters  B images, S image side, R regions, C channels, N candidates
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from threadmatch.model.attributes.part import AttributesPart
from threadmatch.model.attributes.values import ValueDirections
from threadmatch.model.certainty import Certainty, first_presence, probability, says_no_match, values_of
from threadmatch.model.chain import Chain, Ranking
from threadmatch.model.checkpoint import fetch_checkpoint, fingerprints
from threadmatch.model.compiling.cache import default_folder
from threadmatch.model.config import Calibration
from threadmatch.model.descriptions import DEFAULT_MODEL, SHIPPED, shipped_models
from threadmatch.model.encoding import TorchEngine, build_engine, feature_kinds, photo_tensor, see
from threadmatch.model.errors import CheckpointError, ConfigError
from threadmatch.model.features import ATTRIBUTES, Features, FeatureSpec
from threadmatch.model.framing import Framing
from threadmatch.model.grnet import GRNet, load_checkpoint
from threadmatch.model.matchers import MatchersOf
from threadmatch.model.matching import Items, Matcher, Photo


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """What a model makes of a ranked shortlist.

    Fields:
        probabilities: (N,) of "same garment" by place, 0..1; NaN where no calibrated matcher scored the item.
        no_match_below: probability of the best match under which the garment is taken not to be there; None: never.
        absent: the last stage itself says whether the garment is not there; None: it does not tell.
    """

    probabilities: NDArray[np.float32]
    no_match_below: float | None
    absent: bool | None = None

    @property
    def says_no_match(self) -> bool:
        """Whether the garment is not there: by what the last stage tells, or since even the best is too improbable."""
        if self.absent is not None:
            return self.absent
        known = self.probabilities[~np.isnan(self.probabilities)]
        return self.no_match_below is not None and len(known) > 0 and float(known.max()) < self.no_match_below


class Model:
    """A trained network, ready to encode and to score: a `features.Encoder` with its matchers. Thread-safe.

    Args:
        network: trained; handed over, since its batch norm is folded and it moves to the device.
        device: "cpu" or "cuda".
        engine: what encodes; a name in `encoding.ENGINES`, or "auto". Converting takes seconds, so a network that is
            still being made stays with torch.
        cache: folder that keeps converted networks; None keeps none.
        fold: torch alone: fold the batch norm; False for a backbone that is folded already.

    Raises:
        CheckpointError: the engine cannot be had.

    Fields:
        matchers: by name, each made when first used.
        chain: the stages of a search behind the shortlist.
        parts: fingerprints of the parts on top of the network, by name.
        attributes: those that it knows, with what their values look like; None where it has no such part.
    """

    def __init__(
        self,
        network: GRNet,
        *,
        device: str = "cpu",
        engine: str = "torch",
        cache: Path | None = None,
        fold: bool = True,
    ) -> None:
        prints = fingerprints(network)
        self.name, self.device, self.config = network.name, device, network.config
        self.calibration: Calibration = network.calibration
        self.chain: Chain = network.chain
        self.certainty: Certainty | None = network.certainty
        for stale in [name for name, part in network.attached.items() if part.core != prints.features]:
            del network.parts[stale]  # the network was trained further: what the part reads is gone
        self.parts: Mapping[str, str] = {name: part.fingerprint for name, part in network.attached.items()}
        self.features: tuple[FeatureSpec, ...] = tuple(kind.spec(network) for kind in feature_kinds(network).values())
        part = network.attached.get(ATTRIBUTES)
        self._attributes_part = part if isinstance(part, AttributesPart) else None
        self.attributes: ValueDirections | None = (
            None if self._attributes_part is None else self._attributes_part.directions()
        )
        self._network = network.eval().requires_grad_(False)
        # Not by build_engine where nothing is to be folded: such a network is one of torch's already.
        self._engine = (
            build_engine(engine, network, device, cache) if fold else TorchEngine(network, device, fold=False)
        )
        own = f"-{self._engine.name}" if self._engine.own_numbers else ""
        self.fingerprint, self.features_fingerprint = prints.model + own, prints.features + own
        self.matchers: Mapping[str, Matcher] = MatchersOf(network, device)

    def make_matchers(self) -> None:
        """Make every matcher now: on a GPU kernels are compiled, for seconds, and no search should wait for that."""
        if self.device != "cpu":
            dict(self.matchers.items())

    @property
    def image_px(self) -> int:
        """S, side of the square images that `encode` takes."""
        side: int = self.config.image_px
        return side

    @property
    def framing(self) -> Framing:
        """How a photo becomes that square."""
        framing: Framing = self.config.framing
        return framing

    @property
    def engine(self) -> str:
        """Name of the engine that encodes."""
        return self._engine.name

    @property
    def scale_names(self) -> tuple[str, ...]:
        """The grids, such as "2x1", in the order of the regions."""
        return self.config.scales

    @functools.cached_property
    def map_grid(self) -> tuple[int, int]:
        """Rows and columns of the backbone's last map."""
        return self._network.map_grid()

    def feature(self, name: str) -> FeatureSpec:
        """The form of one feature; KeyError where the model has none of that name."""
        return {spec.name: spec for spec in self.features}[name]

    def with_scales(self, scales: tuple[str, ...]) -> Model:
        """The same backbone, neck and embedding with regions on other grids, such as ("1x1", "7x7") for the whole map.

        Its head is untrained: encode with it, don't score with it.

        Raises:
            ConfigError: the scales cannot be built.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = self._network.under(replace(self.config, scales=scales))
        return Model(network, device=self.device, fold=self.engine != TorchEngine.name)

    def make_ready(self, names: Collection[str]) -> None:
        """Be ready to encode these features alone, as whoever serves many searches wants it; takes a moment."""
        self._engine.make_ready(names)

    def encode(self, pixels: NDArray[np.uint8], names: Collection[str] | None = None) -> Features:
        """Encode prepared images.

        Args:
            pixels: (B, S, S, 3) uint8 RGB from `images.prepare_image`.
            names: of the features that are wanted; None for all. It saves work after `make_ready` alone.

        Returns:
            For each of `names`, and perhaps for others of `features`, a (B, *shape) float32 array.

        Raises:
            ValueError: another shape or type.
        """
        return self._engine.encode(pixels, names)

    @torch.inference_mode()
    def attention(self, pixels: NDArray[np.uint8], attribute: str) -> NDArray[np.float32]:
        """Where an attribute is seen.

        Args:
            pixels: (S, S, 3) uint8 RGB of one photo.
            attribute: one of `attributes`.

        Returns:
            (h, w), summing to 1.

        Raises:
            ConfigError: the model does not know the attribute.
        """
        part = self._attributes_part
        if part is None or attribute not in part.config.names:
            known = ", ".join(part.config.names) if part else "none"
            raise ConfigError(f"this model has no attribute {attribute!r}; it has {known}")
        seen = see(self._network, photo_tensor(pixels[None], self.image_px, self.device).permute(0, 3, 1, 2))
        found: NDArray[np.float32] = part.read(seen)[1][0, part.config.names.index(attribute)].float().cpu().numpy()
        return found

    def score(self, query: Photo, candidates: Items) -> NDArray[np.float32]:
        """(N,) scores of one photo by the last matcher of the chain, higher is more alike."""
        [scores] = self.matchers[self.chain[-1].matcher].score_many([query], [candidates])
        return scores

    def judge(self, ranking: Ranking, *, items: int | None = None) -> Judged:
        """How probable each item of a ranked shortlist is, and when nothing is.

        Args:
            ranking: after the chain, or a part of it.
            items: size of the gallery searched; None takes that of the gallery it was calibrated on.
        """
        sure = self.certainty if ranking.stages and ranking.stages[-1].matcher == self.chain[-1].matcher else None
        if sure is not None and len(ranking.stages) > 1:
            return self._judged(sure, ranking)
        probabilities = np.full(ranking.count, np.nan, np.float32)
        known = {name for name in set(ranking.scored_by) if name is not None and self.matchers[name].calibrated}
        by_score = [name in known for name in ranking.scored_by]
        if any(by_score):
            probabilities[by_score] = self.probability(ranking.scores[by_score], items=items)
        return Judged(probabilities, self.calibration.no_match_below)

    @staticmethod
    def _judged(sure: Certainty, ranking: Ranking) -> Judged:
        probabilities = np.full(ranking.count, np.nan, np.float32)
        places, values = values_of(ranking)
        found = probability(sure, values)
        presence = first_presence(ranking.stages[-1].scores, ranking.stages[-1].presence)
        absent = None
        if sure.presence_below is not None and presence is not None:
            absent = says_no_match(sure, found, presence)
        probabilities[places] = found
        return Judged(probabilities, sure.no_match_below or None, absent)

    def probability(self, scores: NDArray[np.float32], *, items: int | None = None) -> NDArray[np.float32]:
        """Calibrated probability of "same garment" for each score, 0..1.

        Args:
            scores: of any shape.
            items: size of the gallery searched; None takes that of the gallery it was calibrated on.
        """
        return calibrated(self.calibration, scores, items=items)


def calibrated(
    calibration: Calibration, scores: NDArray[np.float32] | NDArray[np.float64], *, items: int | None = None
) -> NDArray[np.float32]:
    """Scores to probabilities, 0..1, in a gallery of `items`; see `Calibration`."""
    logits = calibration.scale * scores.astype(np.float64) + calibration.offset + calibration.size_shift(items)
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -60, 60))), dtype=np.float32)


def load_model(
    name_or_folder: str | Path = DEFAULT_MODEL,
    *,
    device: str = "auto",
    engine: str = "auto",
    cache: Path | None = None,
    threads: int | None = None,
) -> Model:
    """Load a model by the name of a shipped one, a checkpoint folder, or a Hugging Face repository id.

    Args:
        name_or_folder: such as DEFAULT_MODEL, "runs/mine/checkpoint" or "someone/grnet".
        device: "auto" (CUDA where there is one), "cpu" or "cuda".
        engine: what encodes; a name in `encoding.ENGINES`, or "auto".
        cache: folder for converted networks; None takes the user's (`compiling.cache.default_folder`).
        threads: that one call on the CPU takes, torch's in all of this process too; None leaves it at torch's number.

    Raises:
        CheckpointError: not found, damaged, or the device or engine can't be had.
    """
    device = chosen_device(device)
    if threads is not None:
        torch.set_num_threads(threads)
    network = load_checkpoint(model_folder(str(name_or_folder)))
    return Model(network, device=device, engine=engine, cache=cache or default_folder())


def chosen_device(device: str) -> str:
    """ "cpu" or "cuda" for what was asked for; "auto" takes CUDA where there is one.

    Raises:
        CheckpointError: it is unknown or not there.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise CheckpointError(f"device {device!r} is unknown, expected auto, cpu or cuda")
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise CheckpointError("device cuda was asked for, but torch sees no CUDA device; use --device cpu")
    return device


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
