"""A contact sheet: street photos, each with its first matches before and after reranking, the right one outlined."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import httpx
from PIL import Image, ImageDraw, ImageFont

from threadmatch.model.images import Box
from threadmatch.service.demo.asking import DemoQuery, Outcome, post
from threadmatch.service.demo.errors import DemoError

ROWS: Final = 3
MATCHES: Final = 5
CELL: Final = (104, 130)
"""Width and height of a match, pixels."""
QUERY: Final = (176, 224)
GAP: Final = 10
LABEL: Final = 16
COLORS: Final = 176
"""Of the PNG's palette: a third of the size, and no difference to the eye at this scale."""
WHITE, INK, GREY, RIGHT, BOX = (255, 255, 255), (33, 37, 41), (134, 142, 150), (18, 140, 60), (230, 120, 0)


def write_contact_sheet(path: Path, outcomes: Sequence[Outcome], client: httpx.Client, *, candidates: int) -> None:
    """Draw the sheet.

    Args:
        path: PNG to write.
        outcomes: what the demo asked; see `choose_rows` for those shown.
        client: of the service, which gives the items' photos and the order before reranking.
        candidates: as they were asked with.
    """
    rows = choose_rows(outcomes)
    width = GAP + QUERY[0] + 2 * GAP + MATCHES * (CELL[0] + GAP)
    height_of_row = max(QUERY[1] + LABEL, 2 * (LABEL + CELL[1] + GAP)) + GAP
    sheet = Image.new("RGB", (width, GAP + len(rows) * height_of_row), WHITE)
    draw = ImageDraw.Draw(sheet)
    for number, outcome in enumerate(rows):
        top = GAP + number * height_of_row
        _draw_query(sheet, draw, outcome.query, (GAP, top + LABEL))
        draw.text((GAP, top), "street photo", INK, font=label_font())
        plain = post(client, outcome.query, candidates=candidates, top_k=MATCHES, rerank="false")
        left = GAP + QUERY[0] + 2 * GAP
        for label, answer, y in (
            (f"stage one: the right item is {_place(outcome.before)}", plain, top),
            (f"reranked: the right item is {_place(outcome.after)}", outcome.answer, top + LABEL + CELL[1] + GAP),
        ):
            draw.text((left, y), label, INK, font=label_font())
            for place, match in enumerate(answer["matches"][:MATCHES]):
                corner = (left + place * (CELL[0] + GAP), y + LABEL)
                draw_match(sheet, draw, client, match, corner, right=_is_right(match, outcome.query))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.quantize(COLORS).save(path, "PNG", optimize=True)


def choose_rows(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """What a reader should see: the largest gain, a middling case, and the largest loss; fewer if there are fewer."""
    found = sorted((o for o in outcomes if o.before is not None and o.after is not None), key=_gain, reverse=True)
    if len(found) <= ROWS:
        return found or list(outcomes[:ROWS])
    return [found[0], found[len(found) // 3], found[-1]]


def _gain(outcome: Outcome) -> float:
    """By reciprocal rank, so that reaching the first place counts most."""
    assert outcome.before is not None
    assert outcome.after is not None
    return 1 / outcome.after - 1 / outcome.before


def _place(rank: int | None) -> str:
    return "not among those shown by the service" if rank is None else f"number {rank}"


def _is_right(match: dict[str, Any], query: DemoQuery) -> bool:
    return bool((match["product_id"] or match["id"]) == query.product_id)


def _draw_query(sheet: Image.Image, draw: ImageDraw.ImageDraw, query: DemoQuery, corner: tuple[int, int]) -> None:
    with Image.open(query.path) as photo:
        size = photo.size
        shown, offset, scale = _fitted(photo, QUERY)
    x, y = corner[0] + offset[0], corner[1] + offset[1]
    sheet.paste(shown, (x, y))
    if query.box:
        box = Box.parse(query.box).clipped(*size)
        edges = (x + box.x0 * scale, y + box.y0 * scale, x + box.x1 * scale - 1, y + box.y1 * scale - 1)
        draw.rectangle(edges, outline=BOX, width=2)
    if query.setup:
        draw.text((corner[0], y + shown.height + 2), query.setup.replace("_", " "), GREY, font=label_font())


def draw_match(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    client: httpx.Client,
    match: dict[str, Any],
    corner: tuple[int, int],
    *,
    right: bool,
) -> None:
    """Draw one match of an answer into a CELL at `corner`; outlined where it is the right one.

    Raises:
        DemoError: the service does not give its photo.
    """
    response = client.get(match["image_url"])
    if response.status_code != httpx.codes.OK:
        raise DemoError(f"GET {match['image_url']} answered {response.status_code}, expected the item's photo")
    with Image.open(io.BytesIO(response.content)) as photo:
        shown, offset, _ = _fitted(photo, CELL)
    sheet.paste(shown, (corner[0] + offset[0], corner[1] + offset[1]))
    edges = (corner[0] - 2, corner[1] - 2, corner[0] + CELL[0] + 1, corner[1] + CELL[1] + 1)
    draw.rectangle(edges, outline=RIGHT if right else (222, 226, 230), width=4 if right else 1)


def _fitted(photo: Image.Image, room: tuple[int, int]) -> tuple[Image.Image, tuple[int, int], float]:
    """A photo scaled into a room: the picture, where it begins, and the scale."""
    scale = min(room[0] / photo.width, room[1] / photo.height)
    size = (max(1, round(photo.width * scale)), max(1, round(photo.height * scale)))
    shown = photo.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    return shown, ((room[0] - size[0]) // 2, (room[1] - size[1]) // 2), scale


def label_font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Of the words on a sheet."""
    return ImageFont.load_default(12)
