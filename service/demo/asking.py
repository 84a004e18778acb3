"""The demo's questions: one POST a street photo, and where the right garment stood before and after reranking."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from threadmatch.service.demo.errors import DemoError
from threadmatch.service.http.schemas.search import MAX_TOP_K

TIMEOUT_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class DemoQuery:
    """A street photo and the product it shows."""

    path: Path
    product_id: str
    box: str
    setup: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """The answer to one query.

    Fields:
        query: what was asked.
        answer: the body of POST /search, with as many matches as the service gives.
        before: rank of the right product in the shortlist; None where it is not among those compared.
        after: its rank after reranking; None where it is not among the matches.
    """

    query: DemoQuery
    answer: dict[str, Any]
    before: int | None
    after: int | None


def read_queries(table: Path, count: int) -> list[DemoQuery]:
    """The first rows of a queries.csv.

    Raises:
        DemoError: the table cannot be used.
    """
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = list(itertools.islice(csv.DictReader(file), count))
        queries = [
            DemoQuery(table.parent / row["image"], row["product_id"], row.get("box") or "", row.get("setup") or "")
            for row in rows
        ]
    except (OSError, UnicodeDecodeError, csv.Error, KeyError) as error:
        raise DemoError(f"{table} cannot be used ({error!r}); it needs columns image and product_id") from error
    if not queries:
        raise DemoError(f"{table} has no rows")
    return queries


def ask(client: httpx.Client, query: DemoQuery, *, candidates: int) -> Outcome:
    """Search for a photo.

    Raises:
        DemoError: the service answered anything but 200 with matches that carry both ranks.
    """
    answer = post(client, query, candidates=candidates, top_k=MAX_TOP_K)
    right = list(_right(answer, query))
    if right:
        before: int | None = min(match["stage1_rank"] for match in right)
        return Outcome(query, answer, before, min(match["rank"] for match in right))
    plain = post(client, query, candidates=candidates, top_k=MAX_TOP_K, rerank="false")
    before = min((match["stage1_rank"] for match in _right(plain, query)), default=None)
    return Outcome(query, answer, before, None)


def post(client: httpx.Client, query: DemoQuery, **fields: object) -> dict[str, Any]:
    """POST /search, checked."""
    data = {name: str(value) for name, value in fields.items()}
    if query.box:
        data["box"] = query.box
    files = {"image": (query.path.name, query.path.read_bytes())}
    try:
        response = client.post("/search", files=files, data=data, timeout=TIMEOUT_S)
    except httpx.TransportError as error:
        raise DemoError(f"POST /search with {query.path} got no answer: {error!r}") from error
    if response.status_code != httpx.codes.OK:
        raise DemoError(f"POST /search with {query.path} answered {response.status_code}: {response.text[:500]}")
    answer: dict[str, Any] = response.json()
    matches = answer["matches"]
    if not matches or not all(match.get("rank") and match.get("stage1_rank") for match in matches):
        raise DemoError(f"POST /search with {query.path} answered without ranked matches: {response.text[:500]}")
    return answer


def check_service(client: httpx.Client) -> None:
    """The endpoints that a user opens first.

    Raises:
        DemoError: one of them answered something else than 200.
    """
    for path in ("/health/live", "/health/ready", "/", "/v1/gallery", "/openapi.json"):
        try:
            status = client.get(path, timeout=TIMEOUT_S).status_code
        except httpx.TransportError as error:
            raise DemoError(f"GET {path} got no answer: {error!r}") from error
        if status != httpx.codes.OK:
            raise DemoError(f"GET {path} answered {status}, expected 200")


def _right(answer: dict[str, Any], query: DemoQuery) -> Iterator[dict[str, Any]]:
    for match in answer["matches"]:
        if (match["product_id"] or match["id"]) == query.product_id:
            yield match
