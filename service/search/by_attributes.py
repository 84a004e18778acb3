"""Attributes in a search: which are asked for, what each item's are to the photo's, and the order that comes of it.

    score = own + sum_c weight_c cos_c

`own` is what the photo's own order is worth: the first stage's cosines of the shortlist, largest first, handed out
along the order that the chain gave. So without weights the order stays, and weights are measured against a scale that
every model has. With matcher=attributes there is no `own`: all garments that share the attributes, whatever they
look like.

What one of them did is told by the order without it, the others as they are.

Letters  N candidates, A attributes of the model, n asked for, D embedding size
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from threadmatch.model.attribute_matcher import attribute_similarity
from threadmatch.model.attributes.values import ValueDirections
from threadmatch.model.chain import Ranking
from threadmatch.model.features import ATTRIBUTES, FeatureSpec, in_common
from threadmatch.model.matching import Floats
from threadmatch.service.errors import InvalidFieldError
from threadmatch.service.http.schemas.search import MAX_ATTRIBUTE_WEIGHT, SearchOptions
from threadmatch.service.queues.served_model import ServedModel
from threadmatch.service.search.results import AttributeAlike, AttributeMatch, Match


@dataclass(frozen=True, slots=True, eq=False)
class AskedAttributes:
    """What a search wants of attributes.

    Fields:
        known: those of the model.
        weights: by name, in the order asked for; 0 only tells.
        alone: without the photo's own order.
    """

    known: ValueDirections
    weights: Mapping[str, float]
    alone: bool

    def places(self) -> list[int]:
        """(n,) places in the model's attributes."""
        return [self.known.names.index(name) for name in self.weights]

    def similarities(self, query: Floats, items: Floats) -> NDArray[np.float32]:
        """(A, D) of the photo and (N, A, D) of items -> (N, n) cosines."""
        at = self.places()
        return attribute_similarity(query[at], items[:, at])

    def reorder(
        self, ranking: Ranking, similar: NDArray[np.float32], distances: NDArray[np.float64]
    ) -> NDArray[np.int64]:
        """Order a shortlist anew.

        Args:
            ranking: after the chain.
            similar: (N, n) by place.
            distances: (N,) of the first stage by place.

        Returns:
            (N, n) by place: how many places each attribute moved the item up, the others as they are; less than 0
            is down.
        """
        parts = similar * np.array(list(self.weights.values()), np.float32)
        own = np.zeros(ranking.count, np.float32)
        if not self.alone:
            own[ranking.order] = np.sort(1 - distances)[::-1]
        plain = ranking.order.copy()
        scores = own + parts.sum(axis=1)
        ranking.rerank(ATTRIBUTES, np.asarray(scores[plain], np.float32))
        now = _places(ranking.order)
        moved = [_places(plain[np.argsort(part[plain] - scores[plain], kind="stable")]) - now for part in parts.T]
        return np.stack(moved, axis=1)

    def told(self, query: Floats, items: Floats, moved: NDArray[np.int64]) -> list[tuple[AttributeMatch, ...]]:
        """What is said of each of N items.

        Args:
            query: (A, D) of the photo.
            items: (N, A, D).
            moved: (N, n) of `reorder`.
        """
        alike = attributes_alike(self.known, query, items, self.places())
        return [
            tuple(
                AttributeMatch(own.name, own.similarity, own.query, own.item, weight=weight, moved=int(places))
                for own, weight, places in zip(row, self.weights.values(), up, strict=True)
            )
            for row, up in zip(alike, moved, strict=True)
        ]


def attributes_alike(
    known: ValueDirections, query: Floats, items: Floats, at: Sequence[int] | None = None
) -> list[tuple[AttributeAlike, ...]]:
    """How alike photo and items are in each attribute.

    Args:
        known: attributes of the model.
        query: (A, D) of the photo.
        items: (N, A, D).
        at: places of the attributes to tell of; None: all.

    Returns:
        Of each item, in the order of `at`.
    """
    chosen = range(len(known.names)) if at is None else at
    similar = attribute_similarity(query, items)
    [of_query] = known.predict(query[None])
    return [
        tuple(
            AttributeAlike(name, float(row[place]), of_query.get(name), of_item.get(name))
            for place, name in ((place, known.names[place]) for place in chosen)
        )
        for row, of_item in zip(similar, known.predict(items), strict=True)
    ]


