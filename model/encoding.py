"""From prepared photos to named features: which features there are, and the engines that compute them.

Adding a feature is an entry in FEATURES (and its name in a model's config, `GRNetConfig.features`); adding an engine is
an entry in ENGINES. A part on top of the network (`part.Part`) brings features of its own.

Letters  B photos, S image side, E embedding size, R regions, C channels, h x w the backbone's map
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from threadmatch.model.checkpoint import features_fingerprint
from threadmatch.model.compiling.network import (
    BFLOAT16_ENGINE,
    TOLERANCE,
    CompiledNetwork,
    check_answers,
    compile_network,
    has_bfloat16,
    probe_photo,
)
from threadmatch.model.errors import CheckpointError, CompileError, ConfigError
from threadmatch.model.features import CELLS, EMBEDDING, REGIONS, TINTS, Features, FeatureSpec
from threadmatch.model.fusing import fold_batch_norm
from threadmatch.model.grnet import GRNet
from threadmatch.model.part import Part, Seen
from threadmatch.model.region_matchers import tensor
from threadmatch.model.tints import tints_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FeatureKind:
    """How one feature is made.

    Fields:
        spec: its form, for a network.
        make: its values, (B, *shape).
    """

    spec: Callable[[GRNet], FeatureSpec]
    make: Callable[[GRNet, Seen], Tensor]


def _cells_spec(network: GRNet) -> FeatureSpec:
    rows, columns = network.map_grid()
    return FeatureSpec(CELLS, (rows * columns, network.region_channels), "int4")


def _tints_spec(network: GRNet) -> FeatureSpec:
    rows, columns = network.map_grid()
    return FeatureSpec(TINTS, (3, rows * columns), "int8")


def _tints(_: GRNet, seen: Seen) -> Tensor:
    rows, columns = seen.feature_map.shape[2:]
    return tints_of(seen.images, (rows, columns))


def see(network: GRNet, images: Tensor) -> Seen:
    """All that features are computed from: (B, 3, S, S) uint8 -> `Seen`."""
    stages = sorted({stage for part in network.attached.values() for stage in part.stages})
    looked = network.backbone.look(images, stages)
    columns, neck = looked.whole.flatten(2).transpose(1, 2), network.cell_neck or network.neck  # (B, h * w, all maps)
    cells = F.normalize(columns if neck is None else neck(columns), dim=-1)
    return Seen(images, looked.feature_map, *network.project(*network.pool(looked)), cells, looked.stages)


FEATURES: Final[dict[str, FeatureKind]] = {
    EMBEDDING: FeatureKind(
        lambda network: FeatureSpec(EMBEDDING, (network.embedding_dim,), "float32", indexed=True),
        lambda _, seen: seen.embedding,
    ),
    REGIONS: FeatureKind(
        lambda network: FeatureSpec(REGIONS, (network.config.regions, network.region_channels)),
        lambda _, seen: seen.regions,
    ),
    CELLS: FeatureKind(_cells_spec, lambda _, seen: seen.cells),
    TINTS: FeatureKind(_tints_spec, _tints),
}


def feature_kinds(network: GRNet) -> dict[str, FeatureKind]:
    """Those that the network's config asks for, and those of its parts.

    Raises:
        ConfigError: one is unknown, or two have one name.
    """
    if unknown := [name for name in network.config.features if name not in FEATURES]:
        raise ConfigError(f"features has {unknown}, known are {', '.join(FEATURES)}")
    kinds = {name: FEATURES[name] for name in network.config.features}
    for part in network.attached.values():
        for spec in part.specs:
            if spec.name in kinds:
                raise ConfigError(f"part {part.name!r} makes {spec.name!r}, which this model makes already")
            kinds[spec.name] = _kind_of(part, spec)
    return kinds


def _kind_of(part: Part, spec: FeatureSpec) -> FeatureKind:
    """A part's feature; the part computes all of its features at once, the first time that one is asked for."""
    marked = replace(spec, made_by=part.fingerprint)

    def make(_: GRNet, seen: Seen) -> Tensor:
        if part.name not in seen.made:
            seen.made[part.name] = part(seen)
        return seen.made[part.name][spec.name]

    return FeatureKind(lambda _: marked, make)


