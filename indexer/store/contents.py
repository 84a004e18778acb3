"""What one photo, with one box, became: its features and its display photo, under one number that items share."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from threadmatch.indexer.store import looks, records
from threadmatch.model.features import FeatureSpec


@dataclass(frozen=True, slots=True, eq=False)
class Content:
    """What a photo became; made by `content_of`.

    Fields:
        source: path or address it came from, "" for a photo that a client sent.
        sha256: of the photo's bytes.
        asked_box: as in the catalogue, "" for the whole image.
        width, height: of the upright photo, pixels.
        box: x0, y0, x1, y1 of the part that was encoded, pixels.
        features: records by `FeatureSpec.key`, packed.
        photo: JPEG for display.
        look: what near-duplicates are told by (`store.looks.Look.data`), None where it was not looked at.
    """

    source: str
    sha256: str
    asked_box: str
    width: int
    height: int
    box: tuple[float, float, float, float]
    features: Mapping[str, bytes]
    photo: bytes
    look: bytes | None = None


def content_of(
    features: Mapping[str, NDArray[Any]],
    specs: Sequence[FeatureSpec],
    *,
    sha256: str,
    asked_box: str,
    size: tuple[int, int],
    box: tuple[float, float, float, float],
    photo: bytes,
    source: str = "",
) -> Content:
    """Pack what an encoder made of one photo.

    Args:
        features: name -> (*shape), of one photo.
        specs: what the gallery keeps; further features are left out.
        size: width and height.
        sha256, asked_box, box, photo, source: see `Content`.

    Raises:
        ValueError: a feature is missing, or has another shape than the gallery keeps.
    """
    missing = [spec.name for spec in specs if spec.name not in features]
    if missing:
        raise ValueError(f"the gallery keeps {', '.join(missing)}; the encoder made {', '.join(features)} only")
    packed = {spec.key: spec.pack(features[spec.name]) for spec in specs}
    return Content(source, sha256, asked_box, *size, box, packed, photo)


def add_content(connection: sqlite3.Connection, content: Content) -> int:
    """Add what a photo became, in the transaction that runs. Returns its number."""
    cursor = connection.execute(
        "INSERT INTO contents (source, sha256, asked_box, width, height, x0, y0, x1, y1)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (content.source, content.sha256, content.asked_box, content.width, content.height, *content.box),
    )
    number = int(cursor.lastrowid or 0)
    records.write(connection, number, content.features)
    values = (number, content.photo, records.checksum(content.photo))
    connection.execute("INSERT INTO photos VALUES (?, ?, ?)", values)
    if content.look is not None:
        looks.write(connection, [looks.Look(number, content.look)])
    return number


def find_content(
    connection: sqlite3.Connection, sha256: str, asked_box: str, *, specs: Sequence[FeatureSpec], first: int = 0
) -> int | None:
    """The newest content of these bytes with this box, not older than `first`, None where there is none.

    A damaged one, or one that lacks a feature of `specs`, is never used again: the next ingestion mends it.
    """
    rows = connection.execute(
        "SELECT content FROM contents WHERE sha256 = ? AND asked_box = ? AND content >= ? ORDER BY content DESC",
        (sha256, asked_box, first),
    )
    found = (number for (number,) in rows.fetchall())
    return next((number for number in found if records.undamaged(connection, number, specs)), None)


def remove_contents(connection: sqlite3.Connection, *, unused: str) -> int:
    """Delete contents with all that belongs to them, in the transaction that runs. Returns how many.

    Args:
        unused: SQL condition on `content`.
    """
    count = connection.execute(f"DELETE FROM contents WHERE {unused}").rowcount  # noqa: S608
    for table in ("features", "photos", *([looks.TABLE] if records.has_table(connection, looks.TABLE) else [])):
        connection.execute(f"DELETE FROM {table} WHERE {unused}")  # noqa: S608
    return count
