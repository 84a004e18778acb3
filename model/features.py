"""What a gallery keeps of a photo: named features, their form on disk, and what makes them.

A model lists its features (`FeatureSpec`); a gallery stores each under its name, and its manifest repeats the list. So
a new feature needs no new table, and a gallery without one says which it lacks.

Letters  B photos, N records, V the last axis of a feature: one vector
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from threadmatch.model.coded import NIBBLE_OFFSET, Coded, Stored, floats
from threadmatch.model.framing import Framing

FeatureType = Literal["float32", "float16", "int8", "int4"]
EMBEDDING: Final = "embedding"
"""The feature that stage one searches: one unit vector a photo."""
REGIONS: Final = "regions"
"""The region vectors of the pyramid (paper sec. 3.2)."""
CELLS: Final = "cells"
"""The cells of the backbone's last map behind the neck, unit vectors, row by row."""
TINTS: Final = "tints"
"""L*, a* and b* of the mean colour at each cell (`model.tints`)."""
ATTRIBUTES: Final = "attributes"
"""One unit vector an attribute (`model.attributes`), where a model has that part."""

Features = Mapping[str, NDArray[np.float32]]
"""What an encoder makes of B photos: name -> (B, *shape) float32."""

_BITS: Final = {"float32": 32, "float16": 16, "int8": 8, "int4": 4}
_LEVELS: Final = {"int8": 127, "int4": 7}
"""Largest code; the one below the smallest is left out, so that a code and its opposite are both there."""
_CLIP: Final = 2.6
"""Where codes of four bits end, in root mean squares of a vector: beyond it numbers are cut off, which costs less than
wider steps would (docs/results.md)."""
_SCALE: Final = np.dtype("<f2")


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """One feature of a photo, as a gallery keeps it.

    Fields:
        name: under which it is stored, asked for and listed.
        shape: of one photo's feature; the last axis is a vector.
        dtype: on disk. "int8" and "int4" keep each vector as whole numbers, from -127 to 127 and from -7 to 7 (two a
            byte), with a float16 scale that keeps its length.
        indexed: whether the shortlist searches it; the others are gathered for the items of a shortlist.
        made_by: fingerprint of the part of a model that makes it (`part.Part`); "" where the core network does.
    """

    name: str
    shape: tuple[int, ...]
    dtype: FeatureType = "float16"
    indexed: bool = False
    made_by: str = ""

    def __post_init__(self) -> None:
        if self.dtype == "int4" and self.shape[-1] % 2:
            raise ValueError(f"feature {self.name!r} has vectors of {self.shape[-1]} numbers; int4 packs two a byte")

    @property
    def key(self) -> str:
        """Under which a gallery stores records: the name, and what tells apart those of other weights of a part."""
        return f"{self.name}@{self.made_by}" if self.made_by else self.name

    @property
    def vectors(self) -> int:
        """How many vectors one photo has."""
        return math.prod(self.shape[:-1])

    @property
    def size_bytes(self) -> int:
        """Of one record."""
        scales = self.vectors * _SCALE.itemsize if self.dtype in _LEVELS else 0
        return math.prod(self.shape) * _BITS[self.dtype] // 8 + scales

    def pack(self, values: NDArray[Any]) -> bytes:
        """One photo's feature as a record.

        Args:
            values: `shape`, any float type.

        Raises:
            ValueError: another shape.
        """
        if values.shape != self.shape:
            raise ValueError(f"feature {self.name!r} has shape {values.shape}, expected {self.shape}")
        if self.dtype not in _LEVELS:
            data: bytes = values.astype(np.dtype(self.dtype).newbyteorder("<")).tobytes()
            return data
        vectors = values.reshape(self.vectors, self.shape[-1]).astype(np.float32)
        codes = self._codes(vectors)
        coded = np.linalg.norm(codes.astype(np.float32), axis=1)  # 1 at least, but for zero vectors
        scales = (np.linalg.norm(vectors, axis=1) / np.maximum(coded, 1)).astype(_SCALE)  # lengths stay as they are
        if self.dtype == "int4":
            above = codes.astype(np.uint8) + np.uint8(NIBBLE_OFFSET)  # wraps round: -7..7 to 1..15
            low, high = np.split(above, 2, axis=1)
            return bytes((low | (high << 4)).tobytes() + scales.tobytes())
        return bytes(codes.tobytes() + scales.tobytes())

    def unpack(self, records: Sequence[bytes | memoryview]) -> NDArray[Any]:
        """Records to (N, *shape): float16 as stored, float32 else (codes times their scales).

        Raises:
            ValueError: a record of another size.
        """
        return floats(self.stored(records))

    def stored(self, records: Sequence[bytes | memoryview]) -> Stored:
        """The same without a multiplication: what is kept as whole numbers stays so.

        Raises:
            ValueError: a record of another size.
        """
        for record in records:
            if len(record) != self.size_bytes:
                raise ValueError(f"a record of {self.name!r} has {len(record)} bytes, expected {self.size_bytes}")
        return self.stored_rows(np.frombuffer(bytearray().join(records), np.uint8).reshape(-1, self.size_bytes))

    def stored_rows(self, joined: NDArray[np.uint8]) -> Stored:
        """The same of (N, size_bytes) records, one behind the other; they may become part of what is returned."""
        if self.dtype not in _LEVELS:
            kind = np.dtype(self.dtype)
            plain = joined.reshape(-1).view(kind.newbyteorder("<"))
            return plain.astype(kind, copy=False).reshape(len(joined), *self.shape)
        count = math.prod(self.shape) * _BITS[self.dtype] // 8
        packed = joined[:, :count].reshape(len(joined), self.vectors, count // self.vectors)
        scales = np.ascontiguousarray(joined[:, count:]).view(_SCALE).astype(np.float32)  # (N, vectors)
        shape = (len(joined), *self.shape)
        whole = np.ascontiguousarray(packed).reshape(*shape[:-1], packed.shape[2])
        if self.dtype == "int4":
            return Coded.of_nibbles(whole, scales.reshape(shape[:-1]))
        return Coded(whole.view(np.int8), scales.reshape(shape[:-1]))

    def _codes(self, vectors: NDArray[np.float32]) -> NDArray[np.int8]:
        """(vectors, V) -> whole numbers; a zero vector stays one."""
        levels = _LEVELS[self.dtype]
        if self.dtype == "int8":
            most = np.abs(vectors).max(axis=1, keepdims=True)
        else:
            most = _CLIP * np.sqrt(np.square(vectors).mean(axis=1, keepdims=True))
        codes = np.clip(np.rint(vectors * (levels / np.maximum(most, 1e-12))), -levels, levels)
        return np.asarray(codes, np.int8)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        own = {"made_by": self.made_by} if self.made_by else {}
        return {"name": self.name, "shape": list(self.shape), "dtype": self.dtype, "indexed": self.indexed, **own}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FeatureSpec:
        """Read what `to_dict` wrote."""
        shape = tuple(int(side) for side in values["shape"])
        made_by = str(values.get("made_by", ""))
        return cls(str(values["name"]), shape, values["dtype"], bool(values["indexed"]), made_by)


class Encoder(Protocol):
    """From prepared photos to features: the one thing that ingestion and search share. Thread-safe."""

    @property
    def name(self) -> str:
        """Of the model."""
        ...

    @property
    def fingerprint(self) -> str:
        """Of the whole model, its matchers included."""
        ...

    @property
    def features_fingerprint(self) -> str:
        """Of all that decides the features; a gallery is tied to it."""
        ...

    @property
    def features(self) -> tuple[FeatureSpec, ...]:
        """What `encode` makes; exactly one is indexed."""
        ...

    @property
    def image_px(self) -> int:
        """S, side of the square images that `encode` takes."""
        ...

    @property
    def framing(self) -> Framing:
        """How a photo becomes that square."""
        ...

    def encode(self, pixels: NDArray[np.uint8]) -> Features:
        """(B, S, S, 3) uint8 RGB from `images.prepare_image` -> a (B, *shape) float32 array for each feature."""
        ...


def indexed_feature(features: Iterable[FeatureSpec]) -> FeatureSpec:
    """The one that the shortlist searches.

    Raises:
        ValueError: none is, or several are.
    """
    indexed = [spec for spec in features if spec.indexed]
    if len(indexed) != 1:
        raise ValueError(f"{len(indexed)} features are indexed ({[spec.name for spec in indexed]}), expected one")
    return indexed[0]


def in_common(kept: Iterable[FeatureSpec], made: Iterable[FeatureSpec]) -> tuple[FeatureSpec, ...]:
    """Of what a gallery keeps, what a model makes too: of a part's features those of the same weights alone."""
    known = {spec.key for spec in made}
    return tuple(spec for spec in kept if spec.key in known)
