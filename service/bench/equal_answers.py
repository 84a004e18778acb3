"""Whether two ways to compute answer alike: torch against the engine that serves, floats against whole numbers.

    OMP_NUM_THREADS=1 python -m threadmatch.service.bench.equal_answers GALLERY PHOTOS [--count 1000]

Each photo of the folder is searched in each way, over the same gallery. Answers are compared match by match: where they
differ, by how much the scores of what changed places lie apart, which says whether it was a tie. Gathering the cells of
200 items and matching them is timed besides, with floats and with whole numbers in turns.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np

from threadmatch.indexer.reading.gallery import Gallery
from threadmatch.model.dense import DenseMatcher
from threadmatch.model.descriptions import DEFAULT_MODEL
from threadmatch.model.features import CELLS
from threadmatch.model.inference import Model, load_model
from threadmatch.model.matching import Matcher
from threadmatch.service.client.calls import SearchFields
from threadmatch.service.galleries.local import LocalGallery
from threadmatch.service.http.schemas.search import MAX_TOP_K

Answer: TypeAlias = Sequence[tuple[str, float]]
"""Matches, best first: id and score."""
PLAIN: Final = "torch, floats"
"""What the others are compared with."""
_SAME: Final[SearchFields] = {"box": "none", "group_by": "item", "collapse_duplicates": False}
SEARCHES: Final[dict[str, SearchFields]] = {
    "the chain, first ten": {**_SAME, "top_k": 10},
    "the dense match, first hundred": {**_SAME, "top_k": MAX_TOP_K, "matcher": "dense"},
}
"""One scale of scores each."""


@dataclass(frozen=True, slots=True)
class Equal:
    """How like two ways' answers are.

    Fields:
        photos: searched.
        first_equal, all_equal: photos whose first match is the same one, and whose matches all are, in the same order.
        apart_at_most: largest difference of the scores, one way's own, of two items that stand the other way round in
            the other's answer; 0 where none do.
        scores_apart_at_most: largest difference of one item's scores between the two.
    """

    photos: int
    first_equal: int
    all_equal: int
    apart_at_most: float
    scores_apart_at_most: float


def compare(ours: Sequence[Answer], theirs: Sequence[Answer]) -> Equal:
    """Two ways' answers to the same photos."""
    apart = scores_apart = 0.0
    for one, other in zip(ours, theirs, strict=True):
        own, others = dict(one), dict(other)
        scores_apart = max([scores_apart, *(abs(own[name] - others[name]) for name in own.keys() & others.keys())])
        for (name, score), (instead, _) in zip(one, other, strict=True):
            if name != instead:  # one that is missing stands behind the last
                apart = max(apart, abs(score - own.get(instead, one[-1][1])))
    return Equal(
        len(ours),
        sum(one[0][0] == other[0][0] for one, other in zip(ours, theirs, strict=True)),
        sum([name for name, _ in one] == [name for name, _ in other] for one, other in zip(ours, theirs, strict=True)),
        apart,
        scores_apart,
    )


def _unexplained() -> tuple[int, int]:
    raise AssertionError("the grid of cells is asked for by explanations, and nothing is explained here")


def ways(model: str, engine: str) -> dict[str, Model]:
    """A model in each way to compute: torch with floats, the engine with floats, and both as they serve."""
    plain, other, serving = load_model(model, engine="torch"), load_model(model, engine=engine), load_model(model)
    for one in (plain, other):
        floats: dict[str, Matcher] = {"dense": DenseMatcher(_unexplained, device=one.device, in_bytes=False)}
        one.matchers = {**one.matchers, **(floats if "dense" in one.matchers else {})}
    return {PLAIN: plain, f"{other.engine}, floats": other, f"{serving.engine}, whole numbers": serving}


def measure(gallery: Path, photos: Sequence[Path], *, model: str, engine: str = "auto") -> dict[str, dict[str, Equal]]:
    """Search for the photos in each way, and compare with `PLAIN`.

    Args:
        gallery: folder.
        photos: at least one.
        model: of the gallery.
        engine: other than torch.

    Returns:
        By way, and by what of SEARCHES was searched.
    """
    answers: dict[str, dict[str, list[Answer]]] = {}
    for way, made in ways(model, engine).items():
        with LocalGallery(gallery, model=made) as opened:
            answers[way] = {
                search: [_answer(opened, photo, fields) for photo in photos]
                for search, fields in SEARCHES.items()
                if fields.get("matcher", made.chain[-1].matcher) in made.matchers
            }
    plain = answers.pop(PLAIN)
    return {
        way: {search: compare(plain[search], found) for search, found in by_search.items()}
        for way, by_search in answers.items()
    }


def _answer(gallery: LocalGallery, photo: Path, fields: SearchFields) -> Answer:
    found = gallery.search(photo, **fields)
    return [(match.id, -match.distance if match.score is None else match.score) for match in found.matches]


def match_ms(gallery: Path, *, candidates: int = 200, rounds: int = 60) -> dict[str, dict[str, float]]:
    """Processor time of this thread to gather cells and match them densely, ms: best and median, by way, in turns.

    Args:
        gallery: whose model keeps cells.
        candidates: items.
        rounds: of each way.
    """
    took: dict[str, list[float]] = {"floats": [], "whole numbers": []}
    with contextlib.closing(Gallery.open(gallery)) as opened:
        snapshot, random = opened.current, np.random.default_rng(0)
        for _ in range(rounds):
            vector = random.standard_normal(opened.manifest.embedding_dim).astype(np.float32)
            found = snapshot.shortlist(vector / np.linalg.norm(vector), candidates)
            photo = {CELLS: snapshot.features(CELLS, found[-1:])[0]}
            for way, gather, in_bytes in (
                ("floats", snapshot.features, False),
                ("whole numbers", snapshot.stored_features, None),
            ):
                started = time.thread_time()
                matcher = DenseMatcher(_unexplained, in_bytes=in_bytes)
                matcher.score_many([photo], [{CELLS: gather(CELLS, found)}])
                took[way].append(1000 * (time.thread_time() - started))
    return {
        way: {"best": round(min(each), 2), "median": round(statistics.median(each), 2)} for way, each in took.items()
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Whether two ways to compute give the same answers.")
    parser.add_argument("gallery", type=Path, help="folder of a gallery")
    parser.add_argument("photos", type=Path, help="folder of photos")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="that made the gallery")
    parser.add_argument("--count", type=int, default=1000, help="photos at most")
    given = parser.parse_args()
    photos = sorted(path for path in given.photos.iterdir() if path.suffix == ".jpg")[: given.count]
    found = measure(given.gallery, photos, model=given.model)
    said = {way: {name: asdict(one) for name, one in each.items()} for way, each in found.items()}
    print(json.dumps({"answers": said, "gather and dense match, ms": match_ms(given.gallery)}, indent=2))


if __name__ == "__main__":
    main()
