"""Tables as people send them: nothing is lost, mended or renamed without a word."""

from __future__ import annotations

import datetime
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from threadmatch.model.data.tables.cells import CsvKinds, LabelColumns
from threadmatch.model.data.tables.columnar import EmbeddedImage
from threadmatch.model.data.tables.encodings import NAMES
from threadmatch.model.data.tables.naming import Naming
from threadmatch.model.data.tables.opening import open_source
from threadmatch.model.data.tables.photo_files import find_photo, is_address, kept_photo
from threadmatch.model.data.tables.text import SAMPLE_BYTES
from threadmatch.model.errors import DataError

NAMING = Naming(("id", "image", "product_id", "box"))
Rows = list[tuple[int, dict[str, Any] | str]]


def read(path: Path, naming: Naming = NAMING) -> tuple[Rows, list[str]]:
    source = open_source(path, naming)
    rows = list(source)
    return rows, list(source.notes)


def written(folder: Path, text: str | bytes, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def values(path: Path, naming: Naming = NAMING) -> list[dict[str, Any] | str]:
    return [row for _, row in read(path, naming)[0]]


def test_a_quote_that_never_closes_costs_its_own_row_alone(tmp_path: Path) -> None:
    text = 'id,image,title\n1,a.jpg,x\n2,b.jpg,"open\n3,c.jpg,y\n4,d.jpg,z\n'
    rows, _ = read(written(tmp_path, text))
    assert [number for number, row in rows if isinstance(row, str)] == [3]
    assert [row["id"] for _, row in rows if isinstance(row, dict)] == ["1", "3", "4"]


@pytest.mark.parametrize(
    "later",
    ['"plain"', 'the "best"', '"two", three', '"a ""b"" c"', '12" wide', '"'],
)
def test_an_open_quote_swallows_nothing_whatever_quotes_come_later(tmp_path: Path, later: str) -> None:
    text = f'id,image,title\n1,a.jpg,"open\n2,b.jpg,y\n3,c.jpg,{later}\n4,d.jpg,z\n'
    rows = values(written(tmp_path, text))
    ids = {row["id"] for row in rows if isinstance(row, dict)}
    assert {"2", "4"} <= ids
    assert sum(isinstance(row, str) for row in rows) >= 1


def test_an_open_quote_in_a_file_that_quotes_every_cell_swallows_nothing(tmp_path: Path) -> None:
    text = '"id","image","title"\n"1","a.jpg","open\n"2","b.jpg","y"\n"3","c.jpg","z"\n'
    rows = values(written(tmp_path, text))
    assert [row["id"] for row in rows if isinstance(row, dict)] == ["2", "3"]
    assert sum(isinstance(row, str) for row in rows) == 1


def test_an_open_quote_on_the_last_line_is_told(tmp_path: Path) -> None:
    first, last = values(written(tmp_path, 'id,image,title\n1,a.jpg,x\n2,"b.jpg,y'))
    assert isinstance(first, dict)
    assert isinstance(last, str)


def test_texts_over_several_lines_and_quotes_inside_a_line_are_read(tmp_path: Path) -> None:
    text = 'image,title\na.jpg,"soft, warm\nand, with ""pockets"""\nb.jpg,"Oversized" tee\nc.jpg,12" heel\n'
    titles = [row["title"] for row in values(written(tmp_path, text)) if isinstance(row, dict)]
    assert titles == ['soft, warm\nand, with "pockets"', "Oversized tee", '12" heel']


def test_one_wrong_byte_leaves_the_rest_utf_8_and_is_named_by_its_line(tmp_path: Path) -> None:
    rows, notes = read(written(tmp_path, "image,t\na.jpg,Größe\n".encode() + b"b.jpg,caf\xe9\n"))
    assert [row["t"] for _, row in rows if isinstance(row, dict)] == ["Größe", "café"]
    assert any("line 3" in note for note in notes)


def test_a_file_of_windows_1252_is_read_as_that_and_says_so(tmp_path: Path) -> None:
    rows, notes = read(written(tmp_path, "image,t\na.jpg,Größe\nb.jpg,café\n".encode("cp1252")))
    assert [row["t"] for _, row in rows if isinstance(row, dict)] == ["Größe", "café"]
    assert any("Windows-1252" in note for note in notes)


TEXTS = {
    "gb18030": "女士长款羽绒服,黑色|男士纯棉衬衫,白色|T恤,红色",
    "big5hkscs": "女士長款羽絨服,黑色|男士純棉襯衫,白色",
    "cp932": "レディース ワンピース,黒|メンズ綿シャツ,白",
    "euc_jp": "レディース ワンピース,黒|メンズ綿シャツ,白",
    "cp949": "여성 롱 패딩,검정|남성 면 셔츠,흰색",
    "cp1250": "Kurtka męska żółta długa,żółty|Spódnica ołówkowa,różowy",
    "cp1251": "Женское платье летнее,красный|Мужская рубашка,белый",
    "cp1252": "Größe M für Mädchen,weiß|Crème brûlée élégante,bleu foncé|Jacke „groß“ … 20°C ½,5€",
    "cp1254": "Kadın elbisesi çiçekli şık,kırmızı|Erkek gömleği,yeşil",  # noqa: RUF001
}


@pytest.mark.parametrize("encoding", TEXTS)
def test_a_table_of_another_encoding_is_read_as_it_was_written_and_the_encoding_is_named(
    tmp_path: Path, encoding: str
) -> None:
    lines = [f"a{number}.jpg,{line}" for number, line in enumerate(TEXTS[encoding].split("|"))]
    data = "image,name,colour\n" + "\n".join(lines) + "\n"
    for text in (data, data.replace("\n", "\r\n")):
        rows, notes = read(written(tmp_path, text.encode(encoding)))
        assert [",".join(row.values()) for _, row in rows if isinstance(row, dict)] == lines
        assert any(NAMES[encoding] in note for note in notes), notes


def test_an_encoding_that_cannot_be_told_is_refused_with_what_it_could_be(tmp_path: Path) -> None:
    path = written(tmp_path, "image,name\na.jpg,Женское платье летнее\n".encode("koi8_r"))
    with pytest.raises(DataError, match=r"cannot be told for certain .*iconv"):
        read(path)


def test_bytes_that_are_no_text_are_refused_early_and_named_by_line_late_in_a_file(tmp_path: Path) -> None:
    good, bad = "a.jpg,女士长款羽绒服黑色\n".encode("gb18030"), b"c.jpg,\xff\n"
    with pytest.raises(DataError, match="cannot be told"):
        read(written(tmp_path, b"image,name\n" + good + bad))
    many = SAMPLE_BYTES // len(good) + 1
    rows, notes = read(written(tmp_path, b"image,name\n" + many * good + bad))
    assert rows[-1] == (many + 2, {"image": "c.jpg", "name": "\ufffd"})
    assert any(f"line {many + 2}" in note for note in notes)


@pytest.mark.parametrize("start", ["\n", "\r\n  \r\n", "sep=;\n", "\ufeff\n\n"])
def test_what_stands_before_the_header_is_passed_over(tmp_path: Path, start: str) -> None:
    assert values(written(tmp_path, f"{start}id;image\n1;a.jpg\n")) == [{"id": "1", "image": "a.jpg"}]


def test_names_in_other_case_or_form_are_taken_and_noted(tmp_path: Path) -> None:
    rows, notes = read(written(tmp_path, "ID,Image,Product Id,Gro\u0308\u00dfe\n1,a.jpg,p,S\n"))
    assert rows == [(2, {"id": "1", "image": "a.jpg", "product_id": "p", "Größe": "S"})]
    assert len(notes) == 3
    rows, notes = read(written(tmp_path, '{"ID": 1, "image": "a.jpg"}\n{"id": 2, "ID": 3, "image": "b"}\n', "t.jsonl"))
    assert [row["id"] for _, row in rows if isinstance(row, dict)] == [1, 2]


def test_a_column_can_be_mapped_and_the_one_of_that_name_steps_aside(tmp_path: Path) -> None:
    naming = Naming(NAMING.known, {"image": "image_link", "product_id": "group"})
    (row,) = values(written(tmp_path, "image,image_link,group\nx,a.jpg,g\n"), naming)
    assert isinstance(row, dict)
    assert (row["image"], row["product_id"], row["image (unmapped)"]) == ("a.jpg", "g", "x")
    with pytest.raises(DataError, match="did you mean image_link"):
        read(tmp_path / "t.csv", Naming(NAMING.known, {"image": "image_lnk"}))


@pytest.mark.parametrize(
    ("cells", "kind", "read_as"),
    [
        (["12E5", "7"], "string", ["12E5", "7"]),
        (["12345678901234567890"], "string", ["12345678901234567890"]),
        (["10000000000000000000"], "string", ["10000000000000000000"]),
        (["007"], "string", ["007"]),
        (["-0"], "string", ["-0"]),
        (["1.1", "1.10"], "string", ["1.1", "1.10"]),
        (["0.12345678901234567891"], "string", ["0.12345678901234567891"]),
        (["19.90", "5", "5.00"], "number", [19.9, 5, 5.0]),
        (["1e-05", "0.5"], "number", [1e-05, 0.5]),
        (["1.0E-5", "0.5"], "number", [1e-05, 0.5]),
        (["3", "nan", "NULL"], "integer", [3, None, None]),
        (["red", "nan", "None"], "string", ["red", None, "None"]),
        (["true", "", "False"], "boolean", [True, None, False]),
    ],
)
def test_text_becomes_a_number_only_where_it_would_print_back_the_same(
    cells: list[str], kind: str, read_as: list[object]
) -> None:
    kinds = CsvKinds()
    for cell in cells:
        kinds.add({"a": cell})
    assert kinds.kind("a") == kind
    assert [kinds.convert("a", cell) for cell in cells] == read_as


def test_ids_that_a_data_frame_made_floats_of_are_whole_again_where_all_are() -> None:
    floats, codes = LabelColumns(("id",)), LabelColumns(("id",))
    for cell in ("1.0", "nan", "20.0"):
        floats.add({"id": cell})
    for cell in ("1.0", "1.5"):
        codes.add({"id": cell})
    assert [floats.clean("id", cell) for cell in ("1.0", "nan", "20.0")] == ["1", "", "20"]
    assert [codes.clean("id", cell) for cell in ("1.0", "1.5")] == ["1.0", "1.5"]
    assert len(floats.notes()) == 2
    assert not codes.notes()


def test_a_json_line_that_is_too_deep_or_names_a_thing_twice_is_told_and_the_rest_is_read(tmp_path: Path) -> None:
    deep = '{"image": "a", "x": ' + "[" * 600 + "]" * 600 + "}"
    lines = [deep, '{"image": "b", "price": 1, "price": 2}', '{"image": "c", "brackets": "' + "[" * 100 + '"}']
    first, second, third = values(written(tmp_path, "\n".join(lines), "t.jsonl"))
    assert isinstance(first, str)
    assert "64 deep" in first
    assert isinstance(second, str)
    assert "'price' twice" in second
    assert isinstance(third, dict)


def test_a_name_over_two_columns_of_parquet_is_refused(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array([1]), pa.array([2])], ["image", "price", "price"])
    pq.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(DataError, match="more than one column 'price'"):
        read(tmp_path / "t.parquet")


