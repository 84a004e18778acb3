"""Whether a photo holds a garment at all: what the parser's deepest map says, and, where that is unsure, a network that
knows other things too.

    own      = w . mean(map) + b
    presence = sigmoid(m . (own, log sum_{k in G} p_k, log sum_k f_k p_k) + c)

p are the classes' probabilities for the photo, f their mean over photos of garments, G those with f_k > LEAST_SHARE.
A parser trained on photos of garments sees some in a page of text or a plate of food, and is sure of them. Its deepest
map tells most of these apart all the same, but not a cat or a cup, which it was never taught. Where own >= sure it is
not asked further: most photos of garments are there, and next to nothing else.

FOLDER/presence.safetensors   weight (C,), offset (1,), sure (1,), shares (K,), mix (4,): m and c;
                              `parser` in the metadata names the weights it was fitted on
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from threadmatch.model.errors import CheckpointError

logger = logging.getLogger(__name__)

Floats = NDArray[np.float32]

PRESENCE_FILE: Final = "presence.safetensors"
LEAST_PRESENCE: Final = 0.5
"""Below it a photo is said to show no garment; c is fitted so that this is the rate of false alarms wanted."""
SURE_PRESENCE: Final = 0.93
"""From here on a picture without structure is believed to be plain cloth that fills it. Of drawn colours, gradients and
grain none has more than 0.91, of 250 close views of garments the three without structure have 0.95 and more."""
LEAST_SHARE: Final = 1e-3
"""Of a class in photos of garments, from which it speaks for one."""
LEAST_MASS: Final = 1e-6
LEAST_LIKENESS: Final = 1e-9
"""What the two sums are at least, so that their logarithms are bounded."""


@dataclass(frozen=True, slots=True, eq=False)
class Presence:
    """Fitted.

    Fields:
        weight, offset: (C,) w of the map's channels, and b.
        sure: own logit from which a photo holds a garment without further question.
        shares: (K,) f.
        mix: (4,) m and c.
    """

    weight: Floats
    offset: float
    sure: float
    shares: Floats
    mix: Floats

    def own(self, mean: Floats) -> float:
        """(C,) mean of the deepest map -> the parser's own logit."""
        return float(mean @ self.weight) + self.offset

    def __call__(self, own: float, classes: Floats) -> float:
        """The own logit and (K,) probabilities of classes -> probability that the photo holds a garment, 0..1."""
        logit = float(self.mix[:3] @ np.array([own, *said_by(classes, self.shares)])) + float(self.mix[3])
        return float(1 / (1 + np.exp(-np.clip(logit, -60, 60))))


def shows_none(presence: float | None, *, structured: bool) -> bool:
    """Whether a photo is said to show no garment.

    Args:
        presence: probability that it holds one; None where nobody can say.
        structured: see `detection.structure.has_structure`.
    """
    if presence is None:
        return not structured
    return presence < LEAST_PRESENCE or (presence < SURE_PRESENCE and not structured)


def said_by(classes: Floats, shares: Floats) -> NDArray[np.float64]:
    """(..., K) probabilities of classes and (K,) shares f -> (2, ...): the two logarithms."""
    mass = classes[..., shares > LEAST_SHARE].sum(axis=-1, dtype=np.float64)
    likeness = classes.astype(np.float64) @ shares
    return np.stack([np.log(np.maximum(mass, LEAST_MASS)), np.log(np.maximum(likeness, LEAST_LIKENESS))])


def load_presence(folder: Path, parser: str) -> Presence | None:
    """What was fitted for a parser; None where nothing was, or for other weights: then every photo counts as one of a
    garment.

    Args:
        folder: that may hold PRESENCE_FILE.
        parser: fingerprint of the parser's weights.

    Raises:
        CheckpointError: the file is damaged.
    """
    path = folder / PRESENCE_FILE
    if not path.exists():
        return None
    try:
        with safe_open(path, "numpy") as file:
            fitted_on = (file.metadata() or {}).get("parser")
            weight, offset, sure, shares, mix = (
                np.asarray(file.get_tensor(name), np.float32) for name in ("weight", "offset", "sure", "shares", "mix")
            )
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read ({error})") from error
    if fitted_on != parser:
        logger.warning(
            "presence belongs to other weights of the parser and is not used; fit it again",
            extra={"file": str(path), "command": "python -m threadmatch.model.train.parser.presence"},
        )
        return None
    return Presence(weight, float(offset[0]), float(sure[0]), shares, mix)


def save_presence(presence: Presence, folder: Path, parser: str) -> None:
    """Write PRESENCE_FILE for the parser with this fingerprint."""
    tensors = {
        "weight": presence.weight.astype(np.float32),
        "offset": np.array([presence.offset], np.float32),
        "sure": np.array([presence.sure], np.float32),
        "shares": presence.shares.astype(np.float32),
        "mix": presence.mix.astype(np.float32),
    }
    save_file(tensors, folder / PRESENCE_FILE, metadata={"parser": parser})
