"""The page of an evaluation: one file that loads nothing, with the verdict, curves, and the photos of what failed."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from threadmatch.model.data.pairs import read_labelled
from threadmatch.model.evaluate.evaluation import EvaluationSettings, rank, report
from threadmatch.model.evaluate.latency import measure_latency
from threadmatch.model.evaluate.ranking import Rankings
from threadmatch.model.evaluate.report_page import FAILURES, accuracy_curve, section, write_page
from threadmatch.model.images import Box
from threadmatch.model.inference import Model
from threadmatch.service.cli import app


class Page(HTMLParser):
    """What a page holds."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def measured(tiny_model: Model, striped_set: Path) -> tuple[dict[str, Any], Rankings]:
    gallery, queries = (read_labelled(striped_set / f"{kind}.csv") for kind in ("gallery", "queries"))
    rankings = rank(tiny_model, gallery, queries, settings=EvaluationSettings(candidates=12, exhaustive=False))
    return report(rankings, tiny_model, seconds=0), rankings


def test_the_page_is_one_file_that_loads_nothing_and_shows_what_failed(
    measured: tuple[dict[str, Any], Rankings], tiny_model: Model, tmp_path: Path
) -> None:
    result, rankings = measured
    odd = "<script>alert(1)</script>"
    rankings = replace(rankings, queries=[replace(image, id=odd) for image in rankings.queries])
    latency = measure_latency({"tiny": tiny_model}, rankings.queries, candidates=12, rounds=3)
    assert latency["tiny"].rounds == 3
    assert min(latency["tiny"].encode_ms, latency["tiny"].rank_ms) > 0
    write_page({"tiny": (result, rankings)}, tmp_path / "r.html", latency=latency, command=f"x {odd}")
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"]
    page = Page((tmp_path / "r.html").read_text())
    assert not page.named("script")
    assert not page.named("link")
    assert all((image["src"] or "").startswith("data:image/jpeg;base64,") for image in page.named("img"))
    assert all(image["alt"] for image in page.named("img"))
    misses = int((rankings.ranks("grnet") != 1).sum())
    assert misses > FAILURES, "so some are shown, evenly spaced"
    assert len(page.named("img")) == 3 * FAILURES
    assert page.words.count(odd) == FAILURES + 1, "ids are text, not markup"
    assert "The right item comes first for" in page.words
    assert f"{misses} queries whose right item did not come first" in page.words


def test_the_curves_are_the_rates(measured: tuple[dict[str, Any], Rankings]) -> None:
    result, rankings = measured
    shown = section("tiny", result, rankings)
    for line in shown.accuracy:
        rates = result["methods"][line.name]
        at = dict(line.points)
        assert [at[0.0], at[4 / 49], at[19 / 49], at[1.0]] == pytest.approx(
            [rates[name] for name in ("top1", "top5", "top20", "top50")]
        )
        heights = [y for _, y in line.points]
        assert heights == sorted(heights)
    assert shown.misses == int((rankings.ranks("grnet") != 1).sum())
    assert accuracy_curve(np.array([1, 0, 3, 3]), depth=3) == ((0.0, 0.25), (0.5, 0.25), (1.0, 0.75))


def test_a_photo_that_is_gone_leaves_its_place_empty(measured: tuple[dict[str, Any], Rankings], tmp_path: Path) -> None:
    result, rankings = measured
    gone = replace(rankings, queries=[replace(image, path=tmp_path / "gone.jpg") for image in rankings.queries])
    assert all(failure.query == "" for failure in section("tiny", result, gone).failures)
    assert all(failure.right for failure in section("tiny", result, gone).failures)


def test_a_box_that_reaches_beyond_its_photo_is_cut_as_it_is_for_the_model(
    measured: tuple[dict[str, Any], Rankings],
) -> None:
    result, rankings = measured
    wide = replace(rankings, queries=[replace(image, box=Box(2, 2, 9999, 9999)) for image in rankings.queries])
    assert all(failure.query for failure in section("tiny", result, wide).failures)


def test_the_command_writes_the_page(striped_set: Path, tiny_model_folder: Path, tmp_path: Path) -> None:
    tables = ["--gallery-csv", str(striped_set / "gallery.csv"), "--query-csv", str(striped_set / "queries.csv")]
    out = ["--out", str(tmp_path / "r.json"), "--html", str(tmp_path / "new" / "r.html"), "--trec-depth", "0"]
    options = ["--model", str(tiny_model_folder), "--no-exhaustive", "--candidates", "12"]
    outcome = CliRunner().invoke(app, ["evaluate", *tables, *out, *options])
    assert outcome.exit_code == 0, outcome.output
    assert "- The right item comes first for" in outcome.stdout
    page = Page((tmp_path / "new" / "r.html").read_text())
    assert "12 items (medians of" in page.words
