from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.support.checkout import ROOT
from threadmatch.indexer.cluster.settings import ClusterSettings, is_cluster, read_address
from threadmatch.indexer.errors import GalleryError


def test_a_path_of_an_address_is_the_address(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text('[store]\nnodes = ["a:1"]\n', "utf-8")
    for place in (f"cluster://shop@{file}", Path(f"cluster://shop@{file}")):
        assert is_cluster(place)
        address = read_address(place)
        assert (address.name, address.settings.store.nodes) == ("shop", ("a:1",))
    assert not is_cluster("cluster")
    assert not is_cluster(Path("./cluster"))


@pytest.mark.parametrize("name", ["", "Shop", "a__b", "_a", "a-b", "a/b", "1a", "a" * 41])
def test_a_name_that_milvus_or_the_keys_could_not_have_is_refused(name: str) -> None:
    with pytest.raises(GalleryError, match="no gallery of a cluster"):
        read_address(f"cluster://{name}@x.toml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[store]\nnodes = []", "nodes"),
        ('[store]\nnodes = ["nowhere"]', "'nowhere' is no host:port"),
        ("[store]\nwait_s = 9", "would end before its wait"),
        ("[redis]\nx = 1", "redis"),
        ("[store", "cannot read"),
    ],
)
def test_settings_that_cannot_be_are_named(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "cluster.toml"
    file.write_text(text, "utf-8")
    with pytest.raises(GalleryError, match=said):
        read_address(f"cluster://shop@{file}")


def test_without_a_file_the_places_are_named_where_one_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(GalleryError, match=r"cluster\.toml or deploy/cluster\.toml"):
        read_address("cluster://shop")
    (tmp_path / "cluster.toml").write_text('prefix = "other"\n', "utf-8")
    assert read_address("cluster://shop").settings.prefix == "other"


def test_the_settings_file_that_comes_along_says_the_defaults() -> None:
    assert ClusterSettings.read(ROOT / "deploy" / "cluster.toml") == ClusterSettings(staging=Path("cluster-staging"))


def test_a_folders_gallery_imports_nothing_of_a_cluster() -> None:
    """What is imported when a module is, and by what that imports, and so on: never a client of an engine."""
    waiting = ["threadmatch.service.app", "threadmatch.indexer.keeping", "threadmatch.service.galleries.item_writer"]
    seen: set[str] = set()
    while waiting:
        module = waiting.pop()
        path = ROOT.joinpath(*module.split(".")[1:]).with_suffix(".py")
        if module in seen or not module.startswith("threadmatch.") or not path.is_file():
            continue
        seen.add(module)
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.ImportFrom) and node.module:
                waiting += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    assert "threadmatch.indexer.reading.gallery" in seen
    of_cluster = {module for module in seen if module.startswith("threadmatch.indexer.cluster.")}
    assert of_cluster == {"threadmatch.indexer.cluster.settings", "threadmatch.indexer.cluster.calls"}
