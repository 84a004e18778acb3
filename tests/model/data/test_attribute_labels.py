"""A manifest column an attribute, `|` between values; what is missing is unknown and never a value of its own."""

from pathlib import Path

import numpy as np
import pytest

from threadmatch.model.data.attribute_labels import joined, parse_values, read_attributes, some
from threadmatch.model.data.manifest.rows import Split
from threadmatch.model.errors import DataError

HEADER = "image,product_id,domain,split,category,neckline,pattern"


def manifest(folder: Path, *rows: str, name: str = "m.csv", header: str = HEADER) -> Path:
    path = folder / name
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_a_cell_holds_its_values_between_bars_each_once() -> None:
    assert parse_values("floral| dots|floral") == ("floral", "dots")
    assert parse_values(" | ") == parse_values("") == ()


def test_a_customers_photo_has_the_values_of_its_product_unless_it_says_others(tmp_path: Path) -> None:
    path = manifest(
        tmp_path,
        "a.jpg,p1,shop,train,dress,v,floral|dots",
        "b.jpg,p1,customer,train,,,plain",
        "c.jpg,p1,customer,val,,,",
        "d.jpg,p2,shop,train,,,",
        "e.jpg,p3,shop,train,,crew,",
    )
    found = read_attributes([path], Split.TRAIN)
    assert [image.path.name for image in found.images] == ["a.jpg", "b.jpg", "e.jpg"], (
        "what says nothing teaches nothing"
    )
    assert found.asks == [False, True, False]
    assert found.values == {
        "category": [("dress",), ("dress",), ()],
        "neckline": [("v",), ("v",), ("crew",)],
        "pattern": [("floral", "dots"), ("plain",), ()],
    }
    assert found.known("pattern").tolist() == [0, 1]
    assert found.vocabulary("pattern") == ("dots", "floral", "plain")
    assert found.vocabulary("neckline", least=2) == ("v",)
    np.testing.assert_array_equal(found.marks("pattern", ("dots", "plain")), [[1, 0], [0, 1], [0, 0]])


def test_garments_of_two_manifests_are_not_one_because_they_are_called_alike(tmp_path: Path) -> None:
    one = manifest(tmp_path, "a.jpg,p1,shop,train,,v,")
    other = manifest(tmp_path, "b.jpg,p1,customer,train,,,plain", name="n.csv")
    found = read_attributes([one, other], Split.TRAIN)
    assert len({image.product_id for image in found.images}) == 2
    assert found.values["neckline"] == [("v",), ()], "it is another garment's neckline"


def test_sets_are_joined_and_what_one_does_not_know_stays_unknown(tmp_path: Path) -> None:
    one = read_attributes([manifest(tmp_path, "a.jpg,p1,shop,train,,v,")], Split.TRAIN, ["neckline"])
    other = manifest(tmp_path, "b.jpg,p2,shop,train,red", name="n.csv", header="image,product_id,domain,split,color")
    both = joined([one, read_attributes([other], Split.TRAIN, ["color"])])
    assert both.values == {"neckline": [("v",), ()], "color": [(), ("red",)]}
    assert some(both, [1]).values == {"neckline": [()], "color": [("red",)]}


def test_a_column_that_no_manifest_has_and_a_split_without_labels_are_named(tmp_path: Path) -> None:
    path = manifest(tmp_path, "a.jpg,p1,shop,train,,v,")
    with pytest.raises(DataError, match=r"no manifest has the column colour; found category, neckline, pattern"):
        read_attributes([path], Split.TRAIN, ["colour"])
    with pytest.raises(DataError, match=r"no row of .* in split train has a value of pattern"):
        read_attributes([path], Split.TRAIN, ["pattern"])
