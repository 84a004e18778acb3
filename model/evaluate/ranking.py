"""Galleries ranked for queries with known answers, by every stage and method.

Letters  n queries, m gallery items, k shortlist
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from threadmatch.model.certainty import values_of
from threadmatch.model.chain import STAGE_ONE, Ranking, Stage
from threadmatch.model.data.encoded import EncodedSet
from threadmatch.model.data.pairs import LabelledImage
from threadmatch.model.evaluate.calibration import CALIBRATION_DEPTH, ScoredQueries
from threadmatch.model.evaluate.certainty_fit import KnownSearch
from threadmatch.model.evaluate.metrics import first_hit
from threadmatch.model.inference import Judged, Model
from threadmatch.model.matchers import named
from threadmatch.model.matching import Matcher, Photo, Told, tell_many
from threadmatch.model.progress import Progress, unheard

FINAL = "grnet"
"""The whole chain, as a search runs it."""
FULL = "grnet_full"
"""GRNet alone, over the whole shortlist: the yardstick of a chain."""
EXHAUSTIVE = "grnet_exhaustive"
"""The chain's last matcher over the whole gallery."""

Order = list[NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class Method:
    """One way to order a gallery.

    Fields:
        stages: matchers, each with how many of the first it reorders (None: all of the shortlist).
        whole: the one matcher ranks the whole gallery; else they go over the first k of stage one, and leave the rest
            as it was.
    """

    stages: tuple[tuple[Matcher, int | None], ...]
    whole: bool = False

    @property
    def depth(self) -> int | None:
        """How many items the last stage reorders; None: all of the shortlist."""
        return self.stages[-1][1]


@dataclass(frozen=True, slots=True)
class JudgedQuery:
    """What the model said of one query.

    Fields:
        probabilities, same: (j,) of the first page's items that have one, and whether each is the query's product.
        present: the product is in the gallery.
        said, said_without: whether "no match" is said, in this gallery and with the product taken out of it.
        search, search_without: what a certainty is fitted on and measured with, likewise.
    """

    probabilities: NDArray[np.float32]
    same: NDArray[np.bool_]
    present: bool
    said: bool
    said_without: bool
    search: KnownSearch
    search_without: KnownSearch


Judge = Callable[[Ranking], Judged]


@dataclass(frozen=True, slots=True)
class Rankings:
    """Gallery positions, best first, for each query, by method; and what the final method scored."""

    orders: dict[str, Order]
    gallery: list[LabelledImage]
    queries: list[LabelledImage]
    candidates: int
    scored: ScoredQueries | None = field(default=None, repr=False)
    judged: list[JudgedQuery] = field(default_factory=list, repr=False)

    def ranks(self, method: str) -> NDArray[np.int64]:
        """(n,) first-hit rank from 1, 0 where the product is not found."""
        products = [image.product_id for image in self.gallery]
        return first_hit(self.orders[method], products, [image.product_id for image in self.queries])


def alone(matcher: Matcher, *, whole: bool = False) -> Method:
    """One matcher over the whole shortlist, or over the whole gallery."""
    return Method(((matcher, None),), whole)


def chain_of(model: Model) -> Method:
    """The whole chain of a model; ConfigError where it names a matcher that the model lacks."""
    return Method(tuple((named(model.matchers, stage.matcher), stage.items) for stage in model.chain))


def rank_encoded(
    shop: EncodedSet,
    street: EncodedSet,
    methods: Mapping[str, Method],
    *,
    candidates: int,
    exhaustive: bool = False,
    judge: Judge | None = None,
    progress: Progress = unheard,
) -> Rankings:
    """Rank the gallery for every query.

    Args:
        shop, street: gallery and queries, with every feature that the methods need; embeddings make stage one.
        methods: by name; the one named FINAL is also kept with its last stage's scores, for calibration.
        candidates: k.
        exhaustive: let FINAL's last matcher rank the whole gallery too.
        judge: how probable each item of FINAL's ranking is; then that is kept in place of the scores.
        progress: hears how many queries are ranked.

    Returns:
        STAGE_ONE (the whole gallery), each method's, and EXHAUSTIVE where asked. Ties keep the order before.
    """
    methods = dict(methods)
    if exhaustive and FINAL in methods:
        methods[EXHAUSTIVE] = alone(methods[FINAL].stages[-1][0], whole=True)
    orders: dict[str, Order] = {name: [] for name in (STAGE_ONE, *methods)}
    own = _positions(shop.images)
    products = np.asarray([image.product_id for image in shop.images])
    kept: list[tuple[NDArray[np.float32], NDArray[np.bool_]]] = []
    judged: list[JudgedQuery] = []
    for n, query in enumerate(street.images):
        order = np.argsort(-(shop.embeddings @ street.embeddings[n]), kind="stable")
        orders[STAGE_ONE].append(order)
        scored = QueryScores(shop, street.photo(n), order)
        for name, method in methods.items():
            ranking = scored.through(method, len(order) if method.whole else min(candidates, len(order)))
            orders[name].append(np.concatenate([order[ranking.order], order[ranking.count :]]))
        if FINAL in methods and judge is not None:
            gone = QueryScores(shop, street.photo(n), order[products[order] != query.product_id])
            same = products[order] == query.product_id
            judged.append(_judged(judge, scored, gone, methods[FINAL], candidates=candidates, same=same))
        elif FINAL in methods:
            # With the query's own items out of the gallery as many others move up: they are scored too.
            extra = len(own.get(query.product_id, ()))
            places, scores = scored.last_stage(methods[FINAL], min(candidates + extra, len(order)), extra)
            kept.append((scores, products[order[places]] == query.product_id))
        progress("ranking", n + 1, len(street.images))
    final = None
    if kept:
        wanted = [image.product_id for image in street.images]
        depth = min(candidates, methods[FINAL].depth or candidates)
        final = ScoredQueries([s for s, _ in kept], [same for _, same in kept], wanted, len(shop.images), depth)
    return Rankings(orders, list(shop.images), list(street.images), candidates, final, judged)


def _judged(
    judge: Judge, scored: QueryScores, gone: QueryScores, method: Method, *, candidates: int, same: NDArray[np.bool_]
) -> JudgedQuery:
    """Judge one query in the gallery, and with its product taken out of it; `same` is along the gallery's order."""
    ranking, without = (one.through(method, min(candidates, one.items)) for one in (scored, gone))
    said = judge(ranking)
    page = ranking.order[:CALIBRATION_DEPTH]
    page = page[~np.isnan(said.probabilities[page])]
    return JudgedQuery(
        said.probabilities[page],
        same[page],
        bool(same.any()),
        said.says_no_match,
        judge(without).says_no_match,
        _known(ranking, same),
        _known(without, np.zeros(gone.items, bool)),
    )


def _known(ranking: Ranking, same: NDArray[np.bool_]) -> KnownSearch:
    """The values of a search's matches, best first; `same` by place."""
    places, values = values_of(ranking)
    best = np.argsort(-ranking.scores[places], kind="stable")
    presence = ranking.stages[-1].presence
    return KnownSearch(values[best], same[places][best], presence=None if presence is None else presence[best])


class QueryScores:
    """The scores of one query. Where a matcher scores an item alike whatever stands beside it, each is computed once.

    Args:
        shop: the gallery.
        photo: the query's features.
        order: (m,) the gallery in stage one's order; places count along it.
    """

    def __init__(self, shop: EncodedSet, photo: Photo, order: NDArray[np.int64]) -> None:
        self._shop, self._photo, self.order = shop, photo, order
        self._known: dict[str, NDArray[np.float32]] = {}

    @property
    def items(self) -> int:
        """How many items there are."""
        return len(self.order)

    def tell(self, matcher: Matcher, places: NDArray[np.int64]) -> Told:
        """What a matcher says of these places."""
        if not matcher.pointwise:
            [told] = tell_many(matcher, [self._photo], [self._shop.items(self.order[places], matcher.needs)])
            return told
        known = self._known.setdefault(matcher.name, np.full(len(self.order), np.nan, np.float32))
        new = places[np.isnan(known[places])]
        if len(new):
            items = self._shop.items(self.order[new], matcher.needs)
            [known[new]] = matcher.score_many([self._photo], [items])
        return Told(known[places])

    def through(self, method: Method, count: int, *, extra: int = 0) -> Ranking:
        """All stages over the first `count` places, each taking `extra` more items than it says."""
        matchers = {matcher.name: matcher for matcher, _ in method.stages}
        stages = [Stage(matcher.name, None if items is None else items + extra) for matcher, items in method.stages]
        return Ranking(count).through(stages, lambda name, places: self.tell(matchers[name], places))

    def last_stage(self, method: Method, count: int, extra: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The places that the last stage is given, in the order it is given them, and its scores."""
        before = Method(method.stages[:-1])
        given = self.through(before, count, extra=extra).head(count if method.depth is None else method.depth + extra)
        return given, self.tell(method.stages[-1][0], given).scores


def _positions(images: Sequence[LabelledImage]) -> dict[str, list[int]]:
    """Where each product stands in the gallery."""
    where: dict[str, list[int]] = {}
    for position, image in enumerate(images):
        where.setdefault(image.product_id, []).append(position)
    return where