def _places(order: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N,) of each in an order, from 0."""
    places = np.empty_like(order)
    places[order] = np.arange(len(order))
    return places


def asked_attributes(
    options: SearchOptions, model: ServedModel, kept: Collection[FeatureSpec]
) -> AskedAttributes | None:
    """What a search wants of attributes; None where it does not name any.

    Args:
        options: of the search.
        model: that is asked.
        kept: the features that the gallery keeps.

    Raises:
        InvalidFieldError: an attribute is unknown, named twice, or its weight no number in range; the model has no
            attributes, or the gallery does not keep them.
    """
    alone = options.last_matcher == ATTRIBUTES
    if options.attributes is None and not alone:
        return None
    known = known_attributes(model, kept)
    if options.attributes is None:
        return AskedAttributes(known, dict.fromkeys(known.names, 1 / len(known.names)), alone)
    return AskedAttributes(known, parse_weights(options.attributes, known.names), alone)


def attributes_of(model: ServedModel, kept: Collection[FeatureSpec]) -> ValueDirections | None:
    """The attributes that this model and a gallery that keeps these features have; None where either has none."""
    return model.attributes if ATTRIBUTES in {spec.name for spec in in_common(kept, model.features)} else None


def known_attributes(model: ServedModel, kept: Collection[FeatureSpec]) -> ValueDirections:
    """The attributes that this model and this gallery have.

    Raises:
        InvalidFieldError: either has none.
    """
    if model.attributes is None:
        raise InvalidFieldError(f"attributes: model {model.name!r} has none; search with one that was trained for them")
    if attributes_of(model, kept) is None:
        raise InvalidFieldError(
            "attributes: this gallery was made without them, or by other weights; ingest its catalogue again, which "
            "adds them: `threadmatch ingest CATALOGUE --gallery DIR`"
        )
    return model.attributes


def parse_weights(text: str, known: Sequence[str]) -> dict[str, float]:
    """ "neckline:1,sleeves:0.5" -> {"neckline": 1.0, "sleeves": 0.5}; a name alone weighs 1.

    Raises:
        InvalidFieldError: see `asked_attributes`.
    """
    weights: dict[str, float] = {}
    for part in text.split(","):
        name, colon, number = (piece.strip() for piece in part.partition(":"))
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise InvalidFieldError(f"attributes: there is no {name[:80]!r}{hint}; this gallery has {', '.join(known)}")
        if name in weights:
            raise InvalidFieldError(f"attributes: {name} is named twice")
        weights[name] = _weight(name, number) if colon else 1.0
    return weights


def _weight(name: str, number: str) -> float:
    try:
        weight = float(number)
    except ValueError:
        weight = math.nan
    if not 0 <= weight <= MAX_ATTRIBUTE_WEIGHT:  # NaN is none either
        raise InvalidFieldError(
            f"attributes: {name} weighs {number[:80]!r}, expected a number from 0 to {MAX_ATTRIBUTE_WEIGHT:g}"
        )
    return weight


def with_attributes(
    matches: Sequence[Match], told: Sequence[tuple[AttributeMatch, ...]], plain: NDArray[np.int64]
) -> list[Match]:
    """The matches with what is said of their attributes.

    Args:
        matches: shown.
        told: of each.
        plain: (N,) places of the shortlist as the chain had ordered them.
    """
    rank_of = {int(place): rank for rank, place in enumerate(plain, 1)}
    return [
        replace(match, attributes=own, plain_rank=rank_of[match.stage1_rank - 1])
        for match, own in zip(matches, told, strict=True)
    ]
