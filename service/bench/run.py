"""All measurements in their order; the result is one JSON-ready dict."""

from __future__ import annotations

import io
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from threadmatch.model.data.setups import Setup
from threadmatch.model.descriptions import DEFAULT_MODEL, DEFAULT_PARSER
from threadmatch.model.speed import decode_speed, encode_speed, machine, pick_device, rerank_speed
from threadmatch.model.synthetic.drawn.drawn_query import draw_street_query
from threadmatch.model.synthetic.garments.garment import garment
from threadmatch.service.bench.ingestion import first_rows, measure_ingestion
from threadmatch.service.bench.latency import WAYS, measure_latency, wait_for_workers
from threadmatch.service.config import Settings
from threadmatch.service.process.commands import CommandError, program, service

QUERIES: Final = 32
WARM_S: Final = 1.0
WARM_ROUNDS: Final = 2
"""How often each worker meets each photo before, in the mean."""
SMALL_PART: Final = 5
"""Memory is compared between the whole gallery and one of this part of its size."""
LARGE_PHOTO: Final = (1500, 2000)
"""Width and height of what a phone sends, downscaled by the shop's page."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions:
    """What `threadmatch bench` was asked for; its help says what each is.

    Fields:
        ways: of asking, by name (`latency`).
        settings: of the service, by field name; many clients need more places than it has by default.
    """

    model: str
    device: str
    gallery_items: int
    clients: tuple[int, ...]
    candidates: int
    batch: int
    seconds: float
    seed: int
    work: Path
    with_service: bool
    workers: tuple[int, ...] = (1,)
    only_searches: bool = False
    ways: tuple[str, ...] = tuple(WAYS)
    settings: Mapping[str, str] = field(default_factory=dict)


def run_bench(options: BenchOptions, say: Say) -> dict[str, Any]:
    """Measure everything.

    Raises:
        CommandError, ModelError: a step failed.
    """
    started = time.monotonic()
    result: dict[str, Any] = {
        "command": shlex.join(["threadmatch", *sys.argv[1:]]),
        "machine": machine(),
        "seed": options.seed,
    }
    if not options.only_searches:
        result |= _alone(options, say)
    if options.with_service:
        result |= measure_service(options, say)
    result["seconds"] = round(time.monotonic() - started, 1)
    return result


def _alone(options: BenchOptions, say: Say) -> dict[str, Any]:
    """Each part by itself."""
    result: dict[str, Any] = {}
    device, names = pick_device(options.device), [options.model or DEFAULT_MODEL, "paper"]
    say("reranking: literal, serving and plain matrix products take turns")
    result["rerank"] = [
        asdict(rerank_speed(name, device=device, seconds=options.seconds, seed=options.seed)) for name in names
    ]
    say("encoding and parsing: the engines take turns")
    result["encode"] = [
        asdict(encode_speed(name, device=device, batch=options.batch, seconds=options.seconds, seed=options.seed))
        for name in (names[0], DEFAULT_PARSER)
    ]
    say("decoding, one thread")
    image_px = result["encode"][0]["sides_px"][0]
    small = draw_street_query(garment(options.seed, 0), setup=Setup.EASY, seed=options.seed).image
    result["decode"] = [
        asdict(decode_speed(jpeg(small, size), image_px=image_px, seconds=options.seconds / 2))
        for size in (None, LARGE_PHOTO)
    ]
    return result


def measure_service(options: BenchOptions, say: Say) -> dict[str, Any]:
    """Draw a shop, ingest it twice, serve it, load it; or serve and load what an earlier run made.

    Raises:
        CommandError: a step failed.
    """
    shop = options.work / f"drawn-{options.gallery_items}-{options.seed}"
    gallery = options.work / "gallery"
    result: dict[str, Any] = {} if options.only_searches else {"ingestion": _ingested(shop, gallery, options, say)}
    photos = [path.read_bytes() for path in sorted((shop / "queries").rglob("*.jpg"))[:QUERIES]]
    if not photos:
        raise CommandError(f"{shop} has no photos to ask for: run the whole benchmark first, with this --work")
    result["gallery_items"] = options.gallery_items
    result["candidates"] = options.candidates
    named = ["--model", options.model] if options.model else []
    serve = ["serve", "--gallery", str(gallery), "--port", "0", "--device", options.device, *named]
    result["latency"] = [row for workers in options.workers for row in _load(serve, workers, photos, options, say)]
    return result


def _ingested(shop: Path, gallery: Path, options: BenchOptions, say: Say) -> list[dict[str, Any]]:
    """Draw a shop, and ingest a part of it and all of it."""
    size = ["--items", str(options.gallery_items), "--queries", str(QUERIES), "--seed", str(options.seed)]
    _run(["data", "draw", "--out", str(shop), *size], say)
    measured = []
    named = ["--model", options.model] if options.model else []
    whole = shop / "catalogue.csv"
    part = first_rows(whole, max(1, options.gallery_items // SMALL_PART), options.work / "part.csv")
    for catalogue, folder in ((part, options.work / "part-gallery"), (whole, gallery)):
        shutil.rmtree(folder, ignore_errors=True)
        arguments = ["ingest", str(catalogue), "--images", str(shop), "--gallery", str(folder)]
        arguments += ["--device", options.device, *named]
        _say_command(arguments, say)
        measured.append(asdict(measure_ingestion(arguments)))
    return measured


def _load(
    serve: list[str], workers: int, photos: list[bytes], options: BenchOptions, say: Say
) -> Iterator[dict[str, Any]]:
    """What clients see of a service of so many processes."""
    arguments = [*serve, "--workers", str(workers)]
    _say_command(arguments, say)
    most = max(options.clients)  # from one address, which by itself may have three quarters of what there is
    bounds = {"max_searches": 2 * most, "max_connections": 2 * most, "max_pairs": 2 * most * options.candidates}
    settings = {name: str(max(bound, Settings.model_fields[name].default)) for name, bound in bounds.items()}
    with service(arguments, options.work / "serve.log", settings | dict(options.settings)) as running:
        wait_for_workers(running.address, workers)
        # So that no first call of a size of batch is counted, and no look-alikes are compared for the first time: drawn
        # garments have many, and each worker compares its own.
        least = WARM_ROUNDS * workers * len(photos)
        for way in options.ways:
            measure_latency(
                running, photos, clients=16, candidates=options.candidates, seconds=WARM_S, way=way, least=least
            )
        for clients in options.clients:
            for way in options.ways:
                say(f"{clients} clients ask for {options.seconds:g} s, {way}")
                measured = measure_latency(
                    running, photos, clients=clients, candidates=options.candidates, seconds=options.seconds, way=way
                )
                yield {"workers": workers, **asdict(measured)}


def _run(arguments: list[str], say: Say) -> None:
    _say_command(arguments, say)
    done = subprocess.run([*program(), *arguments], capture_output=True, text=True, check=False)  # noqa: S603 - our own
    if done.returncode:
        raise CommandError(
            f"`threadmatch {arguments[0]}` ended with exit code {done.returncode}: {done.stderr[-1000:]}"
        )


def _say_command(arguments: list[str], say: Say) -> None:
    say(f"$ {shlex.join(['threadmatch', *arguments])}")


def jpeg(pixels: NDArray[np.uint8], size: tuple[int, int] | None) -> bytes:
    """(H, W, 3) as a JPEG file, at another size if one is given."""
    picture = Image.fromarray(pixels)
    out = io.BytesIO()
    (picture.resize(size, Image.Resampling.BICUBIC) if size else picture).save(out, "JPEG", quality=90)
    return out.getvalue()
