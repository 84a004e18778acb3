"""What clients send wrong: always a 4xx in the one error form, never a 500."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.support.serving import is_error, photo, post, running, settings
from threadmatch.indexer.reading.gallery import Gallery
from threadmatch.model.inference import Model
from threadmatch.service.app import create_app
from threadmatch.service.config import MIB

BOUNDARY = "simple-boundary"
MULTIPART = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("top_k", "0", "greater than or equal to 1"),
        ("top_k", "101", "less than or equal to 100"),
        ("top_k", "ten", "integer"),
        ("candidates", "2001", "2000"),
        ("candidates", "-5", "1"),
        ("rerank", "perhaps", "boolean"),
        ("explain", "2", "boolean"),
        ("group_by", "colour", "item"),
        ("matcher", "kpm", "grnet"),
        ("min_probability", "1.5", "1"),
        ("min_probability", "nan", "finite"),
        ("min_probability", "inf", "finite"),
        ("filter", "price <", "filter|expect|character"),
        ("filter", "nosuchcolumn = 3", "nosuchcolumn"),
        ("filter", "x" * 3000, "2000"),
    ],
)
async def test_a_field_out_of_range_says_what_is_possible(
    client: httpx.AsyncClient, field: str, value: str, says: str
) -> None:
    response = await post(client, **{field: value})
    detail = is_error(response, 422, "Filter" if field == "filter" and len(value) < 2000 else "InvalidField")
    assert any(word in detail for word in says.split("|")), detail


@pytest.mark.parametrize(
    "expression",
    [
        "price < " + "9" * 1900,
        "price == 1e999",
        "price in [" + "1," * 900 + "]",
        "not " * 490 + "price",
        "-" * 1990 + "1 < price",
        "(" * 990 + "1" + ")" * 990,
        "price < 9223372036854775808",
        "name == '\x00'",
        "name == '\\ud800'",
        'name == "' + "a" * 1900 + '"',
        "__import__('os').system('true')",
        "price and " * 190 + "price",
        "1 < " * 490 + "price",
    ],
)
async def test_a_strange_filter_is_answered_or_refused(client: httpx.AsyncClient, expression: str) -> None:
    response = await post(client, filter=expression)
    if response.status_code != 200:
        is_error(response, 422, "Filter")


@pytest.mark.parametrize("box", ["1,2,3", "a,b,c,d", "5,5,5,5", "900,900,950,950", "nan,0,5,5", "0,0,inf,5", "9,9,1,1"])
async def test_a_bad_box_is_refused(client: httpx.AsyncClient, box: str) -> None:
    assert "box" in is_error(await post(client, box=box), 422, "InvalidImage")


async def test_an_unknown_field_names_the_nearest(client: httpx.AsyncClient) -> None:
    assert "'top_k'" in is_error(await post(client, topk="3"), 422, "InvalidField")
    files = [("image", ("a.jpg", photo())), ("images", ("b.jpg", photo()))]
    assert "'image'" in is_error(await client.post("/search", files=files), 422, "InvalidField")


async def test_fields_that_contradict_each_other_are_refused(client: httpx.AsyncClient) -> None:
    for fields in (
        {"rerank": "false", "explain": "true"},
        {"rerank": "false", "min_probability": "0.5"},
        {"rerank": "false", "matcher": "grnet"},
        {"rerank": "false", "matcher": "greedy"},
        {"rerank": "true", "matcher": "global"},
        {"matcher": "greedy", "explain": "true"},
        {"matcher": "greedy", "min_probability": "0"},
        {"matcher": "global", "explain": "true"},
    ):
        detail = is_error(await post(client, **fields), 422, "InvalidField")
        assert all(name in detail for name in fields), detail
        assert "leave one" in detail


async def test_an_empty_field_counts_as_not_given(client: httpx.AsyncClient) -> None:
    response = await post(client, top_k="", box="", filter=" ", min_probability="")
    assert response.status_code == 200
    assert len(response.json()["matches"]) == 10


async def test_the_photo_is_one_file_that_is_not_empty(client: httpx.AsyncClient) -> None:
    missing = await client.post("/search", data={"top_k": "3"}, files={"": b""})
    is_error(missing, 422, "InvalidField")
    assert "missing" in is_error(await client.post("/search", files={"top_k": (None, b"3")}), 422, "InvalidField")
    assert "text" in is_error(await client.post("/search", files={"image": (None, b"abc")}), 422, "InvalidField")
    two = [("image", ("a.jpg", photo())), ("image", ("b.jpg", photo()))]
    assert "one photo" in is_error(await client.post("/search", files=two), 422, "InvalidField")
    assert "empty" in is_error(await post(client, b""), 422, "InvalidField")
    twice = [("image", ("a.jpg", photo())), ("top_k", (None, b"1")), ("top_k", (None, b"2"))]
    assert "twice" in is_error(await client.post("/search", files=twice), 422, "InvalidField")
    as_file = [("image", ("a.jpg", photo())), ("top_k", ("k.txt", b"1"))]
    assert "as text" in is_error(await client.post("/search", files=as_file), 422, "InvalidField")


async def test_fields_in_the_address_are_not_passed_over(client: httpx.AsyncClient) -> None:
    response = await client.post("/search?top_k=3", files={"image": ("a.jpg", photo())})
    assert "form field" in is_error(response, 422, "InvalidField")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": "image/jpeg"},
        {"Content-Type": "application/json"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "multipart/mixed; boundary=x"},
        {"Content-Type": "multipart/form-data; boundary=x; charset=unicode_escape"},
        {"Content-Type": ";;;"},
    ],
)
async def test_another_kind_of_body_is_415(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    response = await client.post("/search", content=photo(), headers=headers)
    assert "multipart/form-data" in is_error(response, 415, "UnsupportedMediaType") or "UTF-8" in response.text


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not multipart at all",
        b"--simple-boundary",
        b"--simple-boundary\r\n\r\nno headers\r\n--simple-boundary--\r\n",
        b'--simple-boundary\r\nContent-Disposition: form-data\r\n\r\nno name\r\n--simple-boundary--\r\n',
        b'--simple-boundary\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\ncut off',
        b'--simple-boundary\r\nContent-Disposition: form-data; name="top_k"\r\n\r\n'
        + b"9" * 70_000
        + b"\r\n--simple-boundary--",
        b'--simple-boundary\r\nContent-Disposition: form-data; name="\xff\xfe"\r\n\r\nx\r\n--simple-boundary--\r\n',
        b"--simple-boundary\r\n" + b"X: y\r\n" * 5000 + b"\r\nx\r\n--simple-boundary--\r\n",
        b"--simple-boundary\r\nContent-Disposition: form-data; name*=utf-8''a%ff; filename*=x\r\n\r\n"
        b"x\r\n--simple-boundary--\r\n",
    ],
)  # fmt: skip
async def test_a_broken_multipart_body_is_422(client: httpx.AsyncClient, body: bytes) -> None:
    is_error(await client.post("/search", content=body, headers=MULTIPART), 422, "InvalidField")


async def test_a_body_without_a_boundary_is_refused(client: httpx.AsyncClient) -> None:
    headers = {"Content-Type": "multipart/form-data"}
    is_error(await client.post("/search", content=b"x", headers=headers), 422, "InvalidField")


@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    fields=st.dictionaries(
        st.sampled_from(
            [
                "top_k",
                "candidates",
                "box",
                "filter",
                "rerank",
                "explain",
                "group_by",
                "min_probability",
                "odd",
                "matcher",
            ]
        ),
        st.one_of(
            st.text(max_size=40),
            st.integers().map(str),
            st.floats().map(str),
            st.sampled_from(["true", "price > 12", "name = 'x'", "0,0,50,50", "product", "id in ('a')", "\x00", "ﬀ"]),
        ),
        max_size=4,
    )
)
async def test_whatever_the_fields_hold_the_answer_is_200_or_4xx(
    client: httpx.AsyncClient, fields: dict[str, str]
) -> None:
    response = await post(client, **fields)
    assert response.status_code in (200, 422), (fields, response.text)
    if response.status_code == 422:
        is_error(response, 422, response.json()["error"])


@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(st.sampled_from([
    b"--simple-boundary", b"--", b"\r\n", b"\n", b'Content-Disposition: form-data; name="image"; filename="a"',
    b'Content-Disposition: form-data; name="top_k"', b"Content-Disposition:", b'name=";', b"\x00\xff", b"5",
    b"Content-Type: image/jpeg", b"; filename*=utf-8''%",
]), max_size=14))  # fmt: skip
async def test_whatever_the_body_holds_the_answer_is_4xx(client: httpx.AsyncClient, parts: list[bytes]) -> None:
    response = await client.post("/search", content=b"".join(parts), headers=MULTIPART)
    assert 400 <= response.status_code < 500, response.text


async def test_a_body_beyond_the_limit_is_refused_before_it_is_read(
    gallery_folder: Path, gallery: Gallery, tiny_model: Model
) -> None:
    app = create_app(settings(gallery_folder, max_image_bytes=2048), model=tiny_model, gallery=gallery)
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        yield f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'.encode()
        while True:
            read += 16 * 1024
            yield b"x" * 16 * 1024

    async with running(app) as client:
        declared = await client.post("/search", content=b"", headers={**MULTIPART, "Content-Length": str(50 * MIB)})
        is_error(declared, 413, "TooLarge")
        streamed = await client.post("/search", content=endless(), headers=MULTIPART)
        assert "2048" in is_error(streamed, 413, "TooLarge")
        assert read < 200 * 1024
        is_error(await post(client, b"x" * 3000), 413, "TooLarge")


async def test_a_client_that_sends_too_slowly_is_told_408(
    gallery_folder: Path, gallery: Gallery, tiny_model: Model
) -> None:
    app = create_app(settings(gallery_folder, upload_timeout_s=0.2), model=tiny_model, gallery=gallery)

    async def slow() -> AsyncIterator[bytes]:
        yield f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'.encode()
        for _ in range(50):
            yield b"x"
            await asyncio.sleep(0.05)

    async with running(app) as client:
        response = await client.post("/search", content=slow(), headers=MULTIPART)
        is_error(response, 408, "UploadTimeout")
        assert response.headers["Connection"] == "close"


async def test_too_many_pixels_are_refused_before_they_are_unpacked(
    gallery_folder: Path, gallery: Gallery, tiny_model: Model
) -> None:
    app = create_app(settings(gallery_folder, max_image_pixels=10_000), model=tiny_model, gallery=gallery)
    async with running(app) as client:
        assert "pixels" in is_error(await post(client, photo(size=(200, 200))), 422, "InvalidImage")
