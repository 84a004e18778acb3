"""Products with their views, and photos that a catalogue holds twice."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import pytest_asyncio
from PIL import Image

from tests.support.serving import post, running, settings
from tests.support.snapshots import shirt_photo
from threadmatch.indexer.ingest import ingest
from threadmatch.indexer.ingest_options import IngestOptions
from threadmatch.indexer.reading.duplicates import Duplicates, Verdicts
from threadmatch.indexer.reading.gallery import Gallery
from threadmatch.model.inference import Model
from threadmatch.service.app import create_app
from threadmatch.service.http.schemas.matches import SearchAnswer


def garment(seed: int, *, size: tuple[int, int] = (480, 400), quality: int = 90, hue: int = 0) -> bytes:
    """A shirt with the grain of a camera; `hue` paints the same photo anew."""
    pixels = shirt_photo(seed, size=(480, 400)).astype(np.float32)
    pixels += np.random.default_rng([seed, 1]).normal(0, 4, pixels.shape)
    picture = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    if hue:
        h, s, v = picture.convert("HSV").split()
        picture = Image.merge("HSV", (h.point(lambda value: (value + hue) % 256), s, v)).convert("RGB")
    with io.BytesIO() as file:
        picture.resize(size[::-1]).save(file, "JPEG", quality=quality)
        return file.getvalue()


ROWS: list[dict[str, Any]] = [
    {"id": "shirt-front", "product_id": "shirt", "photo": garment(1)},
    {"id": "shirt-back", "product_id": "shirt", "photo": garment(2)},
    {"id": "shirt-front-small", "product_id": "shirt", "photo": garment(1, size=(300, 250), quality=70)},
    {"id": "relisted-front", "product_id": "relisted", "photo": garment(1, quality=60)},
    {"id": "relisted-back", "product_id": "relisted", "photo": garment(2, quality=60)},
    {"id": "shirt-green", "product_id": "shirt-green", "photo": garment(1, hue=60)},
    {"id": "shirt-navy", "product_id": "shirt-navy", "photo": garment(1), "color": "navy"},
    {"id": "shirt-black", "product_id": "shirt-black", "photo": garment(1), "color": "black"},
    {"id": "no-product", "photo": garment(9)},
    {"id": "no-product-either", "photo": garment(10)},
    *({"id": f"other-{n}", "product_id": f"other-{n}", "photo": garment(20 + n)} for n in range(4)),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_model: Model) -> Path:
    root = tmp_path_factory.mktemp("products")
    lines = []
    for number, row in enumerate(ROWS):
        (root / f"{number}.jpg").write_bytes(row["photo"])
        lines.append(json.dumps({**{k: v for k, v in row.items() if k != "photo"}, "image": f"{number}.jpg"}))
    (root / "catalogue.jsonl").write_text("\n".join(lines), "utf-8")
    ingest(root / "catalogue.jsonl", root / "gallery", model=tiny_model, options=IngestOptions(images=root))
    return root / "gallery"


@pytest_asyncio.fixture
async def client(folder: Path, tiny_model: Model) -> AsyncIterator[httpx.AsyncClient]:
    gallery = Gallery.open(folder, features_fingerprint=tiny_model.features_fingerprint)
    async with running(create_app(settings(folder), model=tiny_model, gallery=gallery)) as client:
        yield client


async def ask(client: httpx.AsyncClient, **fields: object) -> list[dict[str, Any]]:
    response = await post(client, garment(1), **{"top_k": 100, "matcher": "greedy", **fields})
    assert response.status_code == 200, response.text
    SearchAnswer.model_validate(response.json())
    matches: list[dict[str, Any]] = response.json()["matches"]
    return matches


def names(entries: list[dict[str, Any]]) -> set[str]:
    return {entry["id"] for entry in entries}


async def test_the_same_photo_under_other_ids_is_shown_once_and_named(client: httpx.AsyncClient) -> None:
    matches = {match["id"]: match for match in await ask(client)}
    front = {"shirt-front", "shirt-front-small", "relisted-front", "shirt-navy", "shirt-black"}
    back = {"shirt-back", "relisted-back"}
    families = [{name} | names(match["duplicates"]) for name, match in matches.items()]
    assert sum(len(family & back) > 0 for family in families) == 1
    assert [family for family in families if family & back] == [back]
    assert sum(len(family & front) > 0 for family in families) == 2, "navy and black do not collapse into one"
    assert {"shirt-front-small", "relisted-front"} < set().union(*(f for f in families if f & front))
    assert not any({"shirt-navy", "shirt-black"} <= family for family in families)
    assert matches["shirt-green"]["duplicates"] == [], "a colour variant is another garment"
    assert set().union(*families) == {row["id"] for row in ROWS}, "nothing is lost"
    for match in matches.values():
        for same in match["duplicates"]:
            assert (await client.get(same["image_url"])).status_code == 200
            assert same["stage1_rank"] >= 1
            assert same.keys() == {"id", "product_id", "image_url", "stage1_rank"}


async def test_collapsing_can_be_turned_off(client: httpx.AsyncClient) -> None:
    matches = await ask(client, collapse_duplicates=False)
    assert names(matches) == {row["id"] for row in ROWS}
    assert not any(match["duplicates"] for match in matches)


@pytest.mark.parametrize("top_k", [1, 3, 8])
@pytest.mark.parametrize("group_by", ["item", "product"])
async def test_as_many_distinct_entries_as_asked_for(client: httpx.AsyncClient, top_k: int, group_by: str) -> None:
    matches = await ask(client, top_k=top_k, group_by=group_by)
    everything = await ask(client, group_by=group_by)
    assert matches == everything[:top_k], "each entry names all its duplicates, however few are asked for"
    assert [match["rank"] for match in matches] == list(range(1, top_k + 1))


async def test_a_product_is_shown_once_with_its_views_and_their_scores(client: httpx.AsyncClient) -> None:
    single = {match["id"]: match for match in await ask(client, collapse_duplicates=False)}
    matches = await ask(client, group_by="product", collapse_duplicates=False)
    products = [match["product_id"] for match in matches if match["product_id"]]
    assert len(products) == len(set(products))
    assert names(matches) >= {"no-product", "no-product-either"}, "items without a product stand for themselves"
    shirt = next(match for match in matches if match["product_id"] == "shirt")
    assert {shirt["id"]} | names(shirt["views"]) == {"shirt-front", "shirt-back", "shirt-front-small"}
    for view in shirt["views"]:
        assert view.keys() == {"id", "image_url", "score", "stage", "probability", "stage1_rank", "distance"}
        alone = single[view["id"]]
        assert (view["image_url"], view["probability"]) == (alone["image_url"], None)
        for number in ("score", "stage1_rank", "distance"):
            assert view[number] == pytest.approx(alone[number], abs=1e-4)
    scores = [shirt["score"], *(view["score"] for view in shirt["views"])]
    assert scores == sorted(scores, reverse=True)
    assert next(match for match in matches if match["id"] == "no-product")["views"] == []
    assert "views" not in (await ask(client))[0]


async def test_a_product_listed_twice_collapses_view_by_view(client: httpx.AsyncClient) -> None:
    matches = await ask(client, group_by="product")
    twice = next(match for match in matches if match["product_id"] in ("shirt", "relisted"))
    shown = {twice["id"]} | names(twice["views"]) | names(twice["duplicates"])
    assert shown >= {"shirt-front", "shirt-front-small", "relisted-front", "shirt-back", "relisted-back"}
    assert not {"shirt", "relisted"} & {match["product_id"] for match in matches if match is not twice}


def test_an_item_with_a_damaged_photo_is_a_match_of_its_own(folder: Path) -> None:
    snapshot = Gallery.open(folder).current
    embedding = snapshot.embeddings(snapshot.shortlist(np.eye(1, snapshot.manifest.embedding_dim)[0], 1))[0]
    candidates = snapshot.shortlist(embedding.astype(np.float32), 20)
    items = snapshot.items(candidates)
    place = {item.id: number for number, item in enumerate(items)}
    first, second = place["relisted-front"], place["shirt-front-small"]

    class Torn:
        def embeddings(self, of: Any) -> Any:
            return snapshot.embeddings(of)

        def looks(self, of: Any) -> Any:
            return [None] * len(of)

        def photo(self, item_id: str) -> bytes:
            return b"torn" if item_id == "shirt-front-small" else snapshot.photo(item_id)

    whole = Duplicates(snapshot, candidates, items, Verdicts())
    assert whole.twin(first, [second]) == second
    torn = Duplicates(Torn(), candidates, items, Verdicts())  # type: ignore[arg-type]
    assert torn.twin(first, [second]) is None


def test_what_was_compared_is_remembered_and_counts_all_the_same(folder: Path) -> None:
    snapshot = Gallery.open(folder).current
    embedding = np.ones(snapshot.manifest.embedding_dim, np.float32) / snapshot.manifest.embedding_dim**0.5
    candidates = snapshot.shortlist(embedding, 20)
    items = snapshot.items(candidates)
    verdicts = Verdicts()

    class Unlooked:  # as a gallery of a former version
        def __getattr__(self, name: str) -> Any:
            return getattr(snapshot, name)

        def looks(self, of: Any) -> Any:
            return [None] * len(of)

    unlooked: Any = Unlooked()
    found = [
        [Duplicates(unlooked, candidates, items, verdicts).twin(place, [p for p in range(len(items)) if p != place])]
        for place in range(len(items))
        for _ in range(2)
    ]
    assert found[::2] == found[1::2]
    assert sum(verdicts._known.values()) >= 4
