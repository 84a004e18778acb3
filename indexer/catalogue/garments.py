"""Which garment of a photo a catalogue's row means, where the row has no box of its own.

    box             asked box, as contents remember it
    x0,y0,x1,y1     the same                                 the catalogue's own box wins
    auto            "auto:PARSER" or "auto:PARSER:KINDS"     the garment, where the photo shows somebody
    none            ""                                       all of the photo; a table's cell "none" counts as empty
    empty           as the job says, auto or none

KINDS are those that the row's words speak of: of a model in a coat and jeans, the row named "slim jeans" means the
jeans. PARSER is the start of the parser's fingerprint, so that another parser looks again. A garment that lies alone,
or was taken before one colour, keeps its frame.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from threadmatch.indexer.catalogue.decoding.pool import Decoded
from threadmatch.indexer.catalogue.sources import normal_box
from threadmatch.model.detection.parsing.kinds import kinds_named
from threadmatch.model.features import Encoder

if TYPE_CHECKING:
    from threadmatch.model.detection.parsing.detector import ParserDetector

AUTO: Final = "auto"
WHOLE: Final = "none"
SPEAKING: Final = ("category", "product_type", "type", "google_product_category", "name", "title")
"""Columns that say what a garment is, the one that is believed first before the others."""
PRINT_CHARS: Final = 8


class CatalogueGarments:
    """Finds garments in the photos of catalogue rows.

    The parser, and torch with it, is read when a row first asks for it, and made ready when a photo first does: never
    where all stand before a plain ground.

    Args:
        encoder: that the photos are for.
        rule: for rows without a box, AUTO or WHOLE.
    """

    def __init__(self, encoder: Encoder, rule: str = WHOLE) -> None:
        self._encoder, self._rule = encoder, rule

    @functools.cached_property
    def _parser(self) -> ParserDetector:
        from threadmatch.model.detection.parsing.detector import load_parser_detector

        return load_parser_detector()

    @functools.cached_property
    def _print(self) -> str:
        from threadmatch.model.detection.parsing.weights import fingerprint, load_parser

        return fingerprint(load_parser()[0])

    def asked_box(self, cell: str, metadata: str) -> str:
        """What a row asks for, in its one written form.

        Args:
            cell: the row's box, as written.
            metadata: the row's other columns, JSON text.

        Raises:
            InvalidImageError: reason bad_box.
        """
        rule = cell.casefold() or self._rule
        if rule == WHOLE:
            return ""
        return asked_of(self._print, metadata) if rule == AUTO else normal_box(cell)

    def framed(self, images: Sequence[tuple[str, Decoded]]) -> list[Decoded]:
        """Photos as the model is to see them.

        Args:
            images: asked box and photo of each; with its picture as a whole where `looks`.

        Returns:
            Each as it was, or cut to its garment.
        """
        found = [decoded for _, decoded in images]
        views = {place: decoded.view for place, decoded in enumerate(found) if decoded.view is not None}
        if not views:
            return found
        from threadmatch.model.detection.parsing.cutting import framed

        looked = self._parser.look([self._parser.sized(view.pixels) for view in views.values()])
        for (place, view), one in zip(views.items(), looked, strict=True):
            asked, decoded = images[place]
            parsing = self._parser.read(one, view.pixels)
            cut = framed(view, parsing, self._encoder, kinds=kinds_of(asked))
            if cut is not None:
                box = (cut.box.x0, cut.box.y0, cut.box.x1, cut.box.y1)
                found[place] = replace(decoded, pixels=cut.pixels, box=box)
        return found


def asked_of(fingerprint: str, metadata: str) -> str:
    """The asked box of a photo in which a garment is to be found by the parser with that fingerprint; see the head of
    this module.
    """
    kinds = "+".join(sorted(_kinds(metadata)))
    return ":".join(filter(None, (AUTO, fingerprint[:PRINT_CHARS], kinds)))


def kinds_of(asked: str) -> frozenset[str]:
    """The kinds of garment that an asked box names."""
    return frozenset(filter(None, asked.split(":")[2].split("+"))) if asked.count(":") == 2 else frozenset()


def looks(asked: str) -> bool:
    """Whether an asked box leaves it to the parser."""
    return asked.startswith(f"{AUTO}:")


def given_box(asked: str) -> str:
    """The box that is known before anything is looked at; "" for all of the photo."""
    return "" if looks(asked) else asked


def as_cell(asked: str) -> str:
    """An asked box as a catalogue writes it; the same row asks the same again."""
    return AUTO if looks(asked) else asked


def _kinds(metadata: str) -> frozenset[str]:
    columns = {name.casefold(): value for name, value in json.loads(metadata).items() if isinstance(value, str)}
    for name in SPEAKING:
        if kinds := kinds_named(columns.get(name, "")):
            return kinds
    return frozenset()
