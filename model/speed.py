"""How fast this machine encodes and reranks, against what it could do: the model room's part of `threadmatch bench`.

All contestants of one race take turns in one run, so that a machine that slows down slows them all; the best of each
counts. Their calls do about the same work, so that each has the same chance of a quiet moment.

Letters  B images, S image side, R regions, C channels, D similarity channels, N nodes a pair
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from threadmatch.model.compiling.network import BFLOAT16_ENGINE
from threadmatch.model.config import GRNetConfig
from threadmatch.model.descriptions import DEFAULT_PARSER, SHIPPED, shipped_models
from threadmatch.model.detection.parsing.detector import load_parser_detector
from threadmatch.model.engine import CPU_CHUNK_PAIRS, GPU_CHUNK_PAIRS, needed_flops
from threadmatch.model.errors import CheckpointError
from threadmatch.model.features import REGIONS
from threadmatch.model.gpu.choosing import pair_scorer
from threadmatch.model.grnet import SimilarityHead, load_checkpoint
from threadmatch.model.images import load_image
from threadmatch.model.inference import load_model
from threadmatch.model.racing import race
from threadmatch.model.region_matchers import LiteralMatcher

PAPER_BACKBONE: Final = "googlenet"
PAPER_CHANNELS: Final = 1024
"""C of the paper's backbone."""
SQUARE: Final = 2048
"""Side of the large product that shows the machine's own rate."""
PAIRS: Final = 64
"""Pairs a call."""


@dataclass(frozen=True, slots=True)
class RerankSpeed:
    """Pairs a second, and the matrix rate they amount to.

    Fields:
        model: whose head.
        needed_mflop: least work of a pair (`engine.needed_flops`), in 10^6 floating-point operations.
        literal_pairs_per_s, serving_pairs_per_s: of the two implementations, best of all rounds.
        matrix_gflops: the machine's float32 rate in the same race: the better of a large square product and of the
            head's own first one.
        share: serving_pairs_per_s * needed work / matrix rate, 0..1.
    """

    model: str
    needed_mflop: float
    literal_pairs_per_s: float
    serving_pairs_per_s: float
    matrix_gflops: float
    share: float


@dataclass(frozen=True, slots=True)
class EncodeSpeed:
    """How fast each engine encodes photos, and the garment parser reads them; all take turns.

    Fields:
        model: or the parser's name.
        sides_px: height and width of what it is given.
        engine: the one that serves.
        batch: photos a call, of `images_per_s`.
        images_per_s: by engine.
        one_photo_ms: by engine.
    """

    model: str
    sides_px: tuple[int, int]
    engine: str
    batch: int
    images_per_s: Mapping[str, float]
    one_photo_ms: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class DecodeSpeed:
    """Photos of one size that one core turns from JPEG bytes into the model's input in a second."""

    width: int
    height: int
    size_bytes: int
    images_per_s_per_core: float


