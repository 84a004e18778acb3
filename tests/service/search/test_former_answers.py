"""A gallery of the release before answers as that release did.

tests/golden holds a gallery in that release's format, with edits on top, and what its `threadmatch search --json`
answered. On the machine that made the answers every number is the same to the last bit; other processors round
differently.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support import golden
from threadmatch.model.inference import Model, load_model
from threadmatch.service.galleries.loading import open_both
from threadmatch.service.http.schemas.search import SearchOptions
from threadmatch.service.queues.model_queues import ModelQueues
from threadmatch.service.search.answers import search_answer
from threadmatch.service.search.results import DIGITS
from threadmatch.service.search.retriever import Retriever

MADE_BY = ("2.15.0", "AVX512")
"""Release of torch and instructions of the processor that made the answers."""


@pytest.fixture(scope="module")
def former_model() -> Model:
    return load_model(golden.MODEL, device="cpu", engine="torch")


async def answer(
    folder: Path, model: Model, photo: Path, *, engine: str = "torch", **options: object
) -> dict[str, Any]:
    """By torch, as that release: another engine adds in another order, so its last bits are its own."""
    loaded, gallery = open_both(folder, model=str(golden.MODEL), device="cpu", engine=engine)
    async with ModelQueues(loaded) as queues:
        result = await Retriever(gallery, queues).search(photo.read_bytes(), SearchOptions.model_validate(options))
    found: dict[str, Any] = json.loads(search_answer(result, model, "r").model_dump_json())
    return found


def numbers(match: dict[str, Any]) -> list[float | None]:
    return [match["score"], match["probability"], match["distance"]]


def check(matches: list[dict[str, Any]], former: list[dict[str, Any]], *, to_the_bit: bool = True) -> None:
    identity = ("rank", "id", "product_id", "stage1_rank", "metadata")
    assert [[m[name] for name in identity] for m in matches] == [[m[name] for name in identity] for m in former]
    exact = to_the_bit and (torch.__version__.partition("+")[0], torch.backends.cpu.get_cpu_capability()) == MADE_BY
    for match, before in zip(matches, former, strict=True):
        for found, expected in zip(numbers(match), numbers(before), strict=True):
            rounded = None if expected is None else round(expected, DIGITS)  # they were given with all their digits
            assert found == (rounded if exact or rounded is None else pytest.approx(rounded, abs=1.1 * 10**-DIGITS))


@pytest.mark.parametrize("matcher", ["grnet", "greedy", "global"])
@pytest.mark.parametrize("number", range(4))
async def test_ids_scores_and_probabilities_are_as_they_were(
    tmp_path: Path, former_model: Model, number: int, matcher: str
) -> None:
    former = golden.answer(f"{number}-{matcher}")
    found = await answer(
        golden.copy(tmp_path / "gallery"),
        former_model,
        golden.PHOTOS[number],
        matcher=matcher,
        top_k=14,
        collapse_duplicates=False,
    )
    check(found["matches"], former["matches"])
    for name in ("no_match", "candidates", "gallery", "model"):
        assert found[name] == former[name]
    assert former["query"].items() <= found["query"].items()


async def test_the_engine_that_ships_differs_in_rounding_alone(tmp_path: Path, former_model: Model) -> None:
    options = {"matcher": "grnet", "top_k": 14, "collapse_duplicates": False}
    folder = golden.copy(tmp_path / "gallery")
    found = await answer(folder, former_model, golden.PHOTOS[1], engine="openvino", **options)
    check(found["matches"], golden.answer("1-grnet")["matches"], to_the_bit=False)


async def test_filtered_grouped_and_explained_it_is_as_it_was(tmp_path: Path, former_model: Model) -> None:
    former = golden.answer("explain")
    options = {"filter": "price < 100", "group_by": "product", "explain": True}
    found = await answer(golden.copy(tmp_path / "gallery"), former_model, golden.PHOTOS[3], **options)
    check(found["matches"], former["matches"])
    for match, before in zip(found["matches"], former["matches"], strict=True):
        for name in ("evidence", "evidence_before"):
            assert [pair["query_box"] for pair in match[name]] == [pair["query_box"] for pair in before[name]]
            weights = [pair["weight"] for pair in before[name]]
            assert [pair["weight"] for pair in match[name]] == pytest.approx(weights, abs=1e-4)