class FeatureNetwork(nn.Module):
    """A network as one function from photos to its features: what every engine computes.

    Args:
        network: trained, in evaluation mode; shared, not copied.

    Fields:
        names: of the features, in the order in which `forward` gives them.
    """

    def __init__(self, network: GRNet) -> None:
        super().__init__()
        kinds = feature_kinds(network)
        self.network, self.names, self._makes = network, tuple(kinds), [kind.make for kind in kinds.values()]

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """(B, S, S, 3) uint8 RGB -> (B, *shape) float32 for each of `names`."""
        seen = see(self.network, pixels.permute(0, 3, 1, 2))
        return tuple(make(self.network, seen).float() for make in self._makes)


class EncoderEngine(Protocol):
    """Computes a network's features.

    Fields:
        name: in ENGINES.
        own_numbers: whether its numbers differ from torch's by more than rounding, so that galleries must not be
            shared: then it takes part in the features' fingerprint.
    """

    name: str
    own_numbers: bool

    def make_ready(self, names: Collection[str]) -> None:
        """Be ready to compute these features alone, where that costs less than all of them."""
        ...

    def encode(self, pixels: NDArray[np.uint8], names: Collection[str] | None = None) -> Features:
        """Compute features.

        Args:
            pixels: (B, S, S, 3) uint8 RGB.
            names: of the features that are wanted; None for all of them.

        Returns:
            A (B, *shape) float32 array for each of `names`, perhaps for others too.

        Raises:
            ValueError: pixels of another shape or type.
        """
        ...


class TorchEngine:
    """The network itself, with its batch norm folded.

    Args:
        network: trained; handed over, since it is changed and moved to the device.
        device: "cpu" or "cuda".
        fold: fold the batch norm; False for a backbone that is folded already.
    """

    name = "torch"
    own_numbers = False

    def __init__(self, network: GRNet, device: str, *, fold: bool = True) -> None:
        self._features, self._device = FeatureNetwork(network), device
        self._image_px, self._bfloat16 = network.config.image_px, network.config.bfloat16
        if fold:
            network.backbone = fold_batch_norm(network.backbone, image_px=self._image_px)
        network.to(device)
        network.to(memory_format=torch.channels_last)

    def make_ready(self, names: Collection[str]) -> None:
        """All features are computed, whatever is wanted."""

    @torch.inference_mode()
    def encode(self, pixels: NDArray[np.uint8], names: Collection[str] | None = None) -> Features:
        """See `EncoderEngine.encode`."""
        photos = photo_tensor(pixels, self._image_px, self._device)
        with torch.autocast(self._device, torch.bfloat16, enabled=self._bfloat16):
            found = self._features(photos)
        return {
            name: values.contiguous().cpu().numpy()
            for name, values in zip(self._features.names, found, strict=True)
            if names is None or name in names
        }


