"""Ways to score a photo against items, in one table. Adding one is a class and a line here.

A matcher says which features it needs, whether its scores are calibrated, and whether it can say what decided them.
Requests, queues, search and evaluation read these flags; none compares names. A factory imports its matcher when it is
first asked for, so that whoever only wants the names imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from threadmatch.model.errors import ConfigError
from threadmatch.model.matching import Matcher

if TYPE_CHECKING:
    from threadmatch.model.grnet import GRNet

Factory = Callable[["GRNet", str], Matcher]
"""From a trained network and a device ("cpu", "cuda") to a matcher."""


def _grnet(network: GRNet, device: str) -> Matcher:
    from threadmatch.model.grnet_matcher import GRNetMatcher

    return GRNetMatcher(network, device=device)


def _greedy(network: GRNet, device: str) -> Matcher:
    from threadmatch.model.region_matchers import GreedyMatcher

    return GreedyMatcher(network.config.grids, device=device)


def _dense(_network: GRNet, device: str) -> Matcher:
    from threadmatch.model.dense import DenseMatcher

    return DenseMatcher(device=device)


MATCHERS: Final[dict[str, Factory]] = {"grnet": _grnet, "dense": _dense, "greedy": _greedy}


class MatchersOf(Mapping[str, Matcher]):
    """The matchers that a network can run, each made when it is first asked for.

    Args:
        network: trained, on the device.
        device: "cpu" or "cuda".
    """

    def __init__(self, network: GRNet, device: str) -> None:
        self._network, self._device = network, device
        self._made: dict[str, Matcher] = {}

    def __getitem__(self, name: str) -> Matcher:
        if name not in self._made:
            if name not in MATCHERS:
                raise KeyError(name)
            self._made[name] = MATCHERS[name](self._network, self._device)
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(MATCHERS)

    def __len__(self) -> int:
        return len(MATCHERS)


def named(matchers: Mapping[str, Matcher], name: str) -> Matcher:
    """The matcher of that name.

    Raises:
        ConfigError: there is none; says which there are.
    """
    if name not in matchers:
        raise ConfigError(f"matcher {name!r} is unknown, expected one of {', '.join(matchers)}")
    return matchers[name]
