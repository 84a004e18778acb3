"""The pass over a file's structure: what it bounds, and that it says what decoding will need."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.checkout import IMPORT_PATH
from tests.support.hostile import hostile_images, usual_files
from threadmatch.model.decoding import ACCEPTED_FORMATS, sniff_format
from threadmatch.model.errors import InvalidImageError
from threadmatch.model.headers.found import Header
from threadmatch.model.headers.looking import LOOKS, look
from threadmatch.model.images import ImageLimits, load_image
from threadmatch.service.bench.hostile_files import FAR_FETCHED, MIB, float_tiff, picture
from threadmatch.service.bench.image_fuzz import BrokenPromiseError, check, seeds, with_sums

GOOD = {name: case for name, case in hostile_images().items() if case.reason is None}
ONE_PASS_S = 5.0
"""Far above what a pass takes (a few ms), far below what Pillow took of the same files (7 to 33 s)."""


@pytest.mark.parametrize("name", FAR_FETCHED)
def test_a_far_fetched_file_is_refused_before_pillow_sees_it(name: str) -> None:
    data = FAR_FETCHED[name](12 * MIB)
    started = time.thread_time()
    with pytest.raises(InvalidImageError) as caught:
        look(data, sniff_format(data))
    assert caught.value.reason == "too_complex"
    assert "save it again" in str(caught.value)
    assert time.thread_time() - started < ONE_PASS_S


@pytest.mark.parametrize("name", FAR_FETCHED)
def test_loading_a_far_fetched_file_meets_the_same_refusal(name: str) -> None:
    with pytest.raises(InvalidImageError) as caught:
        load_image(FAR_FETCHED[name](12 * MIB), image_px=32)
    assert caught.value.reason == "too_complex"


@pytest.mark.parametrize("name", sorted(set(GOOD) | {f"usual {name}" for name in usual_files()}))
def test_every_good_file_passes_and_its_size_is_read_as_pillow_reads_it(name: str) -> None:
    data = GOOD[name].data if name in GOOD else usual_files()[name.removeprefix("usual ")]
    header = look(data, sniff_format(data))
    assert header is not None
    _, image = load_image(data, image_px=32)
    assert {header.width, header.height} == {image.width, image.height}


@pytest.mark.parametrize("format_", [name for name in LOOKS if name != "HEIF"])
def test_a_file_cut_anywhere_is_looked_at_without_any_other_error(format_: str) -> None:
    data = picture(format_)
    for end in range(16, len(data), max(1, len(data) // 400)):
        look(data[:end], format_)


_PEAK = """
import sys
from threadmatch.model.images import load_image, display_photo
small = open(sys.argv[2], "rb").read()
display_photo(load_image(small, image_px=64)[1])
data = open(sys.argv[1], "rb").read()
def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) * 1024
before = peak()
display_photo(load_image(data, image_px=64)[1])
print(peak() - before)
"""
LARGE: dict[str, dict[str, Any]] = {
    "JPEG": {},
    "progressive": {"progressive": True, "subsampling": 0},
    "PNG": {},
    "PNG alpha": {"mode": "RGBA"},
    "GIF": {"mode": "P"},
    "BMP": {},
    "TIFF": {},
    "TIFF packed": {"compression": "tiff_lzw"},
    "TIFF float": {},
    "WEBP": {"lossless": True, "method": 0},
    "WEBP alpha": {"mode": "RGBA", "method": 0},
    "AVIF": {"speed": 10},
}


@pytest.mark.parametrize("name", LARGE)
def test_what_decoding_takes_is_known_before(tmp_path: Path, name: str) -> None:
    folder = tmp_path
    format_ = {"progressive": "JPEG"}.get(name, name.split()[0])
    side = 2500
    data = float_tiff(side) if name == "TIFF float" else picture(format_, (side, side), **LARGE[name])
    header = look(data, format_)
    assert header is not None
    assert (header.width, header.height) == (side, side)
    (folder / "large").write_bytes(data)
    (folder / "small").write_bytes(picture(format_, (32, 32)))
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, folder / "large", folder / "small"],
        capture_output=True, text=True, check=True, env={"PYTHONPATH": IMPORT_PATH, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    took = int(done.stdout)
    assert took <= header.needs_bytes + len(data) + 16 * MIB


def test_the_limits_on_pixels_still_hold() -> None:
    with pytest.raises(InvalidImageError) as caught:
        load_image(picture("PNG", (200, 200)), image_px=32, limits=ImageLimits(max_pixels=10_000))
    assert caught.value.reason == "too_many_pixels"


def test_every_format_that_is_ever_named_has_its_look() -> None:
    assert {name.upper() for name in ACCEPTED_FORMATS} | {"HEIF"} == set(LOOKS)


CORPUS = sorted((Path(__file__).parent / "corpus").iterdir())


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_files_that_fuzzing_found_are_read_or_refused_as_then(path: Path) -> None:
    outcome = path.name.partition("-")[2].rpartition("-")[0]
    assert check(path.read_bytes()) == outcome


def test_the_fuzzer_s_promises_can_be_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    # A header that says less than is decoded would get past the budget of memory.
    monkeypatch.setitem(LOOKS, "PNG", lambda _data: Header(8, 8, 4.0))
    with pytest.raises(BrokenPromiseError, match="the header says 8 x 8, decoded 24 x 16"):
        check(seeds()["png"])


def test_a_changed_png_gets_its_sums_right_again() -> None:
    whole = seeds()["png"]
    broken = whole[:16] + b"\0\0\0\x19" + whole[20:]  # another width
    assert check(broken) == "damaged"
    assert with_sums(broken) != broken
    assert with_sums(whole) == whole
    assert all(check(data) == "read" for data in seeds().values())
