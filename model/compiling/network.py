"""A torch network converted to OpenVINO's form and run by its CPU engine, in float32.

Importing OpenVINO would report to its makers over the network (`openvino-telemetry`); here it is imported without that.

Letters  B photos, H x W their size
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from threadmatch.model.compiling.cache import drop_entry, keep_entry, read_entry
from threadmatch.model.errors import CompileError

logger = logging.getLogger(__name__)

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]

FORM: Final = 3
"""Of what is kept; raised when the conversion changes."""
TOLERANCE: Final = 1e-3
"""Largest difference from torch's numbers, as a share of the largest of them, that another order of adding causes."""
BFLOAT16_TOLERANCE: Final = 0.1
"""Likewise in bfloat16, whose eight bits add up over the layers of a transformer."""
BFLOAT16_ENGINE: Final = "openvino-bfloat16"
"""The engine's name that asks for bfloat16, whatever a model says."""
NETWORK_FILE: Final = "network.xml"
TELEMETRY: Final = "openvino_telemetry"


class CompiledNetwork:
    """Answers as the network that it was made of. Thread-safe: calls take turns, since each has all threads.

    Args:
        compiled: OpenVINO's.
        of_some: compiles the same network anew for some of its outputs, by their places.
    """

    def __init__(self, compiled: Any, of_some: Callable[[Sequence[int]], CompiledNetwork]) -> None:
        self._request = compiled.create_infer_request()
        self._outputs = len(compiled.outputs)
        self._of_some = of_some
        self._lock = threading.Lock()

    def only(self, places: Sequence[int]) -> CompiledNetwork:
        """The same network for some of its outputs: what only the others need is not computed.

        Args:
            places: of the outputs, in the order in which they are to be given.

        Raises:
            CompileError: OpenVINO cannot.
        """
        return self._of_some(places)

    def __call__(self, pixels: Pixels) -> list[Floats]:
        """(B, H, W, 3) uint8 -> the network's outputs, float32."""
        with self._lock:
            found = self._request.infer([np.ascontiguousarray(pixels)], share_inputs=True)
            return [np.asarray(found[place], np.float32) for place in range(self._outputs)]


@dataclass(frozen=True, slots=True)
class _Trial:
    """What a compiled network is held to: torch's own, on photos, in which precision."""

    network: nn.Module
    probes: tuple[Pixels, ...]
    bfloat16: bool


def compile_network(
    network: nn.Module,
    probes: Sequence[Pixels],
    *,
    key: str,
    cache: Path | None,
    bfloat16: bool = False,
) -> CompiledNetwork:
    """Convert a network, or take what was kept of it, and hold it to torch's answers.

    Args:
        network: in evaluation mode, on the CPU; takes (B, H, W, 3) uint8, gives a tuple of float tensors.
        probes: of each size H x W that is asked for; B may be anything later on.
        key: names network and weights; what was kept under it is believed only where it answers as torch does.
        cache: folder that keeps converted networks; None keeps none.
        bfloat16: compute in it where the processor can.

    Raises:
        CompileError: OpenVINO is not there, cannot convert the network, or answers otherwise than torch.
    """
    openvino = import_openvino()
    key = f"{key}-openvino{openvino.__version__.partition('-')[0]}-{FORM}"
    trial = _Trial(network, tuple(probes), bfloat16)
    if (kept := _kept(openvino, trial, key, cache)) is not None:
        return kept
    graph = _converted(openvino, network, probes)
    made = _compiled(openvino, graph, bfloat16=bfloat16)
    _check(made, replace(trial, probes=(*probes, np.repeat(probes[0][:1], 3, axis=0))))
    if cache is not None:
        keep_entry(cache, key, lambda folder: _write(openvino, graph, folder, bfloat16=bfloat16))
        # Read back, it adds in another order than as it was converted: so the first start answers as all later ones do.
        return _kept(openvino, trial, key, cache) or made
    return made


def _kept(openvino: Any, trial: _Trial, key: str, cache: Path | None) -> CompiledNetwork | None:
    """What the cache has of the network; None where that is nothing, or answers otherwise than torch."""
    if cache is None or (entry := read_entry(cache, key)) is None:
        return None
    with contextlib.suppress(CompileError):
        kept = _compiled(openvino, entry, bfloat16=trial.bfloat16)
        _check(kept, trial)
        return kept
    drop_entry(cache, key)
    logger.warning("converted network answers otherwise than torch, made again", extra={"key": key})
    return None


def has_bfloat16() -> bool:
    """Whether this processor has instructions for it; another would compute in float32.

    Raises:
        CompileError: OpenVINO is not there.
    """
    return "BF16" in import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def probe_photo(height: int, width: int) -> Pixels:
    """(1, H, W, 3) uint8 with edges, gradients and noise: what a network is tried with."""
    down, across = np.mgrid[:height, :width]
    waves = np.stack([np.sin(down / 9), np.cos(across / 13), np.sin((down + across) / 21)], axis=-1)  # (H, W, 3)
    noise = np.random.default_rng(0).normal(0, 20, waves.shape)
    return np.clip(128 + 90 * waves + noise, 0, 255).astype(np.uint8)[None]


def import_openvino() -> Any:
    """OpenVINO's module, without its telemetry.

    Raises:
        CompileError: it is not installed, or does not run here.
    """
    with _without_telemetry():
        try:
            return importlib.import_module("openvino")
        except (ImportError, OSError) as error:
            raise CompileError(f"OpenVINO cannot be imported ({error}); pip install openvino") from error


