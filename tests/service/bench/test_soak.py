"""The soak's own measures: what has grown is named, what is flat is not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from threadmatch.service.bench.soak import SPARE, Watch, descriptors_of, write_catalogue


def watched(**late: float) -> Watch:
    """Forty samples of each, the last ten as told."""
    return Watch({name: [100.0] * 30 + [late.get(name, 100.0)] * 10 for name in SPARE})


def test_what_is_flat_has_no_faults() -> None:
    assert watched().faults() == []


@pytest.mark.parametrize("name", SPARE)
def test_what_has_grown_is_named(name: str) -> None:
    assert watched(**{name: 200.0}).faults() == [f"{name} grew from 100 to 200"]


def test_a_process_is_looked_at_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    (tmp_path / "gallery").mkdir()
    (tmp_path / "gallery" / "file").write_bytes(bytes(2**21))
    before = descriptors_of(os.getpid())
    with (tmp_path / "one").open("w"):
        assert descriptors_of(os.getpid()) == before + 1
    watch = Watch()
    watch.look(os.getpid(), tmp_path / "gallery")
    assert watch.samples["gallery_mib"] == [2.0]
    assert watch.samples["temporary_files"] == [3.0]
    assert watch.samples["memory_mib"][0] > 1


def test_each_turn_changes_every_row_of_the_catalogue(tmp_path: Path) -> None:
    photos = [tmp_path / "a.jpg", tmp_path / "b.jpg"]
    first, second = (write_catalogue(tmp_path / f"{turn}.csv", photos, turn).read_text() for turn in (0, 1))
    assert first.splitlines() == ["id,image,turn", "item-00000,a.jpg,0", "item-00001,b.jpg,0"]
    assert second == first.replace(",0\n", ",1\n")