def test_columns_that_no_row_can_carry_are_left_out_and_the_rows_stay(tmp_path: Path) -> None:
    table = pa.table(
        {
            "image": ["a.jpg"],
            "raw": pa.array([b"x"], pa.large_binary()),
            "took": pa.array([5], pa.duration("s")),
            "nested": pa.array([{"bytes": b"x", "note": "y"}]),
            "half": pa.array([1.5], pa.float16()),
            "when": pa.array([1], pa.timestamp("ns")),
            "never": pa.array([2**60], pa.timestamp("ms")),
            "color": pa.array(["red"]).dictionary_encode(),
            "day": [datetime.date(2026, 1, 2)],
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    ((_, row),), notes = read(tmp_path / "t.parquet")
    assert isinstance(row, dict)
    assert (row["image"], row["half"], row["color"], row["when"].year) == ("a.jpg", 1.5, "red", 1970)
    assert {name for name in ("raw", "took", "nested") if any(f"'{name}'" in note for note in notes)} == {
        "raw", "took", "nested"
    }  # fmt: skip
    assert not {"raw", "took", "nested"} & row.keys()


@pytest.mark.parametrize("nested", [True, False])
def test_photos_in_the_table_itself_are_read(tmp_path: Path, nested: bool) -> None:
    cells = pa.array([{"bytes": b"photo", "path": "p.jpg"}] if nested else [b"photo"])
    pq.write_table(pa.table({"image": cells, "id": [1]}), tmp_path / "t.parquet")
    source = open_source(tmp_path / "t.parquet", NAMING)
    assert [row for _, row in source] == [{"image": EmbeddedImage(b"photo", "p.jpg" if nested else ""), "id": 1}]
    assert [row for _, row in source.scan()] == [{"id": 1}]


def test_a_folder_of_parts_is_one_table_with_the_columns_in_its_names(tmp_path: Path) -> None:
    for color, image in (("blue", "b.jpg"), ("dark%20red", "a.jpg")):
        (tmp_path / "set" / f"color={color}").mkdir(parents=True)
        pq.write_table(pa.table({"image": [image]}), tmp_path / "set" / f"color={color}" / "part-0.parquet")
    (tmp_path / "set" / "_SUCCESS").touch()
    rows, _ = read(tmp_path / "set")
    assert rows == [(1, {"image": "b.jpg", "color": "blue"}), (2, {"image": "a.jpg", "color": "dark red"})]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="folder without parts"):
        read(tmp_path / "empty")


def test_arrow_files_and_streams_are_read(tmp_path: Path) -> None:
    table = pa.table({"image": ["a.jpg", "b.jpg"], "n": [1, 2]})
    for opener, name in ((pa.ipc.new_stream, "stream.arrow"), (pa.ipc.new_file, "file.arrow")):
        with opener(tmp_path / name, table.schema) as writer:
            writer.write_table(table)
        assert values(tmp_path / name) == [{"image": "a.jpg", "n": 1}, {"image": "b.jpg", "n": 2}]


def test_packed_text_is_unpacked_and_a_cut_off_file_is_named(tmp_path: Path) -> None:
    packed = gzip.compress(b"image,n\n" + b"".join(b"%d.jpg,%d\n" % (n, n) for n in range(5000)))
    assert len(values(written(tmp_path, packed, "t.csv.gz"))) == 5000
    with pytest.raises(DataError, match="cut off"):
        read(written(tmp_path, packed[:-200], "cut.csv.gz"))
    assert len(values(written(tmp_path, packed, "packed.csv"))) == 5000
    assert values(written(tmp_path, "image\na.jpg\n", "unpacked.csv.gz")) == [{"image": "a.jpg"}]
    line = json.dumps({"image": "a.jpg"}).encode()
    assert values(written(tmp_path, gzip.compress(line), "t.jsonl.gz")) == [{"image": "a.jpg"}]


@pytest.mark.parametrize(
    ("name", "hint"), [("t.xlsx", "save the sheet as CSV"), ("t.json", "JSON Lines"), ("t", "expected one of")]
)
def test_other_kinds_of_file_are_refused_with_what_to_do(tmp_path: Path, name: str, hint: str) -> None:
    with pytest.raises(DataError, match=hint):
        read(written(tmp_path, "x", name))


def test_a_photo_is_found_under_other_slashes_accents_and_case(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    decomposed, plain = tmp_path / "gro\u0308\u00dfe.jpg", tmp_path / "sub" / "w.jpg"
    for path in (decomposed, plain):
        path.touch()
    assert find_photo(tmp_path, "gr\u00f6\u00dfe.jpg") == decomposed
    assert find_photo(tmp_path, "sub\\w.jpg") == plain
    assert find_photo(tmp_path, "Sub/W.JPG") == plain
    assert find_photo(tmp_path, "nowhere.jpg") == tmp_path / "nowhere.jpg"
    (tmp_path / "sub" / "W.jpg").touch()
    assert not find_photo(tmp_path, "sub/w.JPG").exists()  # two could be meant


@pytest.mark.parametrize("text", ["https://h/a", "//cdn.shop.example/a.jpg", "//a.jpg/b"])
def test_what_names_a_host_is_an_address(text: str) -> None:
    assert is_address(text)


@pytest.mark.parametrize("text", ["//data/a", "a//b", "/a.b/c", "a.jpg"])
def test_what_names_none_is_a_path(text: str) -> None:
    assert not is_address(text)


def test_photos_of_a_table_are_kept_by_what_they_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    one, again = (kept_photo(EmbeddedImage(b"same", name)) for name in ("a", "b"))
    assert one == again
    assert one.read_bytes() == b"same"
    assert one.is_relative_to(tmp_path)