def machine() -> dict[str, str | int | float]:
    """What the figures were measured on."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    found: dict[str, str | int | float] = {
        "cpu": _cpu_name(),
        "cores": cores,
        "load_before": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torch_threads": torch.get_num_threads(),
    }
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found


def pick_device(asked: str) -> str:
    """ "auto" to the device that `load_model` would take; others as they are."""
    if asked == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return asked


def rerank_speed(name: str, *, device: str, seconds: float, seed: int) -> RerankSpeed:
    """Race the two implementations of one model's head against plain matrix products.

    Args:
        name: "paper" (random weights at the paper's sizes), a shipped model or a checkpoint's folder.
        device: "cpu" or "cuda".
        seconds: for the race.
        seed: of weights and regions.
    """
    torch.manual_seed(seed)
    if name == "paper":
        config = GRNetConfig()
        channels, head = PAPER_CHANNELS, SimilarityHead(config, PAPER_CHANNELS)
    else:
        network = load_checkpoint(_folder(name))
        config, channels, head = network.config, network.region_channels, network.head
    engine, literal = pair_scorer(head, device), LiteralMatcher(head.to(device), device=device)
    query = torch.rand(config.regions, channels)
    candidates = torch.rand(PAIRS, config.regions, channels)
    stored = candidates.half()  # as a gallery keeps them
    chunk = CPU_CHUNK_PAIRS if device == "cpu" else GPU_CHUNK_PAIRS
    needed = needed_flops(config, channels)
    square = _product((SQUARE, SQUARE, SQUARE), device, at_least=PAIRS * needed)
    first = _product((chunk * config.nodes, channels, config.similarity_channels), device, at_least=PAIRS * needed)
    timings = race(
        {
            "square": square.run,
            "first": first.run,
            "literal": lambda: literal.score_many([{REGIONS: query.numpy()}], [{REGIONS: candidates.numpy()}]),
            "serving": lambda: engine.score_many([query], [stored]),
        },
        seconds=seconds,
    )
    rate = max(square.flops / timings["square"].best_s, first.flops / timings["first"].best_s)
    serving = PAIRS / timings["serving"].best_s
    return RerankSpeed(
        model=name,
        needed_mflop=round(needed / 1e6, 1),
        literal_pairs_per_s=round(PAIRS / timings["literal"].best_s, 1),
        serving_pairs_per_s=round(serving, 1),
        matrix_gflops=round(rate / 1e9, 1),
        share=round(serving * needed / rate, 3),
    )


def encode_speed(name: str, *, device: str, batch: int, seconds: float, seed: int) -> EncodeSpeed:
    """Race the engines that run a model on this device, with one photo and with several a call.

    Args:
        name: a shipped model, the shipped parser or a checkpoint's folder.
        device: "cpu" or "cuda"; a parser computes on the CPU.
        batch: images a call.
        seconds: for the race.
        seed: of the images.
    """
    calls: dict[str, Callable[[NDArray[np.uint8]], object]] = {}
    if name == DEFAULT_PARSER:
        parsers = {engine: load_parser_detector(engine=engine) for engine in ("torch", "auto")}
        calls = {parser.engine: functools.partial(_in_turn, parser.probabilities_many) for parser in parsers.values()}
        serves, sides = parsers["auto"].engine, parsers["auto"].sides_px
    else:
        models = [load_model(_folder(name), device=device, engine=engine) for engine in ("torch", "auto")]
        with contextlib.suppress(CheckpointError):  # not every processor can
            models.append(load_model(_folder(name), device=device, engine=BFLOAT16_ENGINE))
        calls = {model.engine: model.encode for model in models}
        serves, sides = models[1].engine, (models[1].image_px, models[1].image_px)
    pixels = np.random.default_rng(seed).integers(0, 256, (batch, *sides, 3), dtype=np.uint8)
    timings = race(
        {
            f"{engine} {count}": functools.partial(call, pixels[:count])
            for engine, call in calls.items()
            for count in sorted({1, batch})
        },
        seconds=seconds,
    )
    return EncodeSpeed(
        model=name,
        sides_px=sides,
        engine=serves,
        batch=batch,
        images_per_s={engine: round(batch / timings[f"{engine} {batch}"].best_s, 1) for engine in calls},
        one_photo_ms={engine: round(1000 * timings[f"{engine} 1"].best_s, 1) for engine in calls},
    )


def _in_turn(call: Callable[[list[NDArray[np.uint8]]], object], pixels: NDArray[np.uint8]) -> object:
    """(B, H, W, 3) for what takes a list of photos."""
    return call(list(pixels))


def decode_speed(photo: bytes, *, image_px: int, seconds: float) -> DecodeSpeed:
    """Time the one preprocessing on one thread: JPEG bytes to the model's input."""
    prepared, _ = load_image(photo, image_px=image_px)
    timing = race({"decode": lambda: load_image(photo, image_px=image_px)}, seconds=seconds)["decode"]
    return DecodeSpeed(prepared.width, prepared.height, len(photo), round(1 / timing.median_s, 1))


@dataclass(frozen=True, slots=True)
class _Product:
    """A float32 matrix product, repeated until it comes to a given work."""

    run: Callable[[], object]
    flops: float


def _product(shape: tuple[int, int, int], device: str, *, at_least: float) -> _Product:
    rows, inner, columns = shape
    a, b = torch.rand(rows, inner, device=device), torch.rand(inner, columns, device=device)
    out = torch.empty(rows, columns, device=device)
    flops = 2.0 * rows * inner * columns
    times = math.ceil(at_least / flops)

    @torch.inference_mode()
    def run() -> None:
        for _ in range(times):
            torch.mm(a, b, out=out)
        out[0, 0].item()  # waits for a GPU

    return _Product(run, flops * times)


def _folder(name: str) -> Path:
    return SHIPPED / name if name in shipped_models() else Path(name)


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
