"""Ways to score a photo against items, in one table. Adding one is a class and a line here.

A matcher says which features it needs, whether its scores are calibrated, and whether it can say what decided them.
Requests, queues, search and evaluation read these flags; none compares names. A factory imports its matcher when it is
first asked for, so that whoever only wants the names imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from threadmatch.model.errors import ConfigError
from threadmatch.model.features import ATTRIBUTES, CELLS, REGIONS
from threadmatch.model.matching import Matcher

if TYPE_CHECKING:
    from threadmatch.model.grnet import GRNet

Factory = Callable[["GRNet", str], Matcher | None]
"""From a trained network and a device ("cpu", "cuda") to a matcher; None where the network lacks what it takes."""


def _grnet(network: GRNet, device: str) -> Matcher | None:
    from threadmatch.model.grnet_matcher import GRNetMatcher

    return GRNetMatcher(network, device=device) if REGIONS in network.config.features else None


def _greedy(network: GRNet, device: str) -> Matcher | None:
    if REGIONS not in network.config.features:
        return None
    from threadmatch.model.region_matchers import GreedyMatcher

    return GreedyMatcher(network.config.grids, device=device)


def _dense(network: GRNet, device: str) -> Matcher | None:
    from threadmatch.model.dense import DenseMatcher
    from threadmatch.model.gpu.choosing import cell_engine

    if CELLS not in network.config.features:
        return None
    # A calibration belongs to the end of the chain; who never fitted one knows no gallery's size.
    last = network.chain[-1].matcher if network.chain else None
    fitted = last == "dense" and network.calibration.gallery_items is not None
    return DenseMatcher(network.map_grid, device=device, calibrated=fitted, engine=cell_engine(device))


def _sparse(network: GRNet, device: str) -> Matcher | None:
    from threadmatch.model.sparse_matcher import SparseGraphMatcher

    return None if network.graph is None else SparseGraphMatcher(network.graph, device=device)


def _attributes(network: GRNet, device: str) -> Matcher | None:
    from threadmatch.model.attribute_matcher import AttributeMatcher

    del device  # a few hundred products of short vectors
    return AttributeMatcher() if ATTRIBUTES in network.attached else None


def _mga(network: GRNet, device: str) -> Matcher | None:
    from threadmatch.model.alignment.part import AlignmentPart
    from threadmatch.model.mga_matcher import MGAMatcher

    part = network.attached.get(AlignmentPart.name)
    return MGAMatcher(part, device=device) if isinstance(part, AlignmentPart) else None


MATCHERS: Final[dict[str, Factory]] = {
    "grnet": _grnet,
    "sparse": _sparse,
    "dense": _dense,
    "greedy": _greedy,
    ATTRIBUTES: _attributes,
    "mga": _mga,
}


class MatchersOf(Mapping[str, Matcher]):
    """The matchers that a network has, each made when it is first asked for.

    Args:
        network: trained, on the device.
        device: "cpu" or "cuda".
    """

    def __init__(self, network: GRNet, device: str) -> None:
        self._network, self._device = network, device
        self._made: dict[str, Matcher | None] = {}

    def __getitem__(self, name: str) -> Matcher:
        matcher = self._matcher(name)
        if matcher is None:
            raise KeyError(name)
        return matcher

    def __iter__(self) -> Iterator[str]:
        return (name for name in MATCHERS if self._matcher(name) is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _matcher(self, name: str) -> Matcher | None:
        if name in MATCHERS and name not in self._made:
            self._made[name] = MATCHERS[name](self._network, self._device)
        return self._made.get(name)


def named(matchers: Mapping[str, Matcher], name: str) -> Matcher:
    """The matcher of that name.

    Raises:
        ConfigError: the model has none; says which it has.
    """
    if name not in matchers:
        raise ConfigError(f"this model has no matcher {name!r}; it has {', '.join(matchers)}")
    return matchers[name]
