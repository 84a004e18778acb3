"""The model that ships helps: reranking finds garments that its own first stage misses, on garments it never saw."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from threadmatch.model.chain import Ranking
from threadmatch.model.data.encoded import EncodedSet
from threadmatch.model.data.pairs import read_labelled
from threadmatch.model.data.setups import Setup
from threadmatch.model.descriptions import DEFAULT_MODEL, SHIPPED
from threadmatch.model.evaluate.evaluation import evaluate
from threadmatch.model.evaluate.metrics import first_hit, rates
from threadmatch.model.images import DecodedImage, prepare_image
from threadmatch.model.inference import Model, load_model
from threadmatch.model.synthetic.drawn.drawn_query import draw_street_query
from threadmatch.model.synthetic.drawn.shop_image import draw_shop_image
from threadmatch.model.synthetic.garments.garment import garment
from threadmatch.model.synthetic.street.street_set import build_street_set


@pytest.fixture(scope="module")
def shipped() -> Model:
    return load_model(DEFAULT_MODEL, device="cpu")


def test_the_shipped_checkpoint_is_small_and_says_where_it_comes_from() -> None:
    folder = SHIPPED / DEFAULT_MODEL
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 25 * 2**20
    card = (folder / "README.md").read_text()
    for word in ("Apache", "semi-synthetic", "CC0", "OSL"):
        assert word in card
    assert (folder / "NOTICE").exists()
    assert (folder / "recipe.toml").exists()


def _prepared(pixels: np.ndarray, box: object = None) -> np.ndarray:
    picture = Image.fromarray(pixels)
    decoded = DecodedImage(picture, picture.width, picture.height)
    return prepare_image(decoded, image_px=224, box=box).pixels  # type: ignore[arg-type]


def _encoded(shipped: Model, pixels: list[NDArray[np.uint8]]) -> EncodedSet:
    return EncodedSet([], shipped.encode(np.stack(pixels)))


def test_reranking_drawn_garments_beats_their_shortlist(shipped: Model) -> None:
    garments = [garment(5, index) for index in range(60)]
    shop = _encoded(shipped, [_prepared(draw_shop_image(one)) for one in garments])
    wanted, before, after = [], [], []
    setups = list(Setup)
    for place in range(0, 60, 3):
        query = draw_street_query(garments[place], setup=setups[(place // 3) % 4], seed=place)
        street = _encoded(shipped, [_prepared(query.image, query.box)])
        order = np.argsort(-(shop.embeddings @ street.embeddings[0]), kind="stable")
        ranking = Ranking(len(order))
        for stage in shipped.chain:
            matcher = shipped.matchers[stage.matcher]
            head = ranking.head(stage.takes(len(order)))
            [scores] = matcher.score_many([street.photo(0)], [shop.items(order[head], matcher.needs)])
            ranking.rerank(stage.matcher, scores)
        wanted.append(garments[place].id)
        before.append(order)
        after.append(order[ranking.order])
    names = [one.id for one in garments]
    first, second = (rates(first_hit(orders, names, wanted)) for orders in (before, after))
    assert second["mrr"] > first["mrr"], (first, second)


def test_reranking_real_garments_beats_their_shortlist(shipped: Model, shared_data: Path, tmp_path: Path) -> None:
    build_street_set(shared_data, tmp_path, split="test", per_item=1, limit=100, seed=23)
    result, _ = evaluate(
        shipped,
        read_labelled(tmp_path / "gallery.csv"),
        read_labelled(tmp_path / "queries.csv"),
        exhaustive=False,
    )
    assert result["queries"] >= 90
    assert result["methods"]["grnet"]["mrr"] > result["methods"]["global"]["mrr"]
