"""Fuzzing of the gate that every stranger's photo passes: `look`, then Pillow, then the model's input.

    python -m threadmatch.service.bench.image_fuzz --corpus FOLDER --seconds 3600 --seed 1

Guided by coverage of the gate's and Pillow's Python code, by atheris, which is installed for this alone
(`pip install atheris`). A file that breaks a promise of `check` is kept in the folder and ends the run with 1. A small
part of what an hour found is kept in `tests/model/headers/corpus`, where each test run holds it to the same promises.
"""

from __future__ import annotations

import importlib
import sys
import time
import zlib
from pathlib import Path
from typing import Annotated, Final

import typer

from threadmatch.model.errors import InvalidImageError
from threadmatch.model.headers.looking import look
from threadmatch.model.image_formats import sniff_format
from threadmatch.model.images import ImageLimits, display_photo, load_image
from threadmatch.service.bench.hostile_files import MIB, picture

LIMITS: Final = ImageLimits(max_bytes=MIB, max_pixels=1_000_000)
IMAGE_PX: Final = 32
FILE_BYTES: Final = 16 * 1024
PROCESSOR_S: Final = 3.0
"""Far above what a file of FILE_BYTES and LIMITS takes."""
MEMORY_MIB: Final = 2048
_PNG: Final = b"\x89PNG\r\n\x1a\n"
INSTRUMENTED: Final = ("PIL", "threadmatch.model")


class BrokenPromiseError(AssertionError):
    """A file for which the gate does not keep what it promises."""


def check(data: bytes) -> str:
    """Hold the gate to its promises for one file.

    - Nothing but InvalidImageError is raised, and little processor time taken.
    - What `look` says of the size is what Pillow decodes: the budget of memory rests on it.
    - What passes is the model's input, and can be shown.

    Returns:
        "read", or the reason of the refusal.

    Raises:
        BrokenPromiseError: naming the promise.
    """
    started = time.thread_time()
    header = None
    try:
        header = look(data, sniff_format(data))
        prepared, image = load_image(data, image_px=IMAGE_PX, limits=LIMITS)
        outcome = "read"
    except InvalidImageError as error:
        outcome = error.reason
    else:
        if prepared.pixels.shape != (IMAGE_PX, IMAGE_PX, 3):
            raise BrokenPromiseError(f"the model's input has shape {prepared.pixels.shape}")
        if header is not None and {header.width, header.height} != {image.width, image.height}:
            found = f"{header.width} x {header.height}, decoded {image.width} x {image.height}"
            raise BrokenPromiseError(f"the header says {found}")
        if not display_photo(image).startswith(b"\xff\xd8"):
            raise BrokenPromiseError("it cannot be shown")
    if (took_s := time.thread_time() - started) > PROCESSOR_S:
        raise BrokenPromiseError(f"{len(data)} bytes took {took_s:.1f} s of processor time")
    return outcome


def seeds() -> dict[str, bytes]:
    """One small valid file of each format and of its usual variants, by a name that suits a file."""
    made = {
        format_.lower(): picture(format_, (24, 16)) for format_ in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "AVIF")
    }
    made["jpeg-progressive"] = picture("JPEG", (24, 16), progressive=True)
    made["jpeg-grey"] = picture("JPEG", (24, 16), mode="L")
    made["png-palette"] = picture("PNG", (24, 16), mode="P")
    made["png-alpha"] = picture("PNG", (24, 16), mode="RGBA")
    made["tiff-lzw"] = picture("TIFF", (24, 16), compression="tiff_lzw")
    made["tiff-float"] = picture("TIFF", (24, 16), mode="F")
    made["webp-lossless"] = picture("WEBP", (24, 16), mode="RGBA", lossless=True)
    return made


def with_sums(data: bytes) -> bytes:
    """A PNG with its chunks' check sums made right, so that changes get past them; other files as they are."""
    if not data.startswith(_PNG):
        return data
    mended, at = bytearray(data), len(_PNG)
    while (end := at + 8 + int.from_bytes(data[at : at + 4], "big")) + 4 <= len(data):
        mended[end : end + 4] = zlib.crc32(data[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(mended)


def fuzz(
    *,
    corpus: Annotated[Path, typer.Option(help="Folder of files to begin with, where what is new is kept.")],
    seconds: Annotated[int, typer.Option(min=1)] = 3600,
    seed: Annotated[int, typer.Option(min=1)] = 1,
) -> None:
    """Change files for so long and hold the gate to its promises; exit code 1 and a file where one is broken."""
    try:
        atheris = importlib.import_module("atheris")
    except ImportError as error:
        raise typer.BadParameter("fuzzing needs atheris, which is not installed: pip install atheris") from error
    corpus.mkdir(parents=True, exist_ok=True)
    for name, data in seeds().items():
        (corpus / name).write_bytes(data)
    for name in [name for name in sys.modules if name.split(".")[0] == "PIL" or name.startswith("threadmatch")]:
        del sys.modules[name]  # imported before it could be instrumented
    with atheris.instrument_imports(include=list(INSTRUMENTED)):
        gate = importlib.import_module("threadmatch.service.bench.image_fuzz")
    arguments = [
        f"-max_total_time={seconds}", f"-seed={seed}", f"-max_len={FILE_BYTES}", f"-rss_limit_mb={MEMORY_MIB}",
        "-timeout=20", f"-artifact_prefix={corpus.parent}/found-", "-print_final_stats=1", str(corpus),
    ]  # fmt: skip

    def changed(data: bytes, most: int, _seed: int) -> bytes:
        return with_sums(atheris.Mutate(data, most))

    atheris.Setup([sys.argv[0], *arguments], lambda data: gate.check(data) and None, custom_mutator=changed)
    atheris.Fuzz()


if __name__ == "__main__":
    typer.run(fuzz)
