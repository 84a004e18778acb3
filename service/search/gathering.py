"""The features of a shortlist's items, read once however many stages of a chain ask for them.

Letters  N candidates, n of them
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from threadmatch.indexer.reading.gallery import Candidate
from threadmatch.indexer.reading.opened import OpenSnapshot
from threadmatch.model.chain import Chain
from threadmatch.model.coded import Stored
from threadmatch.model.matching import Items
from threadmatch.service.queues.served_model import ServedModel

SMALL_BYTES: Final = 256
"""A feature of so few bytes an item is read for all that the first of several stages orders, too: for less than a turn
of its own would take."""


def in_one_go(chain: Chain, count: int, model: ServedModel) -> tuple[Chain, frozenset[str]]:
    """The stages from the first on that the model takes in one turn, and the features that they read together.

    Args:
        chain: not empty.
        count: items of the shortlist.
        model: whose matchers they name.
    """
    first, more = chain[0], 1
    needs = model.matchers[first.matcher].needs
    small = {spec.name for spec in model.features if spec.size_bytes <= SMALL_BYTES}
    for stage in chain[1:]:
        also = model.matchers[stage.matcher].needs
        if stage.takes(count) > first.takes(count) or not also <= needs | small:
            break
        needs |= also
        more += 1
    return chain[:more], needs


class Gathered:
    """Features of one shortlist.

    Args:
        snapshot: that the shortlist is of.
        candidates: the shortlist, N.
    """

    def __init__(self, snapshot: OpenSnapshot, candidates: Sequence[Candidate]) -> None:
        self._snapshot, self._candidates = snapshot, candidates
        self._values: dict[str, Stored] = {}  # (n, *shape) of the places read last
        self._rows: dict[str, NDArray[np.int64]] = {}  # (N,) where among them each place is; -1: nowhere

    def has(self, places: NDArray[np.int64], names: Iterable[str]) -> bool:
        """Whether these features of these places are read."""
        return all(name in self._rows and bool((self._rows[name][places] >= 0).all()) for name in names)

    def read(self, places: NDArray[np.int64], names: Iterable[str]) -> None:
        """Read what is not there yet, in place of what was; blocks.

        Raises:
            DamagedItemError: one cannot be read.
        """
        for name in names:
            if not self.has(places, [name]):
                values = self._snapshot.stored_features(name, [self._candidates[place] for place in places])
                rows = np.full(len(self._candidates), -1)
                rows[places] = np.arange(len(places))
                self._values[name], self._rows[name] = values, rows

    def at(self, places: NDArray[np.int64], names: Iterable[str]) -> Items:
        """(n, *shape) of each feature, read before, in the order of the places."""
        found: dict[str, Stored] = {}
        for name in names:
            rows = self._rows[name][places]
            values = self._values[name]
            whole = len(rows) == len(values) and bool((rows == np.arange(len(rows))).all())
            found[name] = values if whole else values[rows]
        return found
