"""Attributes in a search, all the way: a tiny part trained on nothing, a gallery that keeps it, and what comes back."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.support.attributes import KNOWN
from tests.support.serving import is_error, make_catalogue, photo, post, running, settings
from threadmatch.indexer.errors import PredictionError
from threadmatch.indexer.ingest import ingest
from threadmatch.indexer.ingest_options import IngestOptions
from threadmatch.indexer.reading.gallery import Gallery
from threadmatch.model.inference import Model
from threadmatch.service.app import create_app
from threadmatch.service.cli import app as app_of_the_command_line
from threadmatch.service.errors import InvalidFieldError
from threadmatch.service.galleries.item_writer import ItemWriter, NewItem
from threadmatch.service.galleries.local import LocalGallery
from threadmatch.service.http.schemas.search import SearchOptions
from threadmatch.service.queues.model_queues import ModelQueues
from threadmatch.service.search.answers import gallery_answer, search_answer
from threadmatch.service.search.by_attributes import parse_weights
from threadmatch.service.search.results import SearchResult
from threadmatch.service.search.retriever import Retriever

IDS = [f"item-{n}" for n in range(8)]


@pytest.fixture(scope="module")
def shop(attributes_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shop")
    fill(root, attributes_model, predict=True)
    return root


def fill(root: Path, model: Model, **options: Any) -> None:
    chosen = IngestOptions(images=root / "images", workers=1, **options)
    ingest(make_catalogue(root, IDS), root / "gallery", model=model, options=chosen)


@pytest.fixture
async def retriever(shop: Path, attributes_model: Model) -> AsyncIterator[Retriever]:
    async with ModelQueues(attributes_model) as queues:
        yield Retriever(Gallery.open(shop / "gallery"), queues)


async def search(retriever: Retriever, seed: int = 3, **options: Any) -> SearchResult:
    asked = {"collapse_duplicates": False, "box": "none", **options}
    return await retriever.search(photo(seed), SearchOptions.model_validate(asked))


def embeddings(retriever: Retriever, result: SearchResult) -> np.ndarray[Any, Any]:
    snapshot = retriever.gallery.current
    return np.stack([snapshot.features_of("attributes", match.item.id) for match in result.matches])


async def test_alone_attributes_order_the_whole_gallery_by_their_weighted_cosines(retriever: Retriever) -> None:
    result = await search(retriever, matcher="attributes", attributes="sleeves:2,neckline")
    assert len(result.matches) == len(IDS)
    query = retriever.model.encode(np.asarray((await retriever.queues.decoding.photo(photo(3))).prepared.pixels)[None])
    for match, own in zip(result.matches, embeddings(retriever, result), strict=True):
        cosines = [float(own[at] @ query["attributes"][0, at]) for at in (1, 0)]  # loops over what was asked, in order
        assert match.attributes is not None
        assert [told.name for told in match.attributes] == ["sleeves", "neckline"]
        assert [told.similarity for told in match.attributes] == pytest.approx(cosines, abs=1e-5)
        assert match.score == pytest.approx(2 * cosines[0] + cosines[1], abs=1e-5)
        assert match.stage == "attributes"
    scores = [match.score or 0.0 for match in result.matches]
    assert scores == sorted(scores, reverse=True)


async def test_without_weight_the_order_stays_and_each_match_tells_how_alike_it_is(retriever: Retriever) -> None:
    plain = await search(retriever)
    told = await search(retriever, attributes="neckline:0")
    assert [match.item.id for match in told.matches] == [match.item.id for match in plain.matches]
    assert [match.plain_rank for match in told.matches] == list(range(1, len(IDS) + 1))
    assert all(match.attributes and match.attributes[0].weight == 0 for match in told.matches)
    assert all(match.attributes is None and match.plain_rank is None for match in plain.matches)


async def test_with_weight_they_join_the_photos_own_order_and_its_former_place_is_told(retriever: Retriever) -> None:
    plain = [match.item.id for match in (await search(retriever)).matches]
    mixed = await search(retriever, attributes="neckline:10")
    cosines = sorted(1 - match.distance for match in (await search(retriever, matcher="global")).matches)[::-1]
    for match in mixed.matches:
        assert match.attributes is not None
        assert match.plain_rank == plain.index(match.item.id) + 1
        own = cosines[match.plain_rank - 1]
        assert match.score == pytest.approx(own + 10 * match.attributes[0].similarity, abs=1e-4)
    assert [match.item.id for match in mixed.matches] != plain


async def test_each_attribute_tells_how_far_it_moved_an_item_against_the_order_without_it(retriever: Retriever) -> None:
    asked = {"neckline": 4.0, "sleeves": 2.0, "mood": 0.0}

    async def order(names: Mapping[str, float], **options: Any) -> list[str]:
        given = ",".join(f"{name}:{weight}" for name, weight in names.items())
        return [match.item.id for match in (await search(retriever, attributes=given, **options)).matches]

    for options in ({}, {"matcher": "attributes"}):
        now = await order(asked, **options)
        for match in (await search(retriever, attributes="neckline:4,sleeves:2,mood:0", **options)).matches:
            assert match.attributes is not None
            for told in match.attributes:
                without = await order({name: weight for name, weight in asked.items() if name != told.name}, **options)
                assert told.moved == without.index(match.item.id) - now.index(match.item.id)
    [first] = (await search(retriever, matcher="attributes", attributes="neckline", top_k=1)).matches
    assert first.attributes is not None
    assert first.attributes[0].moved == first.stage1_rank - 1, (
        "without its only attribute it stands as stage one had it"
    )


@pytest.mark.parametrize("options", [{}, {"matcher": "attributes"}])
async def test_where_nothing_meets_the_filter_there_is_nothing_to_weigh(
    retriever: Retriever, options: dict[str, str]
) -> None:
    result = await search(retriever, attributes="neckline", filter="price > 1000", **options)
    assert (result.matches, result.no_match_reason) == ([], "filter")


async def test_values_are_predicted_where_their_names_are_known(retriever: Retriever) -> None:
    [match, *_] = (await search(retriever, attributes="neckline,mood")).matches
    assert match.attributes is not None
    neckline, mood = match.attributes
    assert neckline.item is not None
    assert neckline.item.value in ("crew", "v")
    assert 0.5 <= neckline.item.probability <= 1
    assert (mood.item, mood.query) == (None, None)
    answer = search_answer(await search(retriever, attributes="neckline"), retriever.model, "r")
    dumped = answer.model_dump(mode="json")["matches"][0]
    assert dumped["attributes"][0].keys() == {
        "name", "similarity", "predicted_query", "predicted_item", "weight", "moved",
    }  # fmt: skip
    assert dumped["plain_rank"] >= 1


async def test_matcher_attributes_alone_weighs_all_alike(retriever: Retriever) -> None:
    result = await search(retriever, matcher="attributes")
    first = result.matches[0]
    assert first.item.id == "item-2", "the photo itself"
    assert first.score == pytest.approx(1, abs=0.02)
    assert first.attributes is not None
    assert [told.weight for told in first.attributes] == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("nekline:1", r"there is no 'nekline' \(did you mean neckline\?\); this gallery has neckline, sleeves, mood"),
        ("neckline:1,neckline:2", "neckline is named twice"),
        ("neckline:", "neckline weighs '', expected a number from 0 to 10"),
        ("neckline:-1", "weighs '-1'"),
        ("neckline:nan", "weighs 'nan'"),
        ("neckline:10.5", "weighs '10.5'"),
        (",", "there is no ''"),
    ],
)
def test_attributes_that_are_not_there_and_weights_out_of_range_are_refused(given: str, says: str) -> None:
    with pytest.raises(InvalidFieldError, match=says):
        parse_weights(given, [attribute.name for attribute in KNOWN])


async def test_a_model_without_them_and_a_gallery_without_them_say_what_to_do(
    tiny_model: Model, attributes_model: Model, tmp_path: Path
) -> None:
    fill(tmp_path, tiny_model)
    for served, says in ((tiny_model, "model 'tiny' has none"), (attributes_model, "was made without them.*ingest")):
        async with ModelQueues(served) as queues:
            retriever = Retriever(Gallery.open(tmp_path / "gallery"), queues)
            with pytest.raises(InvalidFieldError, match=says):
                await search(retriever, attributes="neckline")
            assert gallery_answer("g", retriever.gallery, served, newer_refused=None, feedback=False).attributes == []
    with pytest.raises(PredictionError, match="model 'tiny' cannot tell values of attributes"):
        fill(tmp_path, tiny_model, predict=True)


async def test_predicted_columns_filter_and_are_marked_as_predicted(retriever: Retriever) -> None:
    answer = gallery_answer("g", retriever.gallery, retriever.model, newer_refused=None, feedback=False)
    assert [(own.name, own.values) for own in answer.attributes] == [(one.name, list(one.values)) for one in KNOWN]
    marked = {column.name: column.predicted for column in answer.columns}
    assert marked["predicted.neckline"]
    assert marked["predicted.neckline_probability"]
    assert not marked["name"]
    assert "predicted.mood" not in marked, "nobody knows names of its values"
    every = (await search(retriever)).matches
    for value in ("crew", "v"):
        found = await search(retriever, filter=f'predicted.neckline == "{value}"')
        wanted = {m.item.id for m in every if m.item.metadata["predicted.neckline"] == value}
        assert {match.item.id for match in found.matches} == wanted
    sure = await search(retriever, filter="predicted.neckline_probability >= 0.5")
    assert len(sure.matches) == len(IDS)


async def test_an_item_put_into_a_gallery_with_predicted_columns_has_them_too(
    attributes_model: Model, tmp_path: Path
) -> None:
    fill(tmp_path, attributes_model, predict=True)
    async with ModelQueues(attributes_model) as queues:
        gallery = Gallery.open(tmp_path / "gallery")
        writer = ItemWriter("g", gallery, queues, max_waiting=4, max_unfolded=4)
        writer.start()
        try:
            new = NewItem(id="new", photo=photo(90), product_id=None, box=None, metadata={"name": "New"})
            item, _ = await writer.put(new)
            again, _ = await writer.put(NewItem(id="same", photo=photo(90), product_id=None, box=None, metadata={}))
        finally:
            await writer.stop(5)
    assert item.metadata["predicted.neckline"] in ("crew", "v")
    assert again.metadata["predicted.neckline"] == item.metadata["predicted.neckline"], "a photo that is there already"


def test_attention_is_a_distribution_over_the_map_of_the_later_stage(attributes_model: Model) -> None:
    heat = attributes_model.attention(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8), "sleeves")
    assert heat.ndim == 2
    assert heat.sum() == pytest.approx(1, abs=1e-5)


async def test_over_http_attributes_are_listed_weighed_refused_by_name_and_shown_on_the_photo(
    shop: Path, attributes_model_folder: Path
) -> None:
    app = create_app(settings(shop / "gallery", model=str(attributes_model_folder)))
    async with running(app) as client:
        listed = (await client.get("/v1/gallery")).json()["attributes"]
        assert [own["name"] for own in listed] == ["neckline", "sleeves", "mood"]
        answer = (await post(client, photo(3), attributes="neckline:1,mood:0", box="none")).json()
        first = answer["matches"][0]
        assert [own["name"] for own in first["attributes"]] == ["neckline", "mood"]
        assert first["stage"] == "attributes"
        refused = is_error(await post(client, photo(3), attributes="collar"), 422, "InvalidField")
        assert refused == "attributes: there is no 'collar'; this gallery has neckline, sleeves, mood"
        where = f"/v1/search/{answer['request_id']}/matches/{first['id']}/heatmap.png"
        asked = {"method": "attention", "attribute": "sleeves"}
        for side in ("query", "item"):
            png = await client.get(where, params={**asked, "side": side})
            assert png.status_code == 200, png.text
            assert "transparency" in Image.open(io.BytesIO(png.content)).info
        told = (await client.get(where.replace("heatmap.png", "explanation"))).json()["attributes"]
        assert [own["name"] for own in told] == ["neckline", "sleeves", "mood"], "all, whatever was asked for"
        for own in first["attributes"]:
            [again] = [one for one in told if one["name"] == own["name"]]
            assert again["similarity"] == pytest.approx(own["similarity"], abs=1e-3), "kept in half precision"
        sleeves, mood = [
            (await client.get(where, params={"method": "attention", "attribute": name})).content
            for name in ("sleeves", "mood")
        ]
        assert sleeves != mood
        for params, says in (
            ({"method": "attention"}, "attribute is none; method=attention needs one of neckline, sleeves, mood"),
            ({"method": "attention", "attribute": "fit"}, "attribute is 'fit'"),
            ({"attribute": "mood"}, "attribute goes with method=attention, found method=graph"),
        ):
            assert says in is_error(await client.get(where, params=params), 422, "InvalidField")


def test_the_front_door_takes_weights_as_a_mapping_and_the_command_line_as_text(
    shop: Path, attributes_model: Model
) -> None:
    with LocalGallery(shop / "gallery", model=attributes_model) as gallery:
        found = gallery.search(photo(3), matcher="attributes", attributes={"neckline": 1, "sleeves": 0.5}, box="none")
    assert found.matches[0].id == "item-2"
    assert found.matches[0].attributes is not None
    assert [own.weight for own in found.matches[0].attributes] == [1, 0.5]


def test_the_command_line_tells_likeness_and_value_of_each_attribute(
    shop: Path, attributes_model_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "street.jpg").write_bytes(photo(3))
    given = [
        "search",
        str(tmp_path / "street.jpg"),
        "--gallery",
        str(shop / "gallery"),
        "--model",
        str(attributes_model_folder),
    ]
    told = CliRunner().invoke(app_of_the_command_line, [*given, "--attributes", "neckline:2", "--box", "none"])
    assert told.exit_code == 0, told.output
    assert "neckline, seems" in told.output
    refused = CliRunner().invoke(app_of_the_command_line, [*given, "--attributes", "collar"])
    assert refused.exit_code != 0
    assert "this gallery has neckline, sleeves, mood" in refused.output
