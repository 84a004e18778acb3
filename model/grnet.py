"""GRNet assembled: backbone, pyramid, similarity graph, reasoning, answer. This form trains and is the reference.

Letters  B images or pairs, S image side, C channels, R regions, E embedding size, N nodes, D, C', T as in config
Paper    Kuang et al., ICCV 2019, sec. 3.2
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn
from torch.nn import functional as F

from threadmatch.model.backbone import Backbone
from threadmatch.model.certainty import Certainty
from threadmatch.model.chain import DEFAULT_CHAIN, Chain
from threadmatch.model.checkpoint import (
    features_fingerprint,
    fetch_checkpoint,
    fingerprints,
    read_weights,
    save_checkpoint,
)
from threadmatch.model.config import Calibration, GRNetConfig
from threadmatch.model.descriptions import CONFIG_FILE, read_description
from threadmatch.model.encoders.building import build_joined
from threadmatch.model.errors import CheckpointError, ConfigError
from threadmatch.model.looked import Looked
from threadmatch.model.neck import build_neck, linear
from threadmatch.model.part import Part
from threadmatch.model.parts import read_parts
from threadmatch.model.pyramid import pool_looked
from threadmatch.model.reasoning import edge_mask, edge_weights, propagate
from threadmatch.model.similarity import global_similarity, greedy_similarity, pair_index, region_similarity
from threadmatch.model.sparse_graph import SparseGraph


class ReasoningStep(nn.Module):
    """The parameters of one step: T_out, T_in (Eq. 5) and W (Eq. 8)."""

    def __init__(self, channels_in: int, channels_out: int, *, own_edges: bool = True) -> None:
        super().__init__()
        self.t_out = _he(channels_in, channels_in) if own_edges else None
        self.t_in = _he(channels_in, channels_in) if own_edges else None
        self.w = _he(channels_out, channels_in)


class SimilarityHead(nn.Module):
    """From two region sets to a score: Eq. 4 to 8 and the answer.

    Args:
        config: the model.
        channels: C of the regions handed in.
    """

    mask: Tensor

    def __init__(self, config: GRNetConfig, channels: int) -> None:
        super().__init__()
        self.config = config
        d, c = config.similarity_channels, config.node_channels
        self.projection = _he(d, channels)
        self.projection_bias = nn.Parameter(torch.zeros(d)) if config.projection_bias else None
        self.position = nn.Parameter(torch.zeros(config.nodes, d)) if config.position_code else None
        self.steps = nn.ModuleList()
        for t in range(config.steps):
            if t > 1 and config.step_weights == "shared":
                self.steps.append(self.steps[1])
            else:
                self.steps.append(ReasoningStep(d if t == 0 else c, c, own_edges=t == 0 or config.edges == "recompute"))
        self.classifier = nn.Linear(c, 2 if config.classifier == "two_logits" else 1)
        nn.init.kaiming_normal_(self.classifier.weight, nonlinearity="linear")
        nn.init.zeros_(self.classifier.bias)
        self.blend = nn.Parameter(torch.zeros(len(config.blend))) if config.blend else None
        self.dropout = nn.Dropout(config.dropout)
        _, _, scale = pair_index(config.grids)
        mask = edge_mask(scale, intra=config.intra_scale_edges, inter=config.inter_scale_edges)
        self.register_buffer("mask", mask, persistent=False)

    def reason(self, query: Tensor, gallery: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Build the graph of each pair and reason over it.

        Args:
            query, gallery: (B, R, C) regions.

        Returns:
            (B, N, C') nodes after the last step, and the T edge tensors (B, N, N), one a step.
        """
        heard, nodes = self.trace(query, gallery)
        return nodes, [edges for _, edges in heard]

    def trace(self, query: Tensor, gallery: Tensor) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
        """`reason`, keeping what each step heard.

        Returns:
            For each of the T steps the (B, N, D or C') nodes that came in and the (B, N, N) edges over which they were
            heard; and the (B, N, C') nodes after the last.
        """
        config = self.config
        nodes = region_similarity(query, gallery, self.projection, grids=config.grids, bias=self.projection_bias)
        if self.position is not None:
            nodes = nodes + self.position
        mask = None if config.intra_scale_edges and config.inter_scale_edges else self.mask
        heard: list[tuple[Tensor, Tensor]] = []
        for step in self.steps:
            if not heard or config.edges == "recompute":
                edges = edge_weights(nodes, step.t_out, step.t_in, mask)  # type: ignore[arg-type]
            heard.append((nodes, edges))
            nodes = self.dropout(propagate(nodes, edges, step.w))  # type: ignore[arg-type]
        return heard, nodes

    def forward(self, query: Tensor, gallery: Tensor) -> Tensor:
        """Score pairs.

        Args:
            query, gallery: (B, R, C) regions, float.

        Returns:
            (B,) logit of "same garment": the difference of the two logits, plus the blended similarities.
        """
        nodes, _ = self.reason(query, gallery)
        logits = self.classifier(nodes[:, 0])  # (B, 2) or (B, 1); node 0 is h_1^11
        score: Tensor = logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits[:, 0]
        if self.blend is not None:
            # In mixed precision too: half the digits of a cosine would not order look-alikes.
            with torch.autocast(query.device.type, enabled=False):
                score = score + self.blended(query, gallery) @ self.blend
        return score

    def blended(self, query: Tensor, gallery: Tensor) -> Tensor:
        """The similarities named by `config.blend`, (B, len(blend))."""
        terms = {
            "global": lambda: global_similarity(query[:, 0], gallery[:, 0]),
            "greedy": lambda: greedy_similarity(query, gallery, grids=self.config.grids),
        }
        return torch.stack([terms[name]() for name in self.config.blend], dim=1)


