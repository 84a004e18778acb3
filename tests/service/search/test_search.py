"""POST /v1/search over a real gallery and a real model: what the answer says and that it is right."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import pytest

from tests.support.patience import until
from tests.support.serving import (
    WatchedModel,
    photo,
    post,
    running,
    settings,
    until_waiting,
)
from threadmatch.indexer.reading.gallery import Gallery
from threadmatch.model.images import load_image
from threadmatch.model.inference import Model, load_model
from threadmatch.model.region_matchers import GreedyMatcher
from threadmatch.service.app import create_app
from threadmatch.service.http.schemas.matches import SEARCH_EXAMPLE, SearchAnswer
from threadmatch.service.queues.model_queues import ModelQueues

EXPLAINED = {"evidence", "evidence_before", "heatmaps"}


async def answer_to(client: httpx.AsyncClient, image: bytes | None = None, **fields: object) -> dict[str, Any]:
    response = await post(client, image, **fields)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def test_an_answer_has_the_form_that_the_design_gives(client: httpx.AsyncClient) -> None:
    answer = await answer_to(client, photo(5))
    assert answer.keys() == SEARCH_EXAMPLE.keys()
    assert answer["matches"][0].keys() == SEARCH_EXAMPLE["matches"][0].keys() - EXPLAINED
    assert answer["timings_ms"].keys() == SEARCH_EXAMPLE["timings_ms"].keys()
    assert answer["query"] == {
        "width": 120, "height": 160, "box": [0, 0, 120, 160], "chosen_by": "nobody", "garment": None, "garments": [],
    }  # fmt: skip
    assert answer["gallery"] == {"generation": "000001", "items": 40}
    assert [match["rank"] for match in answer["matches"]] == list(range(1, 11))
    SearchAnswer.model_validate(answer)


async def test_the_alias_answers_the_same(client: httpx.AsyncClient) -> None:
    files = {"image": ("photo.jpg", photo(5), "image/jpeg")}
    alias = (await client.post("/search", files=files)).json()
    assert alias["matches"] == (await answer_to(client, photo(5)))["matches"]


async def test_a_gallery_photo_finds_itself_first_in_stage_one(client: httpx.AsyncClient, item_ids: list[str]) -> None:
    for number in (0, 7, 30):
        answer = await answer_to(client, photo(1 + number), rerank=False, top_k=1)
        match = answer["matches"][0]
        assert match["id"] == item_ids[number]
        assert match["distance"] == pytest.approx(0, abs=1e-5)
        assert match["metadata"] == {"name": f"Garment {number}", "price": 10 + number}


async def test_reranking_permutes_the_shortlist_and_touches_nothing_else(client: httpx.AsyncClient) -> None:
    first = (await answer_to(client, top_k=100, rerank=False))["matches"]
    second = (await answer_to(client, top_k=100))["matches"]
    by_id = {match["id"]: match for match in first}
    assert by_id.keys() == {match["id"] for match in second}
    assert [match["id"] for match in first] != [match["id"] for match in second]
    for match in second:
        assert match["stage1_rank"] == by_id[match["id"]]["rank"]
        assert match["distance"] == pytest.approx(by_id[match["id"]]["distance"], abs=1e-6)
    assert [match["score"] for match in second] == sorted((match["score"] for match in second), reverse=True)
    assert [match["distance"] for match in first] == sorted(match["distance"] for match in first)
    assert {(match["score"], match["probability"]) for match in first} == {(None, None)}


async def test_the_scores_are_the_model_s_own(client: httpx.AsyncClient, gallery: Gallery, tiny_model: Model) -> None:
    prepared, _ = load_image(photo(77), image_px=tiny_model.image_px)
    features = tiny_model.encode(np.stack([prepared.pixels]))
    candidates = gallery.shortlist(features["embedding"][0], 40)
    scores = tiny_model.score(
        {"regions": features["regions"][0]}, {"regions": gallery.current.features("regions", candidates)}
    )
    expected = dict(zip((candidate.id for candidate in candidates), scores.tolist(), strict=True))
    answer = await answer_to(client, photo(77), top_k=100)
    assert {match["id"]: match["score"] for match in answer["matches"]} == pytest.approx(expected, abs=1e-4)


async def test_greedy_matching_orders_by_its_own_scores_and_knows_no_probability(
    client: httpx.AsyncClient, gallery: Gallery, tiny_model: Model
) -> None:
    prepared, _ = load_image(photo(77), image_px=tiny_model.image_px)
    features = tiny_model.encode(np.stack([prepared.pixels]))
    candidates = gallery.shortlist(features["embedding"][0], 40)
    matcher = GreedyMatcher(tiny_model.config.grids)
    [scores] = matcher.score_many(
        [{"regions": features["regions"][0]}], [{"regions": gallery.current.features("regions", candidates)}]
    )
    expected = dict(zip((candidate.id for candidate in candidates), scores.tolist(), strict=True))
    matches = (await answer_to(client, photo(77), top_k=100, matcher="greedy"))["matches"]
    assert {match["id"]: match["score"] for match in matches} == pytest.approx(expected, abs=1e-4)
    found = [match["score"] for match in matches]
    assert found == sorted(found, reverse=True)
    assert {match["probability"] for match in matches} == {None}
    assert [candidates[match["stage1_rank"] - 1].id for match in matches] == [match["id"] for match in matches]


async def test_the_global_matcher_is_the_first_stage_s_order(client: httpx.AsyncClient) -> None:
    by_matcher = await answer_to(client, photo(7), top_k=100, matcher="global")
    assert by_matcher["matches"] == (await answer_to(client, photo(7), top_k=100, rerank=False))["matches"]
    assert [match["stage1_rank"] for match in by_matcher["matches"]] == list(range(1, 41))
    assert {(match["score"], match["probability"]) for match in by_matcher["matches"]} == {(None, None)}


async def test_searches_with_different_matchers_wait_in_one_queue_and_keep_their_own_scores(
    gallery_folder: Path, gallery: Gallery, tiny_model: Model
) -> None:
    async with running(create_app(settings(gallery_folder), model=tiny_model, gallery=gallery)) as client:
        asked: list[dict[str, object]] = [
            {"matcher": ("grnet", "greedy", "global")[number % 3], "top_k": 100} for number in range(9)
        ]
        alone = [(await answer_to(client, photo(7), **fields))["matches"] for fields in asked[:3]]
        together = await asyncio.gather(*(answer_to(client, photo(7), **fields) for fields in asked))
    for number, answer in enumerate(together):
        expected = {match["id"]: match["score"] for match in alone[number % 3]}
        assert {match["id"]: match["score"] for match in answer["matches"]} == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("above", "no_match"), [(-1e-4, False), (1e-4, True)])
async def test_a_best_probability_below_the_model_s_threshold_is_no_match_and_still_lists_the_closest(
    gallery_folder: Path, gallery: Gallery, tiny_model: Model, tiny_model_folder: Path, above: float, no_match: bool
) -> None:
    async with running(create_app(settings(gallery_folder), model=tiny_model, gallery=gallery)) as client:
        before = await answer_to(client, photo(5))
    assert not before["no_match"], "a model without a threshold decides by the conditions alone"
    threshold = before["matches"][0]["probability"] + above
    decided = load_model(tiny_model_folder, device="cpu")
    decided.calibration = replace(tiny_model.calibration, no_match_below=threshold)
    model = WatchedModel(decided)
    async with running(create_app(settings(gallery_folder), model=model, gallery=gallery)) as client:
        answer = await answer_to(client, photo(5))
        assert answer["no_match"] == no_match
        assert [match["id"] for match in answer["matches"]] == [match["id"] for match in before["matches"]]
        assert not (await answer_to(client, photo(5), matcher="greedy"))["no_match"], "not calibrated: cannot say"
        left = await answer_to(client, photo(5), min_probability=threshold)
        assert left["no_match"] == (left["matches"] == []) == no_match


async def test_candidates_bound_the_shortlist_and_may_exceed_the_gallery(client: httpx.AsyncClient) -> None:
    few = await answer_to(client, candidates=5, top_k=100)
    assert few["candidates"] == len(few["matches"]) == 5
    many = await answer_to(client, candidates=2000, top_k=100)
    assert many["candidates"] == len(many["matches"]) == 40


async def test_grouping_shows_each_product_once_with_its_best_view(client: httpx.AsyncClient) -> None:
    views = (await answer_to(client, top_k=100))["matches"]
    grouped = (await answer_to(client, top_k=100, group_by="product"))["matches"]
    best: dict[str, str] = {}
    for match in views:
        best.setdefault(match["product_id"], match["id"])
    assert [match["id"] for match in grouped] == list(best.values())
    assert [match["rank"] for match in grouped] == list(range(1, 21))


async def test_improbable_matches_are_left_out_and_nothing_left_is_no_match(client: httpx.AsyncClient) -> None:
    everything = (await answer_to(client, top_k=100))["matches"]
    middle = everything[10]["probability"]
    some = await answer_to(client, top_k=100, min_probability=middle)
    assert [match["id"] for match in some["matches"]] == [
        match["id"] for match in everything if match["probability"] >= middle
    ]
    assert not some["no_match"]
    none = await answer_to(client, min_probability=1)
    assert none["matches"] == []
    assert (none["no_match"], none["no_match_reason"]) == (True, "improbable")
    assert none["candidates"] == 40


async def test_a_filter_bounds_the_candidates(client: httpx.AsyncClient) -> None:
    cheap = await answer_to(client, top_k=100, filter="price < 15")
    assert {match["metadata"]["price"] for match in cheap["matches"]} == {10, 11, 12, 13, 14}
    assert cheap["candidates"] == 5
    nothing = await answer_to(client, filter="price < 0")
    assert (nothing["no_match"], nothing["candidates"], nothing["matches"]) == (True, 0, [])
    assert nothing["no_match_reason"] == "filter"


async def test_a_box_searches_that_part_of_the_photo(client: httpx.AsyncClient) -> None:
    whole = await answer_to(client, photo(3, size=(200, 200)), top_k=100)
    part = await answer_to(client, photo(3, size=(200, 200)), top_k=100, box="10,20,150.5,180")
    assert (part["query"]["width"], part["query"]["height"]) == (200, 200)
    assert (part["query"]["box"], part["query"]["chosen_by"]) == ([10, 20, 150.5, 180], "client")
    assert [match["distance"] for match in part["matches"]] != [match["distance"] for match in whole["matches"]]


async def test_an_explanation_names_boxes_inside_both_photos(client: httpx.AsyncClient) -> None:
    answer = await answer_to(client, photo(3), explain=True, top_k=3, box="20,20,100,140")
    for match in answer["matches"]:
        item = (await client.get(match["image_url"].removesuffix("/image"))).json()
        assert 1 <= len(match["evidence"]) <= 5
        weights = [pair["weight"] for pair in match["evidence"]]
        assert weights == sorted(weights, reverse=True)
        for pair in match["evidence"]:
            x0, y0, x1, y1 = pair["query_box"]
            assert 20 <= x0 < x1 <= 100 + 1e-3
            assert 20 <= y0 < y1 <= 140 + 1e-3
            x0, y0, x1, y1 = pair["item_box"]
            assert -1e-3 <= x0 < x1 <= item["width"] + 1e-3
            assert -1e-3 <= y0 < y1 <= item["height"] + 1e-3
    assert "explain" in answer["timings_ms"]


async def test_concurrent_searches_share_batches_on_one_thread(
    gallery_folder: Path, gallery: Gallery, tiny_model: Model
) -> None:
    model = WatchedModel(tiny_model)
    app = create_app(settings(gallery_folder), model=model, gallery=gallery)
    async with running(app) as client:
        model.encoded.clear()
        model.scored.clear()
        model.gate.clear()
        begun = model.begun
        first = asyncio.create_task(answer_to(client, photo(50)))
        await until(lambda: model.begun > begun)
        rest = [asyncio.create_task(answer_to(client, photo(51 + number))) for number in range(6)]
        await until_waiting(app, 6)
        model.gate.set()
        await asyncio.gather(first, *rest)
    assert model.encoded == [1, 6]
    assert len(model.scored) < 7
    assert sum(map(len, model.scored)) == 7
    assert len(model.threads) == 1


async def test_a_photo_encoded_alone_agrees_with_the_same_in_a_batch(tiny_model: Model) -> None:
    pixels = [load_image(photo(number), image_px=tiny_model.image_px)[0].pixels for number in range(12)]
    async with ModelQueues(WatchedModel(tiny_model)) as queues:
        alone = [await queues.encode(each) for each in pixels]
        together = await asyncio.gather(*map(queues.encode, pixels))
    for one, other in zip(alone, together, strict=True):
        assert one.keys() == other.keys() == {"embedding", "regions"}
        for name, part in one.items():
            np.testing.assert_allclose(other[name], part, atol=1e-5)


async def test_a_photo_searched_alone_agrees_with_the_same_in_a_batch(client: httpx.AsyncClient) -> None:
    photos = [photo(number, size=(90 + 7 * number, 150)) for number in range(12)]
    alone = [await answer_to(client, each, top_k=100) for each in photos]
    together = await asyncio.gather(*(answer_to(client, each, top_k=100) for each in photos))
    for one, other in zip(alone, together, strict=True):
        distances = {match["id"]: match["distance"] for match in one["matches"]}
        assert {match["id"]: match["distance"] for match in other["matches"]} == pytest.approx(distances, abs=2e-4)
        # Scores are logits of any size; a batch of another size rounds the last bits of float32 elsewhere.
        scores = {match["id"]: match["score"] for match in one["matches"]}
        assert {match["id"]: match["score"] for match in other["matches"]} == pytest.approx(scores, abs=1e-4)


async def test_addresses_of_pictures_are_whole_where_the_service_knows_its_own(
    gallery_folder: Path, gallery: Gallery, tiny_model: Model
) -> None:
    options = settings(gallery_folder, public_url="https://shop.example/find/")
    async with running(create_app(options, model=tiny_model, gallery=gallery)) as client:
        match = (await answer_to(client, explain=True))["matches"][0]
        item = (await client.get(f"/v1/items/{quote(match['id'], safe='')}")).json()
    for address in (match["image_url"], match["heatmaps"]["item"], item["image_url"]):
        assert address.startswith("https://shop.example/find/v1/")
    for wrong in ("shop.example", "ftp://shop.example", "https://shop.example/?a=b"):
        with pytest.raises(ValueError, match="expected an address such as"):
            settings(gallery_folder, public_url=wrong)