@contextlib.contextmanager
def _without_telemetry() -> Iterator[None]:
    """OpenVINO takes a missing telemetry package for what it is; so it is missing while the block runs."""
    if TELEMETRY in sys.modules or "openvino" in sys.modules:  # somebody else's choice
        yield
        return
    sys.modules[TELEMETRY] = None  # type: ignore[assignment]  # what importlib takes as "cannot be imported"
    try:
        yield
    finally:
        del sys.modules[TELEMETRY]


def _converted(openvino: Any, network: nn.Module, probes: Sequence[Pixels]) -> Any:
    """OpenVINO's form of the network, for any B; for any H and W too where there are several probes.

    Not by `openvino.convert_model`, which reports to its makers.
    """
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    example = torch.from_numpy(np.repeat(probes[0][:1], 2, axis=0))  # with one photo, B might be taken for a constant
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch's tracer: shapes that it takes for constants, which _check tries
            traced = torch.jit.trace(network, (example,), check_trace=False)
            decoder = TorchScriptPythonDecoder(traced)  # named, since OpenVINO alone would not keep it alive
            front_end = FrontEndManager().load_by_framework("pytorch")
            graph = front_end.convert(front_end.load(decoder))
        sides = probes[0].shape[1:3] if len(probes) == 1 else (-1, -1)
        graph.reshape(openvino.PartialShape([-1, *sides, 3]))
    except Exception as error:  # torch's tracer and OpenVINO's converter raise nearly every kind
        raise CompileError(f"OpenVINO cannot convert this network ({_in_short(error)})") from error
    return graph


def _write(openvino: Any, graph: Any, folder: Path, *, bfloat16: bool) -> None:
    """OpenVINO's model into a folder, and as it is compiled for this processor: a later start reads that in a fifth."""
    openvino.save_model(graph, folder / NETWORK_FILE, compress_to_fp16=False)
    core = openvino.Core()
    settings = _settings(bfloat16=bfloat16)
    with contextlib.suppress(RuntimeError):  # then each start compiles it
        made = core.compile_model(core.read_model(folder / NETWORK_FILE), "CPU", settings)
        (folder / _compiled_file(core, settings)).write_bytes(made.export_model().getvalue())


def _settings(*, bfloat16: bool) -> dict[str, Any]:
    precision = "bf16" if bfloat16 and has_bfloat16() else "f32"
    return {
        "INFERENCE_PRECISION_HINT": precision,  # unsaid, processors with bfloat16 would use it
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "ENABLE_CPU_PINNING": False,  # several workers, or containers, share the cores
    }


def _compiled_file(core: Any, settings: dict[str, Any]) -> str:
    """What was compiled for one kind of processor is not for another; the number of threads is set as it is read."""
    processor = [core.get_property("CPU", name) for name in ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")]
    kind = hashlib.sha256(repr(processor).encode()).hexdigest()[:16]
    return f"{settings['INFERENCE_PRECISION_HINT']}-{kind}.blob"


def _compiled(openvino: Any, graph: Any, *, bfloat16: bool) -> CompiledNetwork:
    """OpenVINO's model, or the folder that keeps one, made ready to run."""
    core = openvino.Core()
    settings = _settings(bfloat16=bfloat16)

    @functools.cache
    def whole() -> Any:  # weights of a file are mapped, not loaded
        return core.read_model(graph / NETWORK_FILE) if isinstance(graph, Path) else graph

    def of_some(places: Sequence[int]) -> CompiledNetwork:
        chosen = openvino.Model([whole().outputs[place].get_node() for place in places], whole().get_parameters())
        return _compiled(openvino, chosen, bfloat16=bfloat16)

    ready = graph / _compiled_file(core, settings) if isinstance(graph, Path) else None
    try:
        if ready is not None and ready.is_file():
            return CompiledNetwork(core.import_model(ready.read_bytes(), "CPU", settings), of_some)
        return CompiledNetwork(core.compile_model(whole(), "CPU", settings), of_some)
    except Exception as error:  # as above
        raise CompileError(f"OpenVINO cannot compile this network ({_in_short(error)})") from error


def _check(compiled: CompiledNetwork, trial: _Trial) -> None:
    """Hold to torch.

    Raises:
        CompileError: numbers differ by more than the tolerance, or there are none.
    """
    tolerance = BFLOAT16_TOLERANCE if trial.bfloat16 else TOLERANCE
    for probe in trial.probes:
        with torch.inference_mode():
            expected = [values.numpy() for values in trial.network(torch.from_numpy(probe))]
        try:
            found = compiled(probe)
        except Exception as error:  # as above
            raise CompileError(f"OpenVINO cannot run this network ({_in_short(error)})") from error
        check_answers(found, expected, tolerance)


def check_answers(found: Sequence[Floats], expected: Sequence[Floats], tolerance: float) -> None:
    """Hold a compiled network's outputs to what they should be.

    Raises:
        CompileError: other shapes, or numbers that differ by more than this share of the largest of them.
    """
    if [values.shape for values in found] != [values.shape for values in expected]:
        raise CompileError("OpenVINO gives other shapes than expected")
    for ours, theirs in zip(expected, found, strict=True):
        apart, most = float(np.abs(ours - theirs).max()), float(np.abs(ours).max())
        if not apart <= tolerance * most:  # so that no number is no agreement
            raise CompileError(f"OpenVINO's numbers differ from what they should be by {apart:.2g} of {most:.2g}")


def _in_short(error: Exception) -> str:
    """OpenVINO says where in its own source something failed first, and what in the last line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1][:200] if lines else ''}"
