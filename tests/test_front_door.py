"""`import threadmatch`: five names, lazy, typed; their examples run; a user's own modules of our names stay theirs."""

from __future__ import annotations

import ast
import contextlib
import doctest
import inspect
import io
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import assert_type, get_type_hints

import pytest
import uvicorn
from fastapi import FastAPI
from PIL import Image

import threadmatch
from tests.support.checkout import IMPORT_PATH, ROOT
from tests.support.patience import PATIENCE_S
from tests.support.serving import build_gallery, make_catalogue, photo
from threadmatch.indexer.errors import FilterError, ItemNotFoundError
from threadmatch.indexer.ingest_options import IngestOptions, IngestResult
from threadmatch.indexer.opening import current_manifest
from threadmatch.model.descriptions import DEFAULT_MODEL, shipped_models
from threadmatch.model.errors import InvalidImageError
from threadmatch.model.inference import Model
from threadmatch.service.client import Client
from threadmatch.service.errors import InvalidFieldError, StartError, StoppedError
from threadmatch.service.galleries.filling import IngestChoices
from threadmatch.service.galleries.local import LocalGallery
from threadmatch.service.http.schemas.matches import SearchAnswer

NAMES = {"Client", "create_app", "ingest", "load_model", "open"}
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("THREADMATCH_")}
EXAMPLES = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_model: Model) -> Path:
    """A gallery of twelve items; item-3 shows photo(4)."""
    ids = [f"item-{number}" for number in range(12)]
    return build_gallery(tmp_path_factory.mktemp("front"), tiny_model, ids)


@pytest.fixture(scope="module")
def opened(folder: Path, tiny_model: Model) -> Iterator[LocalGallery]:
    with threadmatch.open(folder, model=tiny_model) as gallery:
        yield gallery


def ids(answer: SearchAnswer) -> list[str]:
    return [match.id for match in answer.matches]


def told(answer: SearchAnswer) -> dict[str, object]:
    """All of an answer that its photo and the gallery decide."""
    return answer.model_dump(exclude={"request_id", "timings_ms"})


def run_python(code: str, *, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**ENVIRONMENT, "PYTHONPATH": str(ROOT / "src"), **variables}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE_S,
    )  # fmt: skip


# The names.


def test_the_five_names_are_all_there_is() -> None:
    assert set(threadmatch.__all__) == set(dir(threadmatch)) == NAMES
    with pytest.raises(AttributeError, match="'search'; it has Client, create_app, ingest"):
        threadmatch.search  # type: ignore[attr-defined]  # noqa: B018 - looking is what is tested


