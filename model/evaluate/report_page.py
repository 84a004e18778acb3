"""An evaluation as one page to look at: the verdict, curves, and what failed with its photos. No file beside it.

The page holds its style, drawings (SVG) and photos (JPEG, in the text), loads nothing and runs nothing, so it can be
mailed and opened anywhere. It shows the photos of whoever made it: share it as one would share those.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup, escape
from numpy.typing import NDArray
from PIL import Image

from threadmatch.model.data.pairs import LabelledImage
from threadmatch.model.errors import InvalidImageError
from threadmatch.model.evaluate.comparison import (
    Compared,
    Measured,
    comparison_cells,
    comparison_header,
    comparison_verdict,
)
from threadmatch.model.evaluate.latency import Latency
from threadmatch.model.evaluate.ranking import FINAL, Rankings
from threadmatch.model.evaluate.report import COLUMNS, folded, interval, percent
from threadmatch.model.evaluate.verdict import verdict
from threadmatch.model.images import display_photo, load_image

TEMPLATE: Final = "report_page.html"
DEPTH: Final = 50
"""How deep the curve of accuracy goes."""
FAILURES: Final = 24
PHOTO_PX: Final = 200
_SMALLEST_PX: Final = 32


@dataclass(frozen=True, slots=True)
class Line:
    """One curve of a drawing: points as shares of both axes, 0..1, from the lower left."""

    name: str
    points: tuple[tuple[float, float], ...]

    @property
    def path(self) -> str:
        """The points as an SVG polyline takes them, in a box of 100 x 100 whose y grows downwards."""
        return " ".join(f"{100 * x:.2f},{100 * (1 - y):.2f}" for x, y in self.points)


@dataclass(frozen=True, slots=True)
class Failure:
    """One query whose right item did not come first. Photos are data URIs, "" where one cannot be read."""

    name: str
    why: str
    query: str
    right: str
    first: str
    right_id: str
    first_id: str


@dataclass(frozen=True, slots=True)
class Section:
    """What the page shows of one model.

    Fields:
        sentences: the verdict.
        whole: each method with its rates over all queries; `groups`: each group, its queries and top-1 by method.
        gains: of the whole chain over each other method, top-1 and MRR.
        accuracy, certainty, reliable: curves, empty where there is nothing to draw.
        misses: how many queries; `failures` are some of them.
    """

    name: str
    queries: int
    sentences: list[str]
    whole: list[tuple[str, ...]]
    methods: list[str]
    groups: list[tuple[str, ...]]
    gains: list[tuple[str, str, str]]
    accuracy: list[Line]
    certainty: list[Line]
    reliable: list[Line]
    latency: Latency | None
    misses: int
    failures: list[Failure]


def write_page(
    measured: Measured,
    path: Path,
    *,
    latency: Mapping[str, Latency],
    command: str,
    compared: Sequence[Compared] = (),
) -> None:
    """Write the page, aside and then renamed.

    Args:
        measured: report and rankings by model.
        path: of the page.
        latency: of the models that were timed.
        command: that made it.
        compared: the models side by side, where there are several.
    """
    sections = [section(name, *own, latency=latency.get(name)) for name, own in measured.items()]
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)
    environment.filters["code"] = _code
    text = environment.get_template(TEMPLATE).render(
        sections=sections,
        command=command,
        columns=COLUMNS,
        compared=list(comparison_cells(compared)),
        compared_verdict=comparison_verdict(compared),
        compared_header=comparison_header(compared) if compared else (),
    )
    staged = path.with_name(f".{path.name}.partial")
    staged.write_text(text, encoding="utf-8")
    staged.replace(path)


def section(name: str, result: dict[str, Any], rankings: Rankings, *, latency: Latency | None = None) -> Section:
    """What is shown of one model's evaluation."""
    final = FINAL if FINAL in rankings.orders else next(iter(rankings.orders))
    ranks = rankings.ranks(final)
    misses = np.flatnonzero(ranks != 1)
    groups = folded({**result["by_setup"], **result["by_category"]})
    return Section(
        name=name,
        queries=int(result["queries"]),
        sentences=verdict(result),
        whole=[(name, *(percent(rates[key]) for key in COLUMNS)) for name, rates in result["methods"].items()],
        methods=list(result["methods"]),
        groups=[
            (label, str(own["queries"]), *(percent(own[name]["top1"]) for name in result["methods"]))
            for label, own in groups.items()
        ],
        gains=[
            (other, interval(gain["top1"]), interval(gain["mrr"]))
            for other, gain in result.get("gain_over", {}).items()
        ],
        accuracy=[Line(method, accuracy_curve(rankings.ranks(method))) for method in rankings.orders],
        certainty=certainty_curves(rankings),
        reliable=reliability_lines(result),
        latency=latency,
        misses=len(misses),
        failures=[_failure(rankings, final, int(n), int(ranks[n])) for n in _spread(misses, FAILURES)],
    )


