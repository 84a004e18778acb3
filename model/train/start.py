"""Training that begins with a trained model: which settings that leaves open, and what the model gained by it."""

from __future__ import annotations

import logging
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from threadmatch.model.chain import Stage
from threadmatch.model.config import GRNetConfig
from threadmatch.model.data.sets import LabelledSet
from threadmatch.model.descriptions import SHIPPED, read_description, shipped_models
from threadmatch.model.errors import ConfigError, DataError
from threadmatch.model.evaluate.evaluation import EvaluationSettings, compare, rank
from threadmatch.model.evaluate.metrics import rates
from threadmatch.model.evaluate.ranking import FINAL, Rankings
from threadmatch.model.evaluate.recalibrate import recalibrate
from threadmatch.model.features import REGIONS
from threadmatch.model.grnet import GRNet, load_checkpoint
from threadmatch.model.inference import load_model
from threadmatch.model.progress import Progress, unheard

logger = logging.getLogger(__name__)

CHECKPOINT, WORSE = "checkpoint", "worse-than-start"
"""Folders of a run: its model, and where that goes if it ranks `val` worse than the one it began with."""
HEAD_ITEMS = 16
"""Of the best that the stages before hand on, GRNet's head reorders so many."""
FREE = ("dropout",)
"""Settings of [model] that a run may change, since no trained tensor depends on them."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A trained model beside the one it began with, on `val`, each by its whole chain.

    Fields:
        start: the model it began with.
        before, after: top-1 and mean reciprocal rank, 0..1.
        gain: after less before by query with a 95 % interval, by rate, as `evaluation.gains` gives it.
    """

    start: str
    before: dict[str, float]
    after: dict[str, float]
    gain: dict[str, dict[str, float]]

    @property
    def worse(self) -> bool:
        """Whether the right item comes later than before, in the mean."""
        return self.gain["mrr"]["mean"] < 0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {**asdict(self), "worse": self.worse}


def start_folder(name: str, beside: Path) -> Path:
    """The folder of the model that a recipe begins with.

    Args:
        name: of a model that ships, or a folder, from the recipe's own.
        beside: the recipe's folder.

    Raises:
        ConfigError: there is no such model.
    """
    if name in shipped_models():
        return SHIPPED / name
    if not (beside / name).is_dir():
        raise ConfigError(
            f"start = {name!r} is no model: expected {' or '.join(shipped_models())}, or a checkpoint's folder; there "
            f"is no {beside / name}"
        )
    return beside / name


def started_config(folder: Path, given: dict[str, Any]) -> GRNetConfig:
    """The settings of the model that is begun with, and what the recipe changes of them.

    Args:
        folder: of its checkpoint.
        given: [model] of the recipe.

    Raises:
        ConfigError: the recipe wants another network than that model is. CheckpointError: no checkpoint.
    """
    own: GRNetConfig = read_description(folder)["model"]
    asked = GRNetConfig.from_dict({**own.to_dict(), **given})
    before, after = own.to_dict(), asked.to_dict()
    other = [f"{name} = {after[name]!r} (the model has {before.get(name)!r})" for name in after
             if after[name] != before.get(name) and name not in FREE]  # fmt: skip
    if other:
        raise ConfigError(
            f"[model] asks for {', '.join(other)}, which its weights are not of; leave [model] out, or leave `start` "
            "out and train from ImageNet's weights"
        )
    features = own.features if REGIONS in own.features else (*own.features, REGIONS)  # what the head reads
    return replace(own, features=features, **{name: getattr(asked, name) for name in FREE})


def give_head(network: GRNet, config: GRNetConfig) -> None:
    """Let a network have the settings of `started_config`; one that had no use for a head yet now ends with it."""
    if REGIONS not in network.config.features:
        network.chain = (*network.chain, Stage("grnet", HEAD_ITEMS))
    network.config = network.head.config = config
    network.head.dropout.p = config.dropout


def compared_with_start(
    start: Path, checkpoint: Path, val: LabelledSet, *, cache: Path, progress: Progress = unheard
) -> Comparison:
    """Rank `val` by both models; where the chain says how sure it is, that is fitted to the new features first.

    Args:
        start, checkpoint: folders; `checkpoint` is written anew where its certainty is fitted.
        val: pairs that neither was trained on.
        cache: folder for features.
        progress: hears how far it is.
    """
    if load_checkpoint(checkpoint).certainty is not None:
        try:
            recalibrate(str(checkpoint), val.gallery, val.queries, out=checkpoint, cache=cache, progress=progress)
        except DataError as error:
            logger.warning("how sure a match is stays as the model had it that was begun with: %s", error)

    def ranked(folder: Path) -> Rankings:
        settings = EvaluationSettings(methods=(FINAL,), exhaustive=False, cache=cache)
        return rank(load_model(str(folder)), val.gallery, val.queries, settings=settings, progress=progress)

    before, after = ranked(start), ranked(checkpoint)
    return Comparison(start.name, _rates(before), _rates(after), compare(before, after))


def settled(
    start: Path, run: Path, val: LabelledSet, *, force: bool = False, progress: Progress = unheard
) -> dict[str, Any]:
    """Compare a run's model with the one it began with; a worse one is kept, but not as the run's checkpoint.

    Args:
        start: folder of that model.
        run: folder with CHECKPOINT; a worse model is in WORSE afterwards.
        val: as `compared_with_start`.
        force: keep a worse one as the checkpoint all the same.
        progress: hears how far it is.

    Returns:
        What the run's result says of it: "checkpoint", "fingerprint" and "compared_with_start".
    """
    folder = run / CHECKPOINT
    found = compared_with_start(start, folder, val, cache=run / "features", progress=progress)
    shutil.rmtree(run / WORSE, ignore_errors=True)
    if found.worse and not force:
        folder = folder.rename(run / WORSE)
    fingerprint = read_description(folder)["fingerprint"]
    return {"checkpoint": str(folder), "fingerprint": fingerprint, "compared_with_start": found.to_dict()}


def _rates(rankings: Rankings) -> dict[str, float]:
    measured = rates(rankings.ranks(FINAL))
    return {name: measured[name] for name in ("top1", "mrr")}