def test_type_checkers_see_the_objects_that_programs_get() -> None:
    seen: dict[str, tuple[str, str]] = {}
    for node in ast.walk(ast.parse(Path(threadmatch.__file__).read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("threadmatch."):
            seen |= {alias.asname or alias.name: (str(node.module), alias.name) for alias in node.names}
    assert seen == threadmatch._HOMES
    assert (threadmatch.open, threadmatch.Client) == (LocalGallery, Client)


def test_importing_it_loads_no_library_until_a_name_is_used(tmp_path: Path) -> None:
    code = """
import sys
before = set(sys.modules)
import threadmatch
print(sorted({name.partition(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)))
threadmatch.Client
print(sorted({"torch", "faiss", "timm"} & set(sys.modules)))
"""
    done = run_python(code, cwd=tmp_path)
    assert (done.stdout.splitlines(), done.stderr) == (["['threadmatch']", "[]"], "")


def test_what_ingest_may_be_told_are_options_of_an_ingestion() -> None:
    options = get_type_hints(IngestOptions)
    assert {name: options[name] for name in get_type_hints(IngestChoices)} == get_type_hints(IngestChoices)


# The examples.


@contextlib.contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """The address of an app that a real server runs."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the app did not start"
            time.sleep(0.02)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def run_example(text: str, globs: dict[str, object], name: str) -> None:
    """Run the `>>>` lines of a docstring; each shows what it says that it shows."""
    example = doctest.DocTestParser().get_doctest(text, globs, name, name, 0)
    assert example.examples, f"{name} has no example"
    said = io.StringIO()
    runner = doctest.DocTestRunner(optionflags=EXAMPLES)
    runner.run(example, out=said.write, clear_globs=False)
    assert runner.failures == 0, said.getvalue()
    globs.update(example.globs)


def test_every_names_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the model that ships, in a folder that holds a catalogue and a photo, as a reader would."""
    for name in [name for name in os.environ if name.startswith("THREADMATCH_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    catalogue = make_catalogue(tmp_path, [f"item-{number}" for number in range(60)])
    (tmp_path / "images").rename(tmp_path / "shop")
    catalogue.rename(tmp_path / "shop" / "catalogue.jsonl")
    rows = (tmp_path / "shop" / "catalogue.jsonl").read_text("utf-8").count("\n") + 1
    (tmp_path / "shop" / "catalogue.csv").write_text(
        "id,image\n" + "".join(f"item-{number},{number}.jpg\n" for number in range(rows))
    )
    shutil.copy(tmp_path / "shop" / "4.jpg", tmp_path / "street.jpg")
    globs: dict[str, object] = {}
    texts = {"threadmatch": inspect.getdoc(threadmatch) or ""}
    texts |= {name: inspect.getdoc(getattr(threadmatch, name)) or "" for name in ("ingest", "open", "create_app")}
    for name, text in texts.items():
        run_example(text, globs, name)
    app = globs["app"]
    assert isinstance(app, FastAPI)
    with served(app) as address:
        text = (inspect.getdoc(threadmatch.Client) or "").replace("http://127.0.0.1:8000", address)
        run_example(text, globs, "Client")
    shown = "\n".join([*texts.values(), text])
    assert all(f"threadmatch.{name}(" in shown for name in NAMES), "each name has an example"


# Searching.


def test_a_search_answers_as_the_service_does(opened: LocalGallery, folder: Path, tiny_model: Model) -> None:
    app = threadmatch.create_app(folder, model=tiny_model, gallery=opened.gallery)
    assert_type(app, FastAPI)
    with served(app) as address, threadmatch.Client(address) as client:
        there = assert_type(client.search(photo(4), top_k=5, group_by="product", filter="price < 20"), SearchAnswer)
        here = assert_type(opened.search(photo(4), top_k=5, group_by="product", filter="price < 20"), SearchAnswer)
    assert told(here) == told(there)
    shown = {match.stage1_rank: match.id for match in here.matches}
    shown |= {view.stage1_rank: view.id for match in here.matches for view in match.views or []}
    assert shown[1] == "item-3"


def test_a_photo_may_be_a_path_bytes_or_a_picture(opened: LocalGallery, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(photo(4, kind="PNG"))
    as_bytes = opened.search(path.read_bytes(), box=(5, 5, 110, 150))
    assert as_bytes.query.box == (5, 5, 110, 150)
    with Image.open(path) as picture:
        answers = [opened.search(form, box=(5, 5, 110, 150)) for form in (path, str(path), picture)]
    assert [told(answer) for answer in answers] == [told(as_bytes)] * 3


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I;16"])
def test_a_picture_of_any_mode_is_searched(opened: LocalGallery, mode: str) -> None:
    with Image.open(io.BytesIO(photo(4))) as stored:
        picture = stored.convert("I").point(lambda value: value * 256).convert("I;16") if mode == "I;16" else None
        picture = picture or stored.convert("RGBA").convert("P" if mode == "PA" else "RGB").convert(mode)
    assert len(opened.search(picture, top_k=3).matches) == 3


def test_a_picture_stands_as_its_camera_was_held(opened: LocalGallery) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(io.BytesIO(photo(4, size=(120, 160)))) as stored, io.BytesIO() as file:
        stored.save(file, "JPEG", exif=exif)
        with Image.open(file) as picture:
            query = opened.search(picture).query
            assert (query.width, query.height) == (160, 120)
            assert told(opened.search(picture.copy()))["query"] == query.model_dump()


def test_threads_share_one_gallery(opened: LocalGallery) -> None:
    with ThreadPoolExecutor(8) as threads:
        answers = list(
            threads.map(
                lambda seed: opened.search(photo(seed), top_k=1, matcher="global", box="none"), [*range(1, 13)] * 3
            )
        )
    assert [ids(answer) for answer in answers] == [[f"item-{number}"] for number in range(12)] * 3


def test_what_cannot_be_searched_is_named_by_its_error(opened: LocalGallery, tmp_path: Path) -> None:
    with pytest.raises(InvalidFieldError, match=r"top_k='0'.*greater than or equal to 1"):
        opened.search(photo(), top_k=0)
    with pytest.raises(InvalidFieldError, match="topk"):
        opened.search(photo(), topk=3)  # type: ignore[call-arg]
    with pytest.raises(InvalidFieldError, match="leave one of them out"):
        opened.search(photo(), explain=True, rerank=False)
    with pytest.raises(FilterError, match="colour"):
        opened.search(photo(), filter='colour = "red"')
    with pytest.raises(InvalidImageError, match="box"):
        opened.search(photo(), box=(500, 500, 600, 600))
    with pytest.raises(InvalidImageError, match="like no image"):
        opened.search(b"no photo")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        opened.search(tmp_path / "nowhere.jpg")
    with pytest.raises(ItemNotFoundError):
        opened.item_photo("nobody")


def test_an_items_photo_can_be_looked_at(opened: LocalGallery) -> None:
    with Image.open(io.BytesIO(opened.item_photo("item-3"))) as picture:
        assert (picture.format, picture.size) == ("JPEG", (120, 160))


def test_a_closed_gallery_says_so_and_leaves_no_thread(folder: Path, tiny_model: Model) -> None:
    before = set(threading.enumerate())
    gallery = threadmatch.open(str(folder), model=tiny_model)
    assert gallery.search(photo(4), box="none").matches
    gallery.close()
    gallery.close()
    with pytest.raises(StoppedError, match=r"closed; open it again"):
        gallery.search(photo(4))
    for thread in set(threading.enumerate()) - before:
        thread.join(PATIENCE_S)
    assert set(threading.enumerate()) <= before
    forgotten = threadmatch.open(folder, model=tiny_model)
    (thread,) = [one for one in set(threading.enumerate()) - before if one.name == "threadmatch-gallery"]
    del forgotten
    thread.join(PATIENCE_S)
    assert not thread.is_alive(), "a gallery that nobody holds any more is closed"


def test_what_is_ingested_later_is_taken_up_when_asked(tmp_path: Path, tiny_model_folder: Path) -> None:
    gallery = tmp_path / "gallery"
    result = threadmatch.ingest(
        make_catalogue(tmp_path, ["a", "b"]), gallery, images=tmp_path / "images", model=tiny_model_folder, workers=1,
        box="none",
    )  # fmt: skip
    assert_type(result, IngestResult)
    assert (result.items, result.encoded, result.rejected) == (2, 2, 0)
    with threadmatch.open(gallery, model=tiny_model_folder) as opened:
        assert not opened.refresh()
        more = make_catalogue(tmp_path, ["a", "b", "c"])
        again = threadmatch.ingest(more, gallery, images=tmp_path / "images", model=opened.model, workers=1, box="none")
        assert (again.items, again.encoded, again.skipped) == (3, 1, 2)
        assert opened.search(photo(3), box="none").gallery.items == 2
        assert opened.refresh()
        assert ids(opened.search(photo(3), top_k=1, matcher="global", box="none")) == ["c"]


def test_a_gallery_goes_on_with_the_model_that_ships_and_made_it(tmp_path: Path) -> None:
    former = next(name for name in shipped_models() if name != DEFAULT_MODEL)
    for number, model in enumerate((former, None)):
        names = ["a", "b"][: number + 1]
        threadmatch.ingest(
            make_catalogue(tmp_path, names), tmp_path / "former", images=tmp_path / "images", model=model, workers=1,
            box="none",
        )  # fmt: skip
        assert current_manifest(tmp_path / "former").model.name == former
    threadmatch.ingest(
        make_catalogue(tmp_path, ["a"]), tmp_path / "new", images=tmp_path / "images", workers=1, box="none"
    )
    assert current_manifest(tmp_path / "new").model.name == DEFAULT_MODEL


def test_a_gallery_that_cannot_be_opened_is_said_in_words(tmp_path: Path, folder: Path, tiny_model: Model) -> None:
    with pytest.raises(StartError, match="nowhere"):
        threadmatch.open(tmp_path / "nowhere")
    with pytest.raises(StartError, match="nowhere"):
        threadmatch.open(tmp_path / "nowhere", model=tiny_model)
    with pytest.raises(StartError, match="say where it is with --model"):
        threadmatch.open(folder)


# Beside a user's own code.

SCRIPT = """
import model, service, indexer
assert (model.THEIRS, service.THEIRS, indexer.THEIRS) == (1, 2, 3)
import threadmatch

if __name__ == "__main__":
    result = threadmatch.ingest("catalogue.jsonl", "gallery", images="images", model=MODEL, workers=2)
    with threadmatch.open("gallery", model=MODEL) as gallery:
        print(result.items, gallery.search("images/1.jpg", matcher="global").matches[0].id)
    assert threadmatch.create_app("gallery").title == "threadmatch"
    assert (model.THEIRS, service.THEIRS, indexer.THEIRS) == (1, 2, 3)
"""


def test_a_users_own_model_and_service_stay_theirs(tmp_path: Path, tiny_model_folder: Path) -> None:
    make_catalogue(tmp_path, ["a", "b", "c"])
    (tmp_path / "model.py").write_text("THEIRS = 1\n")
    (tmp_path / "indexer.py").write_text("THEIRS = 3\n")
    (tmp_path / "service").mkdir()
    (tmp_path / "service" / "__init__.py").write_text("THEIRS = 2\n")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.replace("MODEL", repr(str(tiny_model_folder))))
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, env={**ENVIRONMENT, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True, text=True, check=False, timeout=PATIENCE_S,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "3 b\n"), done.stderr
    for command in (
        ["-m", "threadmatch.service", "--help"],
        ["-c", "from threadmatch.service.cli import main; main()"],
    ):
        arguments = [sys.executable, *command, *(["search", "--help"] if command[0] == "-c" else [])]
        said = subprocess.run(
            arguments, cwd=tmp_path, env={**ENVIRONMENT, "PYTHONPATH": IMPORT_PATH}, capture_output=True, text=True,
            check=False, timeout=PATIENCE_S,
        )  # fmt: skip
        assert said.returncode == 0, said.stderr
        assert "gallery" in said.stdout