def accuracy_curve(ranks: NDArray[np.int64], depth: int = DEPTH) -> tuple[tuple[float, float], ...]:
    """Share of queries with an answer among the first k items, for k = 1 to `depth`.

    Args:
        ranks: (n,) first-hit ranks from 1, 0 for none.
        depth: the last k; it stands at 1 on the x axis.
    """
    ks = np.arange(1, depth + 1)
    hits = [float(((ranks > 0) & (ranks <= k)).mean()) if len(ranks) else 0.0 for k in ks]
    return tuple(((k - 1) / max(1, depth - 1), hit) for k, hit in zip(ks.tolist(), hits, strict=True))


def certainty_curves(rankings: Rankings) -> list[Line]:
    """Precision and recall of answering only where the best match is at least so probable, over that probability.

    Precision is the share of right first matches among the answered queries, recall among all queries whose product is
    there. Empty where the model says no probabilities.
    """
    known = [one for one in rankings.judged if len(one.probabilities)]
    if not known:
        return []
    stated = np.array([one.probabilities[0] for one in known])
    right = np.array([bool(one.same[0]) for one in known])
    present = max(1, sum(one.present for one in rankings.judged))
    precision, recall = [], []
    for threshold in np.linspace(0, 1, 51):
        answered = stated >= threshold
        recall.append((float(threshold), float((answered & right).sum()) / present))
        if answered.any():
            precision.append((float(threshold), float(right[answered].mean())))
    return [Line("precision", tuple(precision)), Line("recall", tuple(recall))]


def reliability_lines(result: Mapping[str, Any]) -> list[Line]:
    """Found against stated probability by bin; empty where none is stated."""
    bins = (result.get("calibration") or {}).get("bins") or []
    return [Line("found", tuple((float(part["stated"]), float(part["found"])) for part in bins))] if bins else []


def _code(sentence: str) -> Markup:
    """A sentence with what stands between backticks as code; all else is escaped."""
    parts = [escape(part) for part in sentence.split("`")]
    return Markup("").join(Markup("<code>{}</code>").format(part) if n % 2 else part for n, part in enumerate(parts))


def _spread(misses: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """So many of them, evenly spaced: the first ones would all be of one kind where a set is sorted."""
    if len(misses) <= most:
        return misses
    return misses[np.linspace(0, len(misses) - 1, most).astype(np.int64)]


def _failure(rankings: Rankings, method: str, n: int, rank: int) -> Failure:
    query, first = rankings.queries[n], rankings.gallery[int(rankings.orders[method][n][0])]
    right = next((item for item in rankings.gallery if item.product_id == query.product_id), None)
    if rank:
        right = rankings.gallery[int(rankings.orders[method][n][rank - 1])]
    return Failure(
        name=query.id,
        why=_why(rankings, query, n, rank),
        query=_photo(query),
        right="" if right is None else _photo(right),
        first=_photo(first),
        right_id="" if right is None else right.id,
        first_id=first.id,
    )


def _why(rankings: Rankings, query: LabelledImage, n: int, rank: int) -> str:
    """Where the right item was lost, in words."""
    at_first = int(rankings.ranks("global")[n])
    said = []
    if not at_first:
        said.append("its product is not in the gallery")
    elif at_first > rankings.candidates:
        said.append(f"rank {at_first} in stage one, behind the {rankings.candidates} that are reranked")
    else:
        said.append(f"rank {rank}; stage one had it at {at_first}")
    if rankings.judged:
        own = rankings.judged[n]
        if len(own.probabilities):
            said.append(f"the first match is {own.probabilities[0]:.0%} likely")
        if own.said:
            said.append('"no match" was said')
    said += [part for part in (query.setup, query.category) if part]
    return "; ".join(said)


def _photo(image: LabelledImage) -> str:
    """A small JPEG as a data URI; "" where the photo is gone or damaged by now."""
    try:
        prepared, photo = load_image(image.path.read_bytes(), image_px=_SMALLEST_PX, box=image.box)
        with Image.open(io.BytesIO(display_photo(photo, prepared.box))) as shown:
            shown.thumbnail((PHOTO_PX, PHOTO_PX))
            out = io.BytesIO()
            shown.save(out, "JPEG", quality=80)
    except (OSError, InvalidImageError):
        return ""
    return f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}"
