"""`threadmatch data check`."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image
from typer.testing import CliRunner

from threadmatch.service.cli import app

HEADER = "image,product_id,domain,split,catgory\n"


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["data", "check", *arguments])
    return result.exit_code, result.stdout, result.stderr


def test_exit_status_says_whether_there_are_errors_and_stdout_is_json_alone(tmp_path: Path) -> None:
    manifest = tmp_path / "m.csv"
    Image.new("RGB", (20, 20), "red").save(tmp_path / "a.png")
    Image.new("RGB", (20, 20), "blue").save(tmp_path / "b.png")
    manifest.write_text(HEADER + "a.png,p,shop,test,\nb.png,p,customer,test,\n")
    code, out, _ = run(str(manifest), "--json", "--workers", "1")
    answer = json.loads(out)
    assert (code, answer["ok"], answer["errors"]) == (0, True, 0)
    assert set(answer["problems"]) == {"misspelt_column", "missing_split"}
    manifest.write_text(HEADER + "a.png,p,shop,test,\nb.png,p,costumer,test,\nnone.png,p,customer,test,\n")
    code, out, _ = run(str(manifest), "--workers", "1")
    assert code == 1
    assert "line 3: domain is 'costumer', expected one of customer, shop; did you mean 'customer'?" in out
    assert "line 4:" in out
    assert "none.png does not exist" in out
    assert "2 errors" in out
    assert (tmp_path / "m.problems.csv").read_text().count("\n") == 1 + 5


def test_no_manifest_exits_1_and_wrong_use_2(tmp_path: Path) -> None:
    code, _, err = run(str(tmp_path / "none.csv"))
    assert (code, "none.csv" in err) == (1, True)
    assert run()[0] == 2
    assert run(str(tmp_path / "none.csv"), "--shown", "0")[0] == 2


def test_a_catalogue_is_shown_as_it_was_understood(tmp_path: Path) -> None:
    (tmp_path / "feed.csv").write_text("ID,image_link,price,size\n1,a.jpg,19.99 USD,36\n2,b.jpg,5.00 USD,M\n")
    code, out, _ = run(str(tmp_path / "feed.csv"), "--preset", "google", "--json")
    answer = json.loads(out)
    assert (code, answer["usable"], answer["products"]) == (0, 2, 2)
    assert answer["columns"]["price"] == {"kinds": {"number": 2}, "examples": [19.99, 5.0]}
    assert answer["columns"]["size"]["kinds"] == {"string": 2}
    code, out, err = run(str(tmp_path / "feed.csv"))
    assert (code, "rename 'image_link'" in err or "no column 'image'" in err) == (1, True)
    code, out, _ = run(str(tmp_path / "feed.csv"), "--map", "image=image_link")
    assert code == 0
    assert 'price: 2 string; such as "19.99 USD"' in out
    (tmp_path / "mixed.jsonl").write_text('{"image": "a", "size": 36}\n{"image": "b", "size": "M"}\n{broken\n')
    code, out, _ = run(str(tmp_path / "mixed.jsonl"))
    assert code == 1
    assert "column 'size' holds 1 integer and 1 string" in out
    assert "line 3 is not JSON" in out or "line 3: is not JSON" in out
    assert run(str(tmp_path / "feed.csv"), "--map", "nonsense")[0] == 2