class GRNet(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="threadmatch",
    tags=["image-retrieval", "fashion"],
    license="apache-2.0",
):
    """The whole network.

    Args:
        config: the model; the paper's defaults.
        backbone: built outside where a test or a fine-tuning wants its own; None builds `config.backbone`, untrained.
    """

    def __init__(self, config: GRNetConfig | None = None, backbone: Backbone | None = None) -> None:
        super().__init__()
        self.config = config or GRNetConfig()
        self.name = ""
        self.calibration = Calibration()
        self.chain: Chain = DEFAULT_CHAIN
        self.graph: SparseGraph | None = None
        self.certainty: Certainty | None = None
        self.backbone = backbone or build_joined(self.config)
        if self.backbone.taps != self.config.hypercolumn:
            raise ConfigError(f"hypercolumn is {self.config.hypercolumn}, the backbone has {self.backbone.taps}")
        self.neck = build_neck(self.config.neck_channels, self.backbone.channels, self.backbone.tap_channels)
        own = (*self.backbone.tap_channels, *self.backbone.beside_channels)
        self.cell_neck = (
            build_neck(self.config.neck_channels, self.backbone.channels, own) if self.backbone.companion else None
        )
        channels = self.config.neck_channels or self.backbone.map_channels
        pooled, embedded = self.backbone.pooled_channels or self.backbone.channels, self.config.embedding_channels
        self.embedding = linear(pooled, embedded) if embedded else None
        self.head = SimilarityHead(self.config, channels)
        self.parts = nn.ModuleDict()
        self.region_channels = channels
        self.embedding_dim = embedded or pooled

    @property
    def attached(self) -> Mapping[str, Part]:
        """The parts on top, by name."""
        return cast("Mapping[str, Part]", dict(self.parts.items()))

    def attach(self, part: Part, *, core: str = "") -> None:
        """Put a part on top; the core stays as it is.

        Args:
            part: trained.
            core: fingerprint of this model's features, where it is known.

        Raises:
            CheckpointError: it was trained on other features than these.
        """
        core = core or features_fingerprint(self)
        if part.core not in ("", core):
            raise CheckpointError(
                f"part {part.name!r} was trained on features {part.core}, those of {self.name or 'this model'} are "
                f"{core}; train one for this model, or take the part's folder out"
            )
        part.tie(core)
        self.parts[part.name] = part

    def under(self, config: GRNetConfig) -> GRNet:
        """Other settings over the same backbone, necks and embedding, which are shared; the head is a new one.

        Raises:
            ConfigError: the settings do not fit the backbone.
        """
        made = GRNet(config, backbone=self.backbone)
        made.neck, made.cell_neck, made.embedding, made.name = self.neck, self.cell_neck, self.embedding, self.name
        return made

    def features(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Encode images for both stages.

        Args:
            pixels: (B, 3, S, S) values 0..255, uint8 or float.

        Returns:
            (B, E) unit vectors for stage one (Eq. 1), (B, R, C) regions for stage two.
        """
        return self.project(*self.pool(self.backbone.look(pixels)))

    def pool(self, looked: Looked) -> tuple[Tensor, Tensor]:
        """What the backbone saw, pooled for both stages: (B, C or the backbone's own E), (B, R, C + taps)."""
        return pool_looked(looked, self.config, self.backbone.channels)

    def project(self, pooled: Tensor, regions: Tensor) -> tuple[Tensor, Tensor]:
        """What `pool` gives, to (B, E) and (B, R, C); what cached pools start from."""
        return self.embed(pooled), self.vectors(regions)

    def vectors(self, regions: Tensor) -> Tensor:
        """(B, R, C + taps) pooled -> (B, R, C), as the head takes them."""
        return normed(regions if self.neck is None else self.neck(regions), self.config)

    @torch.inference_mode()
    def map_grid(self) -> tuple[int, int]:
        """Rows and columns of the backbone's last map, h and w."""
        side, device = self.config.image_px, self.head.projection.device
        rows, columns = self.backbone(torch.zeros(1, 3, side, side, dtype=torch.uint8, device=device)).shape[2:]
        return rows, columns

    def embed(self, pooled: Tensor) -> Tensor:
        """(B, C) pooled -> (B, E) unit vectors for stage one."""
        return F.normalize(pooled if self.embedding is None else self.embedding(pooled), dim=-1)

    def forward(self, query: Tensor, gallery: Tensor) -> Tensor:
        """(B, 3, S, S) pixels of both images of each pair -> (B,) logit of "same garment"."""
        _, query_regions = self.features(query)
        _, gallery_regions = self.features(gallery)
        score: Tensor = self.head(query_regions, gallery_regions)
        return score

    def _save_pretrained(self, save_directory: Path) -> None:
        save_checkpoint(self, save_directory)

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
        map_location: str = "cpu",
        **_: Any,
    ) -> GRNet:
        folder = fetch_checkpoint(
            model_id,
            revision=revision,
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
            token=token,
        )
        return load_checkpoint(folder).to(map_location)


def load_checkpoint(folder: Path) -> GRNet:
    """Read a model from a folder, in evaluation mode, on the CPU, float32.

    Returns:
        The network; `.name`, `.calibration`, `.chain`, `.graph`, `.certainty` and its parts as stored.

    Raises:
        CheckpointError: a file is missing or damaged, or weights and description do not belong together.
    """
    description = read_description(folder)
    try:
        model = GRNet(description["model"])
    except ConfigError as error:
        raise CheckpointError(f"{folder / CONFIG_FILE}: {error}") from error
    model.load_state_dict(read_weights(model, folder), strict=False)
    model.name = str(description.get("name", folder.name))
    model.calibration, model.chain = description["calibration"], description["chain"]
    try:
        model.graph = SparseGraph.from_dict(description["graph"]) if description.get("graph") else None
    except ConfigError as error:
        raise CheckpointError(f"{folder / CONFIG_FILE}: {error}") from error
    model.certainty = description["certainty"]
    found = fingerprints(model)
    if description.get("fingerprint") != found.model:
        raise CheckpointError(
            f"{folder}: {CONFIG_FILE} says fingerprint {description.get('fingerprint')}, "
            f"the weights are {found.model}; the two files are of different models"
        )
    for part in read_parts(folder):
        model.attach(part, core=found.features)
    return model.eval()


def normed(regions: Tensor, config: GRNetConfig) -> Tensor:
    """(B, R, C) regions as the head takes them: of unit length where the configuration says so."""
    return F.normalize(regions, dim=-1) if config.region_norm == "l2" else regions


def _he(rows: int, columns: int) -> nn.Parameter:
    """He initialisation (sec. 5.1): the similarity and reasoning modules start from it."""
    return nn.Parameter(nn.init.kaiming_normal_(torch.empty(rows, columns)))
