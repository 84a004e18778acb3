"""The corpus of odd and hostile images, uploaded: odd ones are searched, hostile ones are a 4xx."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from tests.support.hostile import HostileImage, hostile_images
from tests.support.serving import is_error, photo, post

CASES = hostile_images()


@pytest.mark.parametrize("name", CASES)
async def test_a_photo_of_any_kind_is_searched_or_refused_by_name(client: httpx.AsyncClient, name: str) -> None:
    _answered_well(await post(client, CASES[name].data), CASES[name])


async def test_good_photos_do_not_notice_hostile_neighbours(client: httpx.AsyncClient) -> None:
    alone = (await post(client, photo(7), top_k=100)).json()["matches"]
    cases = list(CASES.values())
    mixed = [image for case in cases[:20] for image in (case.data, photo(7))]
    responses = await asyncio.gather(*(post(client, image, top_k=100) for image in mixed))
    for case, response in zip(cases, responses[::2], strict=False):
        _answered_well(response, case)
    expected = {match["id"]: match["score"] for match in alone}
    for response in responses[1::2]:
        scores = {match["id"]: match["score"] for match in response.json()["matches"]}
        assert scores == pytest.approx(expected, abs=1e-4)
    assert (await client.get("/health/ready")).status_code == 200


def _answered_well(response: httpx.Response, case: HostileImage) -> None:
    if case.reason is None:
        assert response.status_code == 200, response.text
        if case.size is not None:
            query = response.json()["query"]
            assert (query["width"], query["height"]) == case.size
    elif case.reason == "empty":
        is_error(response, 422, "InvalidField")
    elif case.reason == "too_many_bytes":
        is_error(response, 413, "TooLarge")
    else:
        is_error(response, 422, "InvalidImage")
