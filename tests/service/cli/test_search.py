"""`threadmatch search` says what POST /v1/search says."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from typer.testing import CliRunner, Result

from tests.support.serving import photo, post, running, settings
from threadmatch.indexer.reading.gallery import Gallery
from threadmatch.model.descriptions import DEFAULT_PARSER
from threadmatch.model.detection.parsing.detector import ParserDetector, load_parser_detector
from threadmatch.model.inference import Model
from threadmatch.service.app import create_app
from threadmatch.service.cli import app
from threadmatch.service.http.schemas.matches import SearchAnswer


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["search", *map(str, arguments)])


@pytest.fixture(scope="module", autouse=True)
def _parser() -> ParserDetector:
    """Held by the module, so that each command gets it as it is."""
    return load_parser_detector()


@pytest.fixture
def searched(tmp_path: Path, gallery_folder: Path, tiny_model_folder: Path) -> list[str]:
    (tmp_path / "street.jpg").write_bytes(photo(9))
    return [str(tmp_path / "street.jpg"), "--gallery", str(gallery_folder), "--model", str(tiny_model_folder)]


@pytest_asyncio.fixture
async def client(gallery_folder: Path, gallery: Gallery, tiny_model: Model) -> AsyncIterator[httpx.AsyncClient]:
    """The service with the detector that the command line has too: the shipped parser."""
    asked = settings(gallery_folder, detector=DEFAULT_PARSER)
    async with running(create_app(asked, model=tiny_model, gallery=gallery)) as client:
        yield client


@pytest.mark.parametrize(
    ("flags", "fields"),
    [
        ([], {}),
        (["--top-k", "3", "--candidates", "7"], {"top_k": 3, "candidates": 7}),
        (["--no-rerank", "--group-by", "product"], {"rerank": "false", "group_by": "product"}),
        (["--box", "5,5,90,100", "--filter", "price > 20"], {"box": "5,5,90,100", "filter": "price > 20"}),
        (["--explain", "--top-k", "2"], {"explain": "true", "top_k": 2}),
        (["--min-probability", "1"], {"min_probability": 1}),
        (["--matcher", "greedy"], {"matcher": "greedy"}),
        (["--matcher", "global"], {"rerank": "false"}),
    ],
)
async def test_command_line_and_http_agree(
    client: httpx.AsyncClient, searched: list[str], flags: list[str], fields: dict[str, object]
) -> None:
    result = await asyncio.to_thread(run, *searched, *flags, "--json")
    assert result.exit_code == 0, result.stderr
    offline = json.loads(result.stdout)
    SearchAnswer.model_validate(offline)
    online = (await post(client, photo(9), **fields)).json()
    for volatile in ("request_id", "timings_ms"):
        del offline[volatile], online[volatile]
    for match in online["matches"]:
        match.pop("heatmaps", None)  # the service remembers searches, the command line does not
    assert offline == online


def test_the_table_shows_both_ranks_and_the_times(searched: list[str]) -> None:
    result = run(*searched, "--explain")
    assert result.exit_code == 0, result.stderr
    assert "rank" in result.stdout
    assert "was" in result.stdout
    assert "rerank" in result.stdout
    assert "40 candidates of 40 items, generation 000001" in result.stdout.replace("\n", " ")


def test_nothing_found_is_said_and_is_no_failure(searched: list[str]) -> None:
    result = run(*searched, "--min-probability", "1")
    assert result.exit_code == 0
    assert "No match" in result.stdout


@pytest.mark.parametrize(
    ("flags", "code", "says"),
    [
        (["--top-k", "0"], 2, "--top-k"),
        (["--group-by", "colour"], 2, "--group-by"),
        (["--no-rerank", "--explain"], 2, "rerank"),
        (["--no-rerank", "--matcher", "greedy"], 2, "leave one out"),
        (["--box", "1,2"], 1, "box"),
        (["--filter", "nosuch = 1"], 2, "nosuch"),
    ],
)
def test_wrong_use_says_what_is_wrong(searched: list[str], flags: list[str], code: int, says: str) -> None:
    result = run(*searched, *flags)
    assert (result.exit_code, result.stdout) == (code, "")
    assert says in result.stderr


def test_a_photo_or_gallery_that_cannot_be_read_is_said(searched: list[str], tmp_path: Path) -> None:
    assert "cannot read" in run(tmp_path / "none.jpg", *searched[1:]).stderr
    (tmp_path / "text.jpg").write_text("hello")
    result = run(tmp_path / "text.jpg", *searched[1:])
    assert result.exit_code == 1
    assert "image" in result.stderr
    result = run(searched[0], "--gallery", tmp_path / "nowhere")
    assert result.exit_code == 1
    assert "nowhere" in result.stderr


def test_a_gallery_of_a_model_of_one_s_own_asks_where_that_is(searched: list[str]) -> None:
    result = run(*searched[:3])
    assert result.exit_code == 1
    assert "made with model 'tiny'" in result.stderr
    assert "--model" in result.stderr


def test_help_is_fast_since_nothing_heavy_is_imported() -> None:
    code = "import sys, threadmatch.service.cli; print({'torch', 'faiss', 'fastapi', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
