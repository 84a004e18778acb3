"""What a model is, as one frozen object: the paper's numbers and every choice the paper leaves open.

Letters  L scales, R regions an image, N nodes a pair, C, D, C' feature, similarity and node channels, T steps
Paper    Kuang et al., ICCV 2019, sec. 3.2 and 5.1; Table 5 and Table 6 are settings of these fields
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args, get_type_hints

from threadmatch.model.encoder_config import EncoderConfig
from threadmatch.model.errors import ConfigError
from threadmatch.model.features import EMBEDDING, REGIONS
from threadmatch.model.framing import SQUASHED, Framing
from threadmatch.model.settings import check_type

PAPER_SCALES = ("1x1", "1x2", "2x1", "2x2", "1x3", "3x1", "3x3")
"""The grids of sec. 5.1, rows x columns, scale 1 to 7: R = 24 regions, N = 124 nodes."""

GLOBAL_SCALE, GLOBAL_GRID = "1x1", (1, 1)
CONFIG_VERSION = 1

Pool = Literal["max", "avg"]
RegionNorm = Literal["none", "l2"]
Edges = Literal["recompute", "frozen"]
StepWeights = Literal["per_step", "shared"]
Classifier = Literal["two_logits", "one_logit"]
BlendTerm = Literal["global", "greedy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GRNetConfig:
    """One model. The defaults are the paper's where it speaks; where it does not, the comment says why this one."""

    # --- features (sec. 3.2, 5.1) ---
    backbone: str = "efficientnet_lite0"
    """"googlenet" (torchvision), "googlenet_original" (Caffe form), "efficientnet_lite0" and "efficientnet_lite2", or
    "timm:<any timm name>"; with `encoder` also "open_clip:<name>" and "hf:<name>".
    The paper's is GoogLeNet; Lite0 retrieves as well here, is faster, and its weights may be shipped."""
    encoder: EncoderConfig | None = None
    """Of a network that others trained and `threadmatch adapt` took over: how it is built and what it sees of a photo;
    None for the paper's way with both."""
    image_px: int = 224
    """Side of the square that the garment's box is resized to; without `encoder` its aspect ratio is not kept
    (sec. 5.1)."""
    scales: tuple[str, ...] = PAPER_SCALES
    """Grids, rows x columns. Table 5, rows 1 to 3, drops some. The first is the global one."""
    pool: Pool = "max"
    """Pooling of a region (sec. 3.2: max). Cell borders are open: adaptive (floor of the start, ceiling of the end),
    so that no row of the map is left out and neighbours share at most one row."""
    embedding_pool: Pool = "avg"
    """A of Eq. 1, for stage one; the paper names both. Average pooling has the better shortlist recall here."""
    embedding_channels: int = 0
    """E: size of a learned linear map of the pooled vector, for stage one; 0 takes the pooled vector itself (paper)."""
    neck_channels: int = 0
    """Open extension: channels of a learned linear map of the region vectors, done once an image; 0: none (paper)."""
    hypercolumn: tuple[int, ...] = ()
    """Open extension (Hariharan et al., CVPR 2015): stages of the backbone, counted from 0, whose maps join the last
    one's in each region. No layer learns to weigh their channels, and so they hold on garments never trained on
    (docs/training.md). With a neck, `neck.HypercolumnNeck` makes one vector of them all."""
    companion: str = ""
    """Open extension: a second backbone, trained by itself, that looks at the same photos (`train.joined_run`). Cells
    and stage one read both; regions, and with them GRNet's head, the first alone. Needs a hypercolumn and a neck."""
    cell_hypercolumn: tuple[int, ...] = ()
    """With a companion: the stages of both whose maps join the last ones in each cell; those of `hypercolumn` among
    them."""
    features: tuple[str, ...] = (EMBEDDING, REGIONS)
    """What a gallery keeps of a photo, by name: see `encoding.FEATURES`."""
    region_norm: RegionNorm = "none"
    """Length of a region vector before Eq. 4. "none" is the paper's; "l2" makes the gap blind to contrast."""

    # --- similarity pyramid (Eq. 4) ---
    similarity_channels: int = 512
    """D (sec. 5.1, Table 6)."""
    projection_bias: bool = False
    """Open: bias inside Eq. 4's normalisation, s = (Pd + b) / ||Pd + b||. The paper writes none, and then the size of
    the gap d is lost; with b it survives as the angle to b."""
    position_code: bool = False
    """Open: a learned vector per node (l, i, j) added to s. Without it the nodes are a set."""

    # --- reasoning (Eq. 5 to 8) ---
    steps: int = 3
    """T, graph convolution layers (sec. 5.5)."""
    node_channels: int = 128
    """C' (sec. 5.1, Table 6)."""
    intra_scale_edges: bool = True
    inter_scale_edges: bool = True
    """Table 5, rows 4 to 6. Edges into the global node and from a node to itself always stay: without the first the
    answer would see one similarity only, without the second a node could have no edge for the softmax of Eq. 5."""
    edges: Edges = "recompute"
    """Open: Eq. 5 evaluated anew from h in steps 2..T, or kept from step 1. The paper substitutes h for s "in the right
    hand side of Eq. 6", where w depends on s; recomputing reads that literally."""
    step_weights: StepWeights = "per_step"
    """Open: T_in, T_out, W per step, or one set shared by steps 2..T (step 1 has other shapes unless D = C')."""
    dropout: float = 0.0
    """Open: on the nodes, while training. The paper names none."""

    # --- answer (sec. 3.2, end-to-end training) ---
    classifier: Classifier = "two_logits"
    """Open: the map from h_1^11 to the cross-entropy: two logits (the score is their difference) or one."""
    blend: tuple[BlendTerm, ...] = ()
    """Open extension: similarities added to the score with learned weights: "global" cosine (Eq. 1) and "greedy" mean
    cosine of each query region's best partner (Eq. 2, 3). () is the paper's."""

    def __post_init__(self) -> None:
        _check(self)

    @property
    def framing(self) -> Framing:
        """How a photo becomes the square of `image_px`."""
        return SQUASHED if self.encoder is None else self.encoder.framing

    @property
    def bfloat16(self) -> bool:
        """Whether photos are encoded in bfloat16 where the processor can."""
        return self.encoder is not None and self.encoder.bfloat16

    @property
    def grids(self) -> tuple[tuple[int, int], ...]:
        """Rows and columns of each scale, in order."""
        return tuple(_grid(scale) for scale in self.scales)

    @property
    def regions(self) -> int:
        """R, regions an image."""
        return sum(rows * columns for rows, columns in self.grids)

    @property
    def nodes(self) -> int:
        """N, same-scale region pairs of two images."""
        return sum((rows * columns) ** 2 for rows, columns in self.grids)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, with the version of the form.

        What came later is left out where it is as it was before, so that older checkpoints keep their fingerprint.
        """
        later = {
            "hypercolumn": (),
            "companion": "",
            "cell_hypercolumn": (),
            "features": (EMBEDDING, REGIONS),
            "encoder": None,
        }
        values = {name: value for name, value in asdict(self).items() if name not in later or value != later[name]}
        if self.encoder is not None:
            values["encoder"] = self.encoder.to_dict()
        return {"config_version": CONFIG_VERSION, **json.loads(json.dumps(values))}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> GRNetConfig:
        """Read what `to_dict` wrote.

        Raises:
            ConfigError: unknown version or field (the nearest one is named), or a value of another type or out of
                range.
        """
        given = dict(values)
        version = given.pop("config_version", CONFIG_VERSION)
        if version != CONFIG_VERSION:
            raise ConfigError(f"config_version is {version!r}, this release reads {CONFIG_VERSION}; update threadmatch")
        names = [field.name for field in fields(cls)]
        for name, value in given.items():
            if name not in names:
                near = difflib.get_close_matches(name, names, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(names)}"
                raise ConfigError(f"unknown model setting {name!r}{hint}")
            if isinstance(value, list):
                given[name] = tuple(value)
            if name == "encoder" and value is not None:
                given[name] = EncoderConfig.from_dict(value)
            check_type(cls, name, given[name])
        return cls(**given)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Score to probability of "same garment", fitted on held-out pairs, and when to say that nothing matches.

    sigmoid(scale * score + offset + size_slope * log(m / gallery_items)) for a match found in a gallery of m items.
    """

    scale: float = 1.0
    offset: float = 0.0
    gallery_items: int | None = None
    """Items of the gallery it was fitted on; None in checkpoints older than this field."""
    size_slope: float = 0.0
    """How much less a score means in a gallery e times as large, measured on parts of that gallery; 0: size plays no
    part. Were wrong items spread evenly, it would be -1."""
    no_match_below: float | None = None
    """Probability of the best match under which the garment is taken not to be in the gallery; None: never said."""
    false_accept: float | None = None
    """Share of held-out queries without their product in the gallery that reach `no_match_below` all the same."""
    false_reject: float | None = None
    """Share of held-out queries with their product in the gallery that stay below."""

    def size_shift(self, items: int | None) -> float:
        """What a gallery of `items` adds to the logit; 0 where either size is unknown."""
        if items is None or self.gallery_items is None:
            return 0.0
        return self.size_slope * math.log(max(1, items) / self.gallery_items)

    def to_dict(self) -> dict[str, float | int]:
        """Plain JSON types; what is not set is left out, so that older checkpoints keep their fingerprint."""
        unset = {"gallery_items": None, "size_slope": 0.0, "no_match_below": None}
        unset |= {"false_accept": None, "false_reject": None}
        return {name: value for name, value in asdict(self).items() if name not in unset or value != unset[name]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Calibration:
        """Read what `to_dict` wrote.

        Raises:
            ConfigError: an unknown field, or a value out of range.
        """
        names = {field.name for field in fields(cls)}
        if unknown := set(values) - names:
            raise ConfigError(f"calibration has {sorted(unknown)}, known are {sorted(names)}; update threadmatch")
        if wrong := {name: value for name, value in values.items() if not _is_finite(value)}:
            raise ConfigError(f"calibration has {wrong}, expected finite numbers")
        below = values.get("no_match_below")
        if below is not None and not 0 <= below <= 1:
            raise ConfigError(f"calibration's no_match_below is {below}, expected 0 to 1")
        if values.get("gallery_items", 1) < 1:
            raise ConfigError(f"calibration's gallery_items is {values['gallery_items']}, expected at least 1")
        return cls(**values)


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _grid(scale: str) -> tuple[int, int]:
    rows, times, columns = scale.partition("x")
    if not (times and rows.isdecimal() and columns.isdecimal() and int(rows) > 0 and int(columns) > 0):
        raise ConfigError(f"scale {scale!r} is not ROWSxCOLUMNS, such as '2x3'")
    return int(rows), int(columns)


def _check(config: GRNetConfig) -> None:
    """Refuse what cannot be built, naming the field."""
    hints = get_type_hints(GRNetConfig)
    for name in ("pool", "embedding_pool", "region_norm", "edges", "step_weights", "classifier"):
        if getattr(config, name) not in get_args(hints[name]):
            raise ConfigError(f"{name} is {getattr(config, name)!r}, expected one of {get_args(hints[name])}")
    for name in ("image_px", "similarity_channels", "steps", "node_channels"):
        value = getattr(config, name)
        if not isinstance(value, int) or value < 1:
            raise ConfigError(f"{name} is {value!r}, expected a whole number of at least 1")
    for name in ("neck_channels", "embedding_channels"):
        if getattr(config, name) < 0:
            raise ConfigError(f"{name} is {getattr(config, name)}, expected 0 (none) or more")
    if not set(config.hypercolumn) <= set(config.cell_hypercolumn) and config.companion:
        raise ConfigError(f"cell_hypercolumn is {config.cell_hypercolumn}, expected {config.hypercolumn} among them")
    if config.companion and not (config.neck_channels and config.hypercolumn and config.embedding_pool == "avg"):
        raise ConfigError(
            "a companion needs neck_channels and hypercolumn, to join its maps to the first's, and embedding_pool 'avg'"
        )
    if not 0 <= config.dropout < 1:
        raise ConfigError(f"dropout is {config.dropout}, expected 0 <= dropout < 1")
    if config.scales[:1] != (GLOBAL_SCALE,):
        raise ConfigError(f"scales begin with {config.scales[:1]}, expected {GLOBAL_SCALE!r}, the global node, first")
    if len(set(config.scales)) != len(config.scales):
        raise ConfigError(f"scales {config.scales} name one twice")
    for scale in config.scales:
        _grid(scale)
    if unknown := set(config.blend) - set(get_args(BlendTerm)):
        raise ConfigError(f"blend has {sorted(unknown)}, expected some of {get_args(BlendTerm)}")
