"""What unpacking in processes costs a quiet search, and what threads cost everybody else; JSON on stdout.

python -m threadmatch.service.bench.decoding
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from PIL import Image

from threadmatch.model.images import ImageLimits
from threadmatch.service.bench.hostile_files import MIB, float_tiff, picture
from threadmatch.service.queues.decoding import DecodeRules, Decoding

IMAGE_PX: Final = 224
ROUNDS: Final = 60
TICK_S: Final = 0.002


def shop_photo(width: int, height: int) -> bytes:
    """A JPEG with something in it, of these pixels."""
    rough = np.random.default_rng(0).integers(0, 256, (height // 40, width // 40, 3), dtype=np.uint8)
    with io.BytesIO() as file:
        Image.fromarray(rough).resize((width, height), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
        return file.getvalue()


async def quiet(photos: dict[str, bytes], ways: dict[str, Decoding]) -> dict[str, Any]:
    """Median and quartiles, in ms, of one photo at a time; the ways take turns."""
    took: dict[str, list[float]] = {f"{name}, {way}": [] for name in photos for way in ways}
    for _ in range(ROUNDS):
        for name, data in photos.items():
            for way, decoding in ways.items():
                started = time.perf_counter()
                await decoding.photo(data, show="box")
                took[f"{name}, {way}"].append(1000 * (time.perf_counter() - started))
    return {
        name: dict(zip(("p25", "p50", "p75"), (round(ms, 2) for ms in statistics.quantiles(all_ms)), strict=True))
        for name, all_ms in took.items()
    }


async def held(data: bytes, decoding: Decoding) -> dict[str, float]:
    """How long the event loop stood still, at most and in all, while a photo was unpacked."""
    gaps: list[float] = []

    async def tick() -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(TICK_S)
            now = time.perf_counter()
            gaps.append(now - last - TICK_S)
            last = now

    ticking = asyncio.create_task(tick())
    started = time.perf_counter()
    await decoding.photo(data)
    took = time.perf_counter() - started
    ticking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await ticking
    return {"took_s": round(took, 2), "longest_stand_still_s": round(max(gaps), 3)}


def memory(pids: list[int]) -> list[float]:
    """Memory of these processes in MiB, shared pages counted in proportion."""
    found = []
    for pid in pids:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        found.append(round(next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024, 1))
    return found


def children() -> list[int]:
    """The processes that this one started."""
    listed = Path(f"/proc/self/task/{Path('/proc/self').resolve().name}/children").read_text()
    return [int(pid) for pid in listed.split()]


async def measure() -> dict[str, Any]:
    """All of it."""
    where: tuple[Literal["processes", "threads"], ...] = ("processes", "threads")
    ways: dict[str, Decoding] = {
        way: Decoding(IMAGE_PX, ImageLimits(), DecodeRules(where=way, large_bytes=4096 * MIB)) for way in where
    }
    started = time.perf_counter()
    ways["processes"].warm()
    result: dict[str, Any] = {"start_s": round(time.perf_counter() - started, 2), "memory_mib": memory(children())}
    photos = {
        "480 x 640": shop_photo(480, 640),
        "1500 x 2000": shop_photo(1500, 2000),
        "3000 x 4000": shop_photo(3000, 4000),
    }
    result["quiet_ms"] = await quiet(photos, ways)
    large = {
        "PNG, 36 Mpx": picture("PNG", (6000, 6000), mode="RGBA", compress_level=1),
        "WebP, 25 Mpx": picture("WEBP", (5000, 5000), lossless=True, method=0),
        "TIFF of floats, 36 Mpx": float_tiff(6000),
    }
    result["held"] = {
        f"{name}, {way}": await held(data, decoding) for name, data in large.items() for way, decoding in ways.items()
    }
    result["memory_after_mib"] = memory(children())
    for decoding in ways.values():
        decoding.close()
    return result


if __name__ == "__main__":
    json.dump(asyncio.run(measure()), sys.stdout, indent=2)
    sys.stdout.write("\n")
