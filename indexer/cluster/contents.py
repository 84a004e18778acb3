"""What photos became, in the store: a hash for each photo and box, keyed by the model's features and the content.

Its fields are the features, the display photo, the look, and `about`, what else is known of the photo. Each is a
CRC-32C and the bytes. A hash is written by one command, so it is there wholly or not at all, and by whom and how often
does not matter: the same key has the same content in every gallery and generation.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from threadmatch.indexer.cluster.names import CONTENT_BYTES, content_number
from threadmatch.indexer.cluster.store import Command, RecordStore
from threadmatch.indexer.store.contents import Content
from threadmatch.indexer.store.records import checksum
from threadmatch.model.features import FeatureSpec

_CRC: Final = struct.Struct("<I")
_FINGERPRINT: Final = 24
PHOTO, LOOK, ABOUT, FEATURE = "photo", "look", "about", "f:"
DOOM: Final = "doom"
"""Field of a content that is about to be cleared away (`clearing`)."""


def key_of_features(fingerprint: str) -> str:
    """What stands for a model's features in the keys of their contents."""
    return fingerprint[:_FINGERPRINT]


@dataclass(frozen=True, slots=True)
class About:
    """A photo: the digest of its bytes, the box that was asked for and the one encoded, its upright size in pixels."""

    sha256: str
    asked_box: str
    size: tuple[int, int]
    box: tuple[float, float, float, float]


Whole: TypeAlias = tuple[About, dict[str, bytes], bytes]
"""All of a content but its look: about it, its features by key, its photo."""


class Contents:
    """The contents of one model's features. Thread-safe.

    Args:
        store: of the cluster.
        prefix: of all names.
        features_fingerprint: of the model.
    """

    def __init__(self, store: RecordStore, prefix: str, features_fingerprint: str) -> None:
        self._store, self._start = store, f"{prefix}:c:{key_of_features(features_fingerprint)}:"

    def key(self, number: int) -> str:
        """Of a content."""
        return self._start + number.to_bytes(CONTENT_BYTES, "big").hex()

    def command(self, content: Content) -> tuple[int, Command]:
        """The content's number, and what writes it."""
        about = {
            "sha256": content.sha256,
            "asked_box": content.asked_box,
            "size": [content.width, content.height],
            "box": list(content.box),
        }
        fields: dict[str, bytes] = {FEATURE + key: data for key, data in content.features.items()}
        fields |= {PHOTO: content.photo, ABOUT: json.dumps(about).encode()}
        if content.look is not None:
            fields[LOOK] = content.look
        number = content_number(content.sha256, content.asked_box)
        flat = [part for name, data in fields.items() for part in (name, _CRC.pack(checksum(data)) + data)]
        return number, ("HSET", self.key(number), *flat)

    def lacking(self, numbers: Sequence[int], specs: Sequence[FeatureSpec]) -> set[int]:
        """Which contents lack a feature, or their photo."""
        found = self._store.ask([self._parts(number, specs) for number in numbers])
        return _not_whole(numbers, found)

    def claim(self, numbers: Sequence[int], specs: Sequence[FeatureSpec]) -> set[int]:
        """`lacking`, for contents that a row names already: they are not cleared away from here on."""
        asked = [(("HDEL", self.key(number), DOOM), self._parts(number, specs)) for number in numbers]
        found = self._store.ask([command for two in asked for command in two])
        return _not_whole(numbers, found[1::2])

    def _parts(self, number: int, specs: Sequence[FeatureSpec]) -> Command:
        return "HMGET", self.key(number), *(FEATURE + spec.key for spec in specs), PHOTO, ABOUT

    def read(self, field: str, numbers: Sequence[int]) -> dict[int, bytes]:
        """A field of contents, those that are there and whole.

        Args:
            field: PHOTO, LOOK, ABOUT, or FEATURE and a feature's key.
            numbers: of the contents.
        """
        wanted = list(dict.fromkeys(numbers))
        found = self._store.ask([("HGET", self.key(number), field) for number in wanted])
        whole = ((number, _whole(value)) for number, value in zip(wanted, found, strict=True))
        return {number: data for number, data in whole if data is not None}

    def about(self, number: int) -> About | None:
        """What is known of a photo; None where it is not there."""
        return self.about_all([number])[0]

    def about_all(self, numbers: Sequence[int]) -> list[About | None]:
        """What is known of photos, in the order of their numbers; None where one is not there."""
        found = self.read(ABOUT, numbers)
        return [_about(json.loads(found[number])) if number in found else None for number in numbers]

    def whole(self, numbers: Sequence[int], specs: Sequence[FeatureSpec]) -> list[Whole | None]:
        """Contents, in the order of their numbers; None where a part of one is missing or damaged."""
        fields = [ABOUT, PHOTO, *(FEATURE + spec.key for spec in specs)]
        asked: list[Command] = [("HMGET", self.key(number), *fields) for number in numbers]
        return [_read_whole([_whole(value) for value in values], specs) for values in self._store.ask(asked)]


def _read_whole(values: Sequence[bytes | None], specs: Sequence[FeatureSpec]) -> Whole | None:
    parts = [value for value in values if value is not None]
    if len(parts) < len(values):
        return None
    about, photo, *records = parts
    return _about(json.loads(about)), dict(zip((spec.key for spec in specs), records, strict=True)), photo


def _not_whole(numbers: Sequence[int], found: Sequence[Sequence[bytes | None]]) -> set[int]:
    return {
        number for number, values in zip(numbers, found, strict=True) if any(_whole(value) is None for value in values)
    }


def _about(values: Mapping[str, Any]) -> About:
    width, height = values["size"]
    x0, y0, x1, y1 = values["box"]
    return About(values["sha256"], values["asked_box"], (width, height), (x0, y0, x1, y1))


def _whole(value: bytes | None) -> bytes | None:
    """The bytes without their checksum; None where they are missing or damaged."""
    if value is None or len(value) < _CRC.size:
        return None
    data = value[_CRC.size :]
    return data if _CRC.unpack_from(value)[0] == checksum(data) else None
