"""The command that measures how much later than the service the page answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.serving import photo
from threadmatch.service.bench.page_delay import main


def test_a_photo_is_searched_by_a_client_and_on_the_page_and_each_step_has_its_time(
    chromium: str, address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "street.jpg").write_bytes(photo(9))
    main([address, str(tmp_path / "street.jpg"), "--rounds", "1", "--json", "--chromium", chromium])
    [found] = json.loads(capsys.readouterr().out)
    assert (found["photo"], found["rounds"]) == ("street.jpg", 1)
    assert 0 < found["sent_ms"] <= found["answered_ms"] <= found["painted_ms"], "one after the other, by one clock"
    assert found["own_best_ms"] == found["own_ms"] <= found["with_photo_ms"]


def test_a_photo_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["http://127.0.0.1:1", "gone.jpg"])
    assert "no such file: gone.jpg" in capsys.readouterr().err
