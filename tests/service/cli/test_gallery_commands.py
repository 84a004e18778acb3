"""`threadmatch ingest` and `threadmatch gallery ...` as typed, with a real model."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.support.shop import Shop
from threadmatch.service.cli import app


def run(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, (result.stdout, result.stderr)
    return result.stdout if code == 0 or result.stdout else result.stderr


def run_json(*arguments: object, code: int = 0) -> Any:
    return json.loads(run(*arguments, "--json", code=code))


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path / "shop")


@pytest.fixture
def ingested(shop: Shop, tiny_model_folder: Path) -> Shop:
    ingest(shop, shop.rows(6), tiny_model_folder)
    return shop


def ingest(shop: Shop, rows: list[dict[str, Any]], model: Path, *more: str, code: int = 0) -> Any:
    catalogue = shop.write(rows)
    common = ["--gallery", shop.gallery, "--images", shop.images, "--model", model, "--workers", "1", *more]
    common += ["--box", "none"]  # whose garment a photo shows has tests of its own, and takes seconds to make ready
    if code:
        return run("ingest", catalogue, *common, code=code)
    return run_json("ingest", catalogue, *common)


def test_ingest_prints_the_result_of_the_contract(shop: Shop, tiny_model_folder: Path) -> None:
    result = ingest(shop, [*shop.rows(3), shop.row(4, image="missing.jpg")], tiny_model_folder)
    assert (result["items"], result["rejected"], result["skipped"], result["generation"]) == (3, 1, 0, "000001")
    assert result["seconds"] > 0
    assert result["images_per_second"] > 0
    (reject,) = [json.loads(line) for line in Path(result["rejects_file"]).read_text("utf-8").splitlines()]
    assert (reject["row"], reject["id"], reject["image"], reject["reason"]) == (
        4,
        "item-4",
        "missing.jpg",
        "missing_file",
    )
    pruned = ingest(shop, shop.rows(2), tiny_model_folder, "--prune")
    assert (pruned["items"], pruned["skipped"], pruned["rejects_file"]) == (2, 2, None)


def test_ingest_fails_with_one_clear_line(shop: Shop, tiny_model_folder: Path) -> None:
    shop.images.mkdir(parents=True, exist_ok=True)
    message = ingest(shop, [{"photo": "a.jpg", "id": 1}], tiny_model_folder, code=1)
    assert "rename 'photo' to 'image'" in message
    assert "Traceback" not in message
    assert not shop.gallery.exists()


def test_wrong_use_is_exit_2(tmp_path: Path) -> None:
    run("ingest", tmp_path / "items.csv", code=2)
    run("ingest", tmp_path / "items.csv", "--gallery", tmp_path, "--batch-size", "0", code=2)
    run("gallery", "compact", tmp_path, "--keep", "0", code=2)
    run("gallery", "nothing", code=2)


def test_looking_at_a_gallery(ingested: Shop) -> None:
    info = run_json("gallery", "info", ingested.gallery)
    assert (info["generation"], info["items"], info["model"]["name"]) == ("000001", 6, "tiny")
    assert info["index"]["type"] == "flat"
    assert info["index"]["recall_at_200"] == 1
    assert "recall@200" in run("gallery", "info", ingested.gallery)
    assert [entry["current"] for entry in run_json("gallery", "list", ingested.gallery)] == [True]
    assert "* 000001" in run("gallery", "list", ingested.gallery)
    assert run_json("gallery", "verify", ingested.gallery)["ok"] is True


@pytest.mark.parametrize(
    ("parameters", "parts"),
    [
        ({}, []),
        (
            {"projected": 64, "projectedWide": 800, "projectedRecall": "1.0000"},
            ["64 components choose 800 (for others 800)", "the next generation measures it"],
        ),
        (
            {"projected": 64, "projectedWide": 800, "projectedWideUnlike": 6400, "projectedLikeShare": "0.4"}
            | {"projectedRecallLike": "0.9993", "projectedRecallUnlike": "0.9748"},
            ["choose 800 (for others 6400)", "0.9993 of queries like photos, 0.9748 of others"],
        ),
        (
            {"projected": 0, "projectedWide": 6400, "projectedRecallLike": "0.9", "projectedRecallUnlike": "0.8"},
            ["all that are let through are compared", "0.9 of queries"],
        ),
    ],
)
def test_info_says_what_filtered_searches_find(
    ingested: Shop, parameters: dict[str, int | str], parts: list[str]
) -> None:
    path = ingested.gallery / "generations" / "000001" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["index"]["parameters"] |= parameters
    path.write_text(json.dumps(manifest))
    lines = [line for line in run("gallery", "info", ingested.gallery).splitlines() if line.startswith("filters")]
    assert len(lines) == bool(parts)
    assert all(part in lines[0] for part in parts)


def test_delete_rollback_compact(ingested: Shop) -> None:
    assert run_json("gallery", "delete", ingested.gallery, "item-1", "item-2")["items"] == 4
    assert "no item 'item-1'" in run("gallery", "delete", ingested.gallery, "item-1", code=1)
    assert run_json("gallery", "rollback", ingested.gallery) == {"generation": "000001", "items": 6}
    assert run_json("gallery", "rollback", ingested.gallery, "--to", "000002")["items"] == 4
    assert "no generation 000009" in run("gallery", "rollback", ingested.gallery, "--to", "9", code=1)
    compacted = run_json("gallery", "compact", ingested.gallery, "--keep", "1")
    assert (compacted["generation"], compacted["generations"], compacted["contents"]) == ("000002", 1, 2)
    assert "all good" in run("gallery", "verify", ingested.gallery)
    assert "no generation before" in run("gallery", "rollback", ingested.gallery, code=1)


def test_verify_fails_on_damage(ingested: Shop) -> None:
    index = ingested.gallery / "generations" / "000001" / "index.faiss"
    index.write_bytes(index.read_bytes()[:-1])
    report = run_json("gallery", "verify", ingested.gallery, code=1)
    assert report["ok"] is False
    assert "does not match its manifest" in report["problems"][0]


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl", "out.parquet"])
def test_an_export_is_a_catalogue_again(ingested: Shop, tmp_path: Path, tiny_model_folder: Path, name: str) -> None:
    out = tmp_path / "export" / name
    photos = tmp_path / "export" / "photos"
    assert run_json("gallery", "export", ingested.gallery, out, "--photos", photos)["items"] == 6
    assert len(list(photos.iterdir())) == 6
    again = ["--gallery", tmp_path / "again", "--model", tiny_model_folder, "--workers", "1", "--box", "none"]
    result = run_json("ingest", out, *again)
    assert (result["items"], result["rejected"]) == (6, 0)
    columns = run_json("gallery", "info", tmp_path / "again")["columns"]
    assert columns == run_json("gallery", "info", ingested.gallery)["columns"]


def test_an_export_scales_boxes_to_its_photos_and_keeps_sources_without(
    shop: Shop, tmp_path: Path, tiny_model_folder: Path
) -> None:
    from tests.support.shop import photo

    shop.images.mkdir(parents=True)
    (shop.images / "000.jpg").write_bytes(photo(0, size=(1024, 768)))
    ingest(shop, [shop.row(0, box="100,100,900,700")], tiny_model_folder)
    run("gallery", "export", shop.gallery, tmp_path / "a.csv", "--photos", tmp_path / "photos")
    run("gallery", "export", shop.gallery, tmp_path / "b.csv")
    (with_photos,) = csv.DictReader((tmp_path / "a.csv").open())
    (without,) = csv.DictReader((tmp_path / "b.csv").open())
    assert [float(edge) for edge in with_photos["box"].split(",")] == [50, 50, 450, 350]
    assert (without["image"], without["box"]) == ("000.jpg", "100.0,100.0,900.0,700.0")
    assert "ends in '.txt'" in run("gallery", "export", shop.gallery, tmp_path / "c.txt", code=1)


def test_a_folder_that_is_no_gallery_is_named(tmp_path: Path) -> None:
    for command in ("info", "list", "verify", "rollback", "compact"):
        message = run("gallery", command, tmp_path / "nowhere", code=1)
        assert "nowhere" in message
        assert "Traceback" not in message
    assert not (tmp_path / "nowhere").exists()
