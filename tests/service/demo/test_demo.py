"""`threadmatch demo` as a user runs it: a folder of photos, drawn garments, real photos; Ctrl-C; what goes wrong."""

from __future__ import annotations

import csv
import os
import re
import signal
import socket
import subprocess
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests.support.checkout import IMPORT_PATH
from tests.support.patience import PATIENCE_S
from threadmatch.indexer.catalogue.rows import Catalogue, CatalogueRow
from threadmatch.model.synthetic.drawn.shop_image import draw_shop_image
from threadmatch.model.synthetic.garments.garment import garment
from threadmatch.model.synthetic.street.street_set import read_sources
from threadmatch.service.access.keys import add_key
from threadmatch.service.config import Settings, variable
from threadmatch.service.demo import sources
from threadmatch.service.demo.asking import DemoQuery, Outcome, read_queries
from threadmatch.service.demo.errors import DemoError
from threadmatch.service.demo.picture import choose_rows
from threadmatch.service.demo.sources import choose_source
from threadmatch.service.process.commands import NOT_OURS, program, run_command

ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("THREADMATCH_")},
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": IMPORT_PATH,
    "COLUMNS": "100",
}


def demo(work: Path, model: Path, *flags: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [*program(), "demo", "--work", str(work), "--model", str(model), "--check", *flags]
    environment = {**ENVIRONMENT, **variables}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S, env=environment)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder: images in sub-folders, no catalogue, one file that is no image. Its name has a space."""
    folder = tmp_path_factory.mktemp("data") / "my photos"
    for number in range(10):
        path = folder / f"rack {number % 3}" / f"garment {number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw_shop_image(garment(3, number))).save(path)
    (folder / "broken.jpg").write_bytes(b"not an image")
    return folder


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture
def own_service(tmp_path: Path) -> dict[str, str]:
    """What a user exports for a service of their own: keys, another gallery, every address, a folder of feedback."""
    add_key(tmp_path / "keys.json", role="search", galleries=("*",), label="a shop")
    return {
        "THREADMATCH_KEYS": str(tmp_path / "keys.json"),
        "THREADMATCH_GALLERIES": f"women={tmp_path / 'women'}",
        "THREADMATCH_HOST": "0.0.0.0",
        "THREADMATCH_FEEDBACK": str(tmp_path / "feedback"),
    }


def test_a_folder_of_photos_is_searched_and_drawn_as_a_sheet(
    photos: Path, work: Path, tiny_model_folder: Path, own_service: dict[str, str]
) -> None:
    sheet = work / "sheet.png"
    flags = ("--data", str(photos), "--queries", "3", "--write-picture", str(sheet))
    done = demo(work, tiny_model_folder, *flags, **own_service)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "semi-synthetic" in done.stdout
    commands = re.findall(r"^\$ threadmatch (\w+) ", done.stdout, re.M)
    assert commands == ["ingest", "serve"]
    assert "10 items; 10 encoded" in done.stdout
    assert "1 rejected" in done.stdout
    assert len(re.findall(r"right item .*: rank \S+.* -> ", done.stdout)) == 3
    assert len(re.findall(r"decode .* encode .* shortlist .* rerank .* total", done.stdout)) == 4, "each, and the mean"
    assert "Checked: every step answered well." in done.stdout
    with Image.open(sheet) as picture:
        assert picture.format == "PNG"
        assert picture.width > 600
    assert "POST http://127.0.0.1:" in done.stdout
    assert not Path(own_service["THREADMATCH_FEEDBACK"]).exists(), "the demo leaves the user's service alone"


def test_a_second_time_the_gallery_is_there_and_ctrl_c_ends_the_service_too(
    photos: Path, work: Path, tiny_model_folder: Path
) -> None:
    flags = ["--work", str(work), "--model", str(tiny_model_folder), "--data", str(photos), "--queries", "2"]
    command = [*program(), "demo", *flags]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENVIRONMENT, start_new_session=True
    )
    assert process.stdout is not None
    said: list[str] = []
    try:
        for line in process.stdout:
            said.append(line)
            if "Ctrl-C stops it" in line:
                break
        found = re.search(r"Serving on (http://\S+)", "".join(said))
        assert found, "".join(said)
        assert httpx.get(f"{found[1]}/health/ready", timeout=PATIENCE_S).status_code == 200
        process.send_signal(signal.SIGINT)
        said.append(process.stdout.read())
        assert process.wait(timeout=PATIENCE_S) == 0, "".join(said)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        process.stdout.close()
    assert "0 encoded, 10 were there already" in "".join(said)
    assert "Stopped." in said[-1]
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{found[1]}/health/live")


def test_drawn_garments_need_no_photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", IMPORT_PATH)
    source = choose_source(None, tmp_path, queries=2, parts=None, drawn_items=24, run_step=run_command)
    rows = [row for row in Catalogue.open(source.catalogue) if isinstance(row, CatalogueRow)]
    assert len(rows) == 24
    assert all((source.images / row.image).is_file() for row in rows)
    asked = read_queries(source.queries, 2)
    assert all(query.path.is_file() for query in asked)
    assert {query.product_id for query in asked} <= {row.product_id for row in rows}


def test_real_photos_are_those_of_the_test_split(shared_data: Path, tmp_path: Path) -> None:
    source = choose_source(shared_data, tmp_path, queries=2, parts=["venia"], drawn_items=None, run_step=lambda _: None)
    said = re.fullmatch(r"(\d+) real photos that the model was not trained on \((\d+) of venia\)", source.title)
    assert said, source.title
    rows = list(Catalogue.open(source.catalogue))
    assert len(rows) == int(said[1]) == int(said[2]) > 0
    tested = {str(photo.path) for photo in read_sources(shared_data, ["venia"]) if photo.split == "test"}
    for row in rows:
        assert isinstance(row, CatalogueRow)
        assert str(source.images / row.image) in tested
    asked = read_queries(source.queries, 2)
    assert len(asked) == 2
    assert all(query.path.is_file() for query in asked)


def test_people_s_garments_and_shops_are_taken_and_photos_of_whole_streets_are_not(
    shared_data: Path, tmp_path: Path
) -> None:
    source = choose_source(shared_data, tmp_path, queries=1, parts=None, drawn_items=None, run_step=lambda _: None)
    assert re.search(r"\(\d+ of clothing, \d+ of luma, \d+ of venia\)", source.title)
    assert (shared_data / "street" / "items.csv").is_file()


def test_without_any_photos_those_that_ship_are_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "real_photos", lambda: None)
    source = choose_source(None, tmp_path, queries=3, parts=None, drawn_items=None, run_step=lambda _: None)
    assert source.title == "300 real photos that the model was not trained on (300 of clothing)"
    with source.queries.open(newline="") as file:
        asked = list(csv.DictReader(file))
    assert len(asked) >= 3
    assert all((source.queries.parent / row["image"]).is_file() for row in asked)


def test_the_photos_that_ship_are_few_small_and_free() -> None:
    folder = sources.SHIPPED_PHOTOS / "clothing"
    shipped = list((folder / "images").iterdir())
    assert len(shipped) == 300
    assert sum(path.stat().st_size for path in shipped) < 5 * 2**20
    assert max(max(Image.open(path).size) for path in shipped) <= 320
    assert "CC0 1.0 Universal" in (folder / "LICENSE").read_text()
    assert {photo.split for photo in read_sources(sources.SHIPPED_PHOTOS, ["clothing"])} == {"test"}


def test_what_cannot_work_is_said_in_words(work: Path, photos: Path, tiny_model_folder: Path, tmp_path: Path) -> None:
    done = demo(work, tiny_model_folder, "--data", str(tmp_path / "nowhere"))
    assert (done.returncode, "nowhere" in done.stderr, "Traceback" in done.stderr) == (1, True, False)
    done = demo(work, tmp_path / "no-model", "--drawn", "24", "--queries", "2")
    assert "Gallery: 24 drawn garments." in done.stdout
    assert (done.returncode, "no-model" in done.stderr + done.stdout, "Traceback" in done.stderr) == (1, True, False)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = demo(work, tiny_model_folder, "--data", str(photos), "--queries", "2", "--port", port)
    assert (done.returncode, "choose another --port" in done.stderr, "Traceback" in done.stderr) == (1, True, False)


def test_the_settings_that_a_service_of_ours_does_not_get_are_settings() -> None:
    assert set(map(variable, Settings.model_fields)) > NOT_OURS


def source_of(data: Path, tmp_path: Path) -> None:
    choose_source(data, tmp_path / "work", queries=1, parts=None, drawn_items=None, run_step=lambda _: None)


def test_a_folder_that_leaves_a_question_open_is_asked_about(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    with pytest.raises(DemoError, match="no images in"):
        source_of(data, tmp_path)
    (data / "a.csv").write_text("image\n1.jpg\n")
    (data / "b.csv").write_text("image\n1.jpg\n")
    with pytest.raises(DemoError, match="several tables"):
        source_of(data, tmp_path)
    (data / "catalogue.csv").write_text("picture\n1.jpg\n")
    with pytest.raises(DemoError, match="image"):
        source_of(data, tmp_path)
    (data / "catalogue.csv").write_text("image\n1.jpg\n")
    with pytest.raises(DemoError, match="none of the 1 photos"):
        source_of(data, tmp_path)


def test_given_queries_are_used_and_their_faults_named(tmp_path: Path) -> None:
    (tmp_path / "catalogue.csv").write_text("image\n1.jpg\n")
    table = tmp_path / "queries.csv"
    table.write_text("image,product_id,setup\nq.jpg,p,easy\nr.jpg,q,\n")
    source = choose_source(tmp_path, tmp_path / "w", queries=1, parts=None, drawn_items=None, run_step=lambda _: None)
    assert source.queries == table
    assert read_queries(table, 1) == [DemoQuery(tmp_path / "q.jpg", "p", "", "easy")]
    table.write_text("image\nq.jpg\n")
    with pytest.raises(DemoError, match="product_id"):
        read_queries(table, 1)
    table.write_text("image,product_id\n")
    with pytest.raises(DemoError, match="no rows"):
        read_queries(table, 1)


def test_the_sheet_shows_gain_middle_and_loss() -> None:
    def outcome(before: int | None, after: int | None) -> Outcome:
        return Outcome(DemoQuery(Path("q"), "p", "", ""), {}, before, after)

    best, middle, worst, lost = outcome(9, 1), outcome(1, 1), outcome(1, 7), outcome(3, None)
    assert choose_rows([worst, lost, middle, outcome(2, 2), best, outcome(4, 5)]) == [best, middle, worst]
    assert choose_rows([lost]) == [lost]
