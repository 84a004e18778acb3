"""What multi-granular alignment gives on a labelled set: beside other matchers, in a chain, and with parts left out.

    python -m threadmatch.model.evaluate.alignment_report CHECKPOINT [FURTHER ...] \\
        --gallery-csv gallery.csv --query-csv queries.csv --out report.json

CHECKPOINT is a model with the part. Rows without the FGA (the windows that it began with) and without the ATA (each
slot with the one at its place) are of the same weights; so is each granularity alone. FURTHER are other trainings of
the part on the same core, each a row by its folder's name. Rates and paired gains with 95 % intervals, of all queries
and by setup.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from threadmatch.model.alignment.config import SLOT_MAPS, SLOTS
from threadmatch.model.alignment.part import AlignmentPart
from threadmatch.model.chain import STAGE_ONE
from threadmatch.model.coded import floats
from threadmatch.model.data.encoded import EncodedSet, encode_images
from threadmatch.model.data.pairs import LabelledImage, read_labelled
from threadmatch.model.errors import ConfigError
from threadmatch.model.evaluate.evaluation import gains
from threadmatch.model.evaluate.metrics import rates
from threadmatch.model.evaluate.ranking import Method, alone, rank_encoded
from threadmatch.model.features import CELLS, EMBEDDING
from threadmatch.model.grnet import load_checkpoint
from threadmatch.model.inference import Model, model_folder
from threadmatch.model.matching import Items, Matcher, Photo
from threadmatch.model.mga_matcher import MGAEmbeddingMatcher, MGAMatcher
from threadmatch.model.progress import Progress, unheard

MGA: Final = "mga"
DEPTH: Final = 16
"""Items that a graph orders behind another stage."""


class LevelMatcher:
    """One granularity alone: what each of them knows."""

    needs = frozenset({SLOTS})
    calibrated = False
    explains = False
    pointwise = True
    cost = 0.02

    def __init__(self, part: AlignmentPart, level: int) -> None:
        self.part, self.level = part, level
        self.name = f"mga {part.config.sides[level]}x{part.config.sides[level]}"

    @torch.inference_mode()
    def score_many(self, queries: Sequence[Photo], candidates: Sequence[Items]) -> list[NDArray[np.float32]]:
        """See `Matcher.score_many`."""
        found = []
        for query, items in zip(queries, candidates, strict=True):
            photo, shown = (torch.from_numpy(np.asarray(of[SLOTS], np.float32)) for of in (query, items))
            found.append(self.part.alignment.levels(photo[None], shown)[self.level, 0].numpy())
        return found


class OtherMatcher:
    """Another training of the part, whose slots stand under names of their own."""

    calibrated = False
    explains = False
    pointwise = True
    cost = 0.02

    def __init__(self, name: str, matcher: MGAMatcher) -> None:
        self.name, self.matcher = name, matcher
        self.needs = frozenset({EMBEDDING, f"{name}:{SLOTS}"})

    def score_many(self, queries: Sequence[Photo], candidates: Sequence[Items]) -> list[NDArray[np.float32]]:
        """See `Matcher.score_many`."""

        def own(of: Photo | Items) -> Photo:
            return {EMBEDDING: floats(of[EMBEDDING]), SLOTS: floats(of[f"{self.name}:{SLOTS}"])}

        return self.matcher.score_many([own(query) for query in queries], [own(items) for items in candidates])


def measure(
    checkpoint: str,
    gallery: Sequence[LabelledImage],
    queries: Sequence[LabelledImage],
    *,
    further: Sequence[Path] = (),
    cache: Path | None = None,
    progress: Progress = unheard,
) -> dict[str, Any]:
    """Rank by everything that is to be compared.

    Args:
        checkpoint: name or folder of a model with the part.
        gallery, queries: labelled photos.
        further: checkpoints with other trainings of the part, of the same core.
        cache: folder for features.
        progress: hears how far it is.

    Returns:
        {"methods": {name: rates}, "by_setup": {setup: {"queries", name: rates}}, "gain_of_mga_over": {name: gains},
        "gain_of_chain": {"mga > sparse over dense > sparse": gains, ...}}.

    Raises:
        ConfigError: a checkpoint has no such part, or one of another core.
    """
    network = load_checkpoint(model_folder(checkpoint))
    bare = load_checkpoint(model_folder(checkpoint))
    bare.parts.clear()  # its features are cached under the core's name, and serve every part
    core = Model(bare)
    part = _part(network.attached, checkpoint)
    shop, street = (
        _with_slots(encode_images(core, images, cache=cache, progress=progress), part, "")
        for images in (gallery, queries)
    )
    methods, others = _methods(core, part), _left_out(part)
    for path in further:
        others[path.name] = trained = _part(load_checkpoint(path).attached, str(path))
        if trained.core != part.core:
            raise ConfigError(f"{path} has a part of features {trained.core}, {checkpoint} one of {part.core}")
    for name, other in others.items():
        shop, street = (_with_slots(side, other, f"{name}:") for side in (shop, street))
        methods[name] = alone(OtherMatcher(name, MGAMatcher(other)))
    ranked = rank_encoded(shop, street, methods, candidates=200, progress=progress)
    ranks = {name: ranked.ranks(name) for name in ranked.orders}
    return {"gallery": len(gallery), "part": part.fingerprint, **_figures(ranks, [image.setup for image in queries])}


def _figures(ranks: Mapping[str, NDArray[np.int64]], labels: Sequence[str]) -> dict[str, Any]:
    """What `measure` says of first-hit ranks, each query with the label of its setup."""
    setups = np.asarray(labels)
    chains = (("dense>sparse", "mga>sparse"), ("dense>sparse", "mga>dense>sparse"))
    return {
        "queries": len(setups),
        "methods": {name: rates(own) for name, own in ranks.items()},
        "by_setup": {
            setup: {"queries": int((setups == setup).sum())}
            | {name: rates(own[setups == setup]) for name, own in ranks.items()}
            for setup in sorted(set(labels))
        },
        "gain_of_mga_over": _gains(ranks, setups),
        "gain_of_chain": {
            f"{after} over {before}": gains(ranks[before], ranks[after]) for before, after in chains if before in ranks
        },
    }


def _gains(ranks: Mapping[str, NDArray[np.int64]], setups: NDArray[np.str_]) -> dict[str, Any]:
    """Of `mga` over each other method, all queries and each setup: top-1 and mean reciprocal rank."""
    wheres = {"all": np.ones(len(setups), bool), **{setup: setups == setup for setup in sorted(set(setups.tolist()))}}
    return {
        name: {where: gains(own[at], ranks[MGA][at]) for where, at in wheres.items()}
        for name, own in ranks.items()
        if name != MGA
    }


def _left_out(part: AlignmentPart) -> dict[str, AlignmentPart]:
    """The same weights with a module left out, and none of them."""
    fresh = AlignmentPart(part.config)
    begun = {name: value for name, value in fresh.state_dict().items() if name.startswith("aggregator.")}
    kept = ("departure",)  # windows and looks go back to where they began; the projection of a slot stays
    begun = {name: value for name, value in begun.items() if not name.endswith(kept)}
    without_fga, without_ata = (
        AlignmentPart(replace(part.config, alignment=alignment)) for alignment in (part.config.alignment, "same_slot")
    )
    without_fga.load_state_dict({**part.state_dict(), **begun})
    without_ata.load_state_dict(part.state_dict())
    return {"mga without FGA": without_fga, "mga without ATA": without_ata, "mga untrained": fresh}


def _part(attached: Mapping[str, Any], checkpoint: str) -> AlignmentPart:
    part = attached.get(AlignmentPart.name)
    if not isinstance(part, AlignmentPart):
        raise ConfigError(f"{checkpoint} has no part {AlignmentPart.name!r}; it has {', '.join(attached) or 'none'}")
    return part


@torch.inference_mode()
def _with_slots(side: EncodedSet, part: AlignmentPart, prefix: str) -> EncodedSet:
    """A set with a part's slots, as a gallery keeps them."""
    spec = part.specs[0]
    made = [
        part.aggregator(torch.from_numpy(np.asarray(cells, np.float32)))[0].numpy()
        for cells in np.array_split(side.features[CELLS], max(1, len(side.images) // 512))
    ]
    slots = spec.unpack([spec.pack(one) for one in np.concatenate(made)]).astype(np.float16)
    return side.having(**{f"{prefix}{SLOTS}": slots})


def _methods(core: Model, part: AlignmentPart) -> dict[str, Method]:
    """Everything beside `mga`, and the chains that it could be a stage of."""
    mga: Matcher = MGAMatcher(part)
    mga.needs = mga.needs - {SLOT_MAPS}  # they only explain
    has = core.matchers
    methods: dict[str, Method] = {name: alone(has[name]) for name in ("greedy", "dense") if name in has}
    methods[MGA] = alone(mga)
    methods["mga_embedding"] = alone(MGAEmbeddingMatcher(part), whole=True)
    methods |= {one.name: alone(one) for n in range(len(part.config.sides)) for one in [LevelMatcher(part, n)]}
    if "dense" in has:
        methods["dense>grnet"] = Method(((has["dense"], None), (has["grnet"], DEPTH)))
    if "sparse" in has and "dense" in has:
        methods["dense>sparse"] = Method(((has["dense"], None), (has["sparse"], DEPTH)))
        methods["mga>sparse"] = Method(((mga, None), (has["sparse"], DEPTH)))
        methods["mga>dense>sparse"] = Method(((mga, None), (has["dense"], 4 * DEPTH), (has["sparse"], DEPTH)))
    assert STAGE_ONE not in methods
    return methods


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Multi-granular alignment beside the other matchers.")
    parser.add_argument("checkpoint")
    parser.add_argument("further", nargs="*", type=Path)
    parser.add_argument("--gallery-csv", type=Path, required=True)
    parser.add_argument("--query-csv", type=Path, required=True)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    found = measure(
        given.checkpoint,
        read_labelled(given.gallery_csv),
        read_labelled(given.query_csv),
        further=given.further,
        cache=given.cache,
    )
    given.out.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found["methods"]))


if __name__ == "__main__":
    main()
