"""A new feature and a matcher that needs it are local: both made here, in one file, and used all the way through."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.conftest import TINY_CONFIG
from tests.support.serving import make_catalogue, photo
from threadmatch.indexer.errors import GalleryModelMismatchError
from threadmatch.indexer.ingest import ingest
from threadmatch.indexer.ingest_options import IngestOptions
from threadmatch.indexer.reading.gallery import Gallery
from threadmatch.model.chain import Stage
from threadmatch.model.config import GRNetConfig
from threadmatch.model.data.pairs import LabelledImage
from threadmatch.model.encoding import FEATURES, FeatureKind
from threadmatch.model.errors import ConfigError
from threadmatch.model.evaluate.evaluation import EvaluationSettings, evaluate
from threadmatch.model.features import FeatureSpec
from threadmatch.model.grnet import GRNet
from threadmatch.model.inference import Model
from threadmatch.model.matchers import MATCHERS
from threadmatch.model.matching import Items, Photo
from threadmatch.service.errors import InvalidFieldError
from threadmatch.service.http.schemas.search import SearchOptions
from threadmatch.service.queues.model_queues import ModelQueues
from threadmatch.service.search.results import SearchResult
from threadmatch.service.search.retriever import Retriever

TINT = FeatureKind(
    lambda _: FeatureSpec("tint", (3,), "float32"),
    lambda _, seen: seen.images.float().mean(dim=(2, 3)) / 255,
)
"""The mean colour of a photo."""


class TintMatcher:
    """Items by how near their mean colour is."""

    name = "tint"
    needs = frozenset({"tint"})
    calibrated = False
    explains = False
    pointwise = True
    cost = 0.05

    def score_many(self, queries: Sequence[Photo], candidates: Sequence[Items]) -> list[NDArray[np.float32]]:
        return [
            -np.abs(np.asarray(items["tint"], np.float32) - query["tint"]).sum(axis=1)
            for query, items in zip(queries, candidates, strict=True)
        ]


@pytest.fixture(scope="module", autouse=True)
def registered() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(FEATURES, "tint", TINT)
        patch.setitem(MATCHERS, "tint", lambda _network, _device: TintMatcher())
        yield


def model_with(features: tuple[str, ...]) -> Model:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = GRNet(GRNetConfig.from_dict({**TINY_CONFIG.to_dict(), "features": features}))
    network.name = "tinted"
    network.chain = (Stage("greedy", 8), Stage("tint", 4)) if "tint" in features else network.chain
    return Model(network)


@pytest.fixture(scope="module")
def tinted() -> Model:
    return model_with(("embedding", "regions", "tint"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tinted: Model) -> Path:
    root = tmp_path_factory.mktemp("tinted")
    catalogue = make_catalogue(root, [f"item-{n}" for n in range(12)])
    ingest(catalogue, root / "gallery", model=tinted, options=IngestOptions(images=root / "images", workers=1))
    return root


async def search(folder: Path, model: Model, **options: object) -> SearchResult:
    async with ModelQueues(model) as queues:
        gallery = Gallery.open(
            folder / "gallery", features_fingerprint=model.features_fingerprint, model_name=model.name
        )
        return await Retriever(gallery, queues).search(photo(7), SearchOptions.model_validate(options))


async def test_the_gallery_keeps_the_feature_and_a_search_ranks_by_it(folder: Path, tinted: Model) -> None:
    result = await search(folder, tinted, matcher="tint", depth=12, top_k=12, collapse_duplicates=False)
    gallery = Gallery.open(folder / "gallery")
    assert [match.stage for match in result.matches[:12]] == ["tint"] * 12
    snapshot, (dim,) = gallery.current, tinted.feature("embedding").shape
    found = {candidate.id: candidate for candidate in snapshot.shortlist(np.eye(1, dim, dtype=np.float32)[0], 12)}
    tints = snapshot.features("tint", [found[match.item.id] for match in result.matches])
    assert tints.shape == (12, 3)
    scores = [match.score for match in result.matches]
    assert scores == sorted(scores, reverse=True)
    assert result.matches[0].item.id == "item-6", "the photo itself"


async def test_each_stage_of_the_model_s_own_chain_orders_what_the_one_before_passed_on(
    folder: Path, tinted: Model
) -> None:
    greedy = await search(folder, tinted, matcher="greedy", top_k=12, collapse_duplicates=False)
    whole = await search(folder, tinted, top_k=12, collapse_duplicates=False)
    assert [match.stage for match in whole.matches] == ["tint"] * 4 + ["greedy"] * 4 + [None] * 4
    assert {m.item.id for m in whole.matches[:4]} == {m.item.id for m in greedy.matches[:4]}
    assert [m.item.id for m in whole.matches[4:]] == [m.item.id for m in greedy.matches[4:]]
    assert {match.probability for match in whole.matches} == {None}
    assert whole.timings_ms.keys() >= {"shortlist", "gather", "rerank", "greedy", "tint"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"explain": True}, "explain needs a matcher that can say what decided \\(grnet\\); matcher=tint cannot"),
        ({"min_probability": 0.5}, "calibrated \\(grnet\\); those of matcher=tint are not"),
        ({"matcher": "tune"}, "this model has no matcher 'tune'; expected one of grnet, greedy, tint, global"),
    ],
)
async def test_what_it_cannot_do_is_refused_in_words(
    folder: Path, tinted: Model, options: dict[str, object], said: str
) -> None:
    with pytest.raises(InvalidFieldError, match=said):
        await search(folder, tinted, **options)


async def test_a_gallery_without_the_feature_names_it(tmp_path: Path) -> None:
    plain = model_with(("embedding", "regions"))
    catalogue = make_catalogue(tmp_path, ["a", "b"])
    ingest(catalogue, tmp_path / "gallery", model=plain, options=IngestOptions(images=tmp_path / "images", workers=1))
    with pytest.raises(InvalidFieldError, match="matcher=tint needs tint of each item, and this gallery keeps emb"):
        await search(tmp_path, plain, matcher="tint")
    assert len((await search(tmp_path, plain, matcher="greedy")).matches) == 2


async def test_a_model_with_the_feature_has_another_fingerprint(folder: Path, tinted: Model) -> None:
    plain = model_with(("embedding", "regions"))
    assert plain.features_fingerprint != tinted.features_fingerprint
    with pytest.raises(GalleryModelMismatchError):
        await search(folder, plain)


def test_it_is_evaluated_beside_the_others_and_refused_by_name_where_it_cannot_be(folder: Path, tinted: Model) -> None:
    images = [LabelledImage(path, path.stem, path.stem, None, "", "") for path in sorted((folder / "images").iterdir())]
    settings = EvaluationSettings(methods=("global", "greedy", "tint", "grnet"), candidates=12, exhaustive=False)
    report, _ = evaluate(tinted, images, images, settings=settings)
    assert report["methods"].keys() == {"global", "greedy", "tint", "grnet"}
    assert report["methods"]["tint"]["top1"] == 1
    with pytest.raises(ConfigError, match=r"'tint' needs the features \['tint'\], this model makes"):
        evaluate(model_with(("embedding", "regions")), images, images, settings=settings)


def test_an_unknown_feature_is_named_when_the_model_is_built() -> None:
    with pytest.raises(ConfigError, match=r"features has \['depth'\], known are embedding, regions, cells, tint"):
        model_with(("embedding", "depth"))