class OpenVinoEngine:
    """The network as OpenVINO runs it on the CPU: the same numbers but for rounding, from half the time.

    Args:
        network: trained, on the CPU; left as it is.
        cache: folder that keeps the converted network; None keeps none.
        bfloat16: compute in it, whatever the model says: six to seven tenths of the time, a hundredth off.

    Raises:
        CompileError: it cannot be had; with `bfloat16` also where the processor has no such instructions.
    """

    own_numbers = False

    def __init__(self, network: GRNet, cache: Path | None, *, bfloat16: bool = False) -> None:
        if bfloat16 and not has_bfloat16():
            raise CompileError("this processor has no instructions for bfloat16 (AVX-512 BF16, AMX, or Arm's)")
        self.name = BFLOAT16_ENGINE if bfloat16 else "openvino"
        features, side = FeatureNetwork(network), network.config.image_px
        self._names, self._image_px = features.names, side
        made_of = [features_fingerprint(network), *(part.fingerprint for part in network.attached.values())]
        self._compiled = compile_network(
            features,
            [probe_photo(side, side)],
            key="-".join(["features-bfloat16" if bfloat16 else "features", *made_of]),
            cache=cache,
            bfloat16=bfloat16 or network.config.bfloat16,
        )
        self._some: tuple[tuple[str, ...], CompiledNetwork] | None = None  # for some features alone

    def make_ready(self, names: Collection[str]) -> None:
        """Compile the network once more for these features, if it answers then as it does whole."""
        wanted = tuple(name for name in self._names if name in names)
        if not wanted or len(wanted) == len(self._names):
            return
        places = [self._names.index(name) for name in wanted]
        probe = probe_photo(self._image_px, self._image_px)
        try:
            some = self._compiled.only(places)
            whole = self._compiled(probe)
            check_answers(some(probe), [whole[place] for place in places], TOLERANCE)
        except CompileError as error:
            logger.warning("all features are computed", extra={"wanted": wanted, "reason": str(error)})
        else:
            self._some = (wanted, some)

    def encode(self, pixels: NDArray[np.uint8], names: Collection[str] | None = None) -> Features:
        """See `EncoderEngine.encode`."""
        made, compiled = self._names, self._compiled
        if names is not None and self._some is not None and set(names) <= set(self._some[0]):
            made, compiled = self._some
        return dict(zip(made, compiled(checked(pixels, self._image_px)), strict=True))


def checked(pixels: NDArray[np.uint8], image_px: int) -> NDArray[np.uint8]:
    """The pixels, if they are (B, S, S, 3) uint8.

    Raises:
        ValueError: another shape or type.
    """
    if pixels.dtype != np.uint8 or pixels.shape[1:] != (image_px, image_px, 3):
        raise ValueError(f"pixels are {pixels.dtype} {pixels.shape}, expected uint8 (B, {image_px}, {image_px}, 3)")
    return pixels


def photo_tensor(pixels: NDArray[np.uint8], image_px: int, device: str) -> Tensor:
    """(B, S, S, 3) uint8 RGB on the device; ValueError for another shape or type."""
    return tensor(np.ascontiguousarray(checked(pixels, image_px))).to(device)


EngineFactory = Callable[[GRNet, str, Path | None], EncoderEngine]
"""From a trained network, a device and a folder for converted networks to an engine; CompileError if it cannot run."""


def _torch(network: GRNet, device: str, _: Path | None) -> EncoderEngine:
    return TorchEngine(network, device)


def _openvino(network: GRNet, device: str, cache: Path | None, *, bfloat16: bool = False) -> EncoderEngine:
    if device != "cpu":
        raise CompileError("OpenVINO computes on the CPU here; use --device cpu, or --engine torch")
    return OpenVinoEngine(network, cache, bfloat16=bfloat16)


ENGINES: Final[dict[str, EngineFactory]] = {
    "torch": _torch,
    "openvino": _openvino,
    BFLOAT16_ENGINE: functools.partial(_openvino, bfloat16=True),
}
DEFAULT_ENGINE: Final = {"cpu": "openvino", "cuda": "torch"}
"""By device: what "auto" takes. pyproject.toml says why OpenVINO."""


def build_engine(name: str, network: GRNet, device: str, cache: Path | None) -> EncoderEngine:
    """An engine by its name; "auto" takes the device's default one, and torch where that cannot be had.

    Raises:
        CheckpointError: the name is unknown, or the engine that was asked for by name cannot be had.
    """
    if name not in ("auto", *ENGINES):
        raise CheckpointError(f"engine {name!r} is unknown, expected auto or one of {', '.join(ENGINES)}")
    chosen = DEFAULT_ENGINE[device] if name == "auto" else name
    try:
        return ENGINES[chosen](network, device, cache)
    except CompileError as error:
        if name != "auto":
            raise CheckpointError(f"engine {name} cannot run model {network.name}: {error}") from error
        logger.warning("torch encodes", extra={"model": network.name, "instead_of": chosen, "reason": str(error)})
        return TorchEngine(network, device)
