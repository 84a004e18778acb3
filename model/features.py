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

FeatureType = Literal["float32", "float16", "int8"]
EMBEDDING: Final = "embedding"
"""The feature that stage one searches: one unit vector a photo."""
REGIONS: Final = "regions"
"""The region vectors of the pyramid (paper sec. 3.2)."""
CELLS: Final = "cells"
"""The cells of the backbone's map behind the neck, in a space of their own (`neck.CellSpace`)."""

Features = Mapping[str, NDArray[np.float32]]
"""What an encoder makes of B photos: name -> (B, *shape) float32."""

_WIDTH: Final = {"float32": 4, "float16": 2, "int8": 1}
_SCALE: Final = np.dtype("<f2")


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """One feature of a photo, as a gallery keeps it.

    Fields:
        name: under which it is stored, asked for and listed.
        shape: of one photo's feature; the last axis is a vector.
        dtype: on disk. "int8" keeps each vector as whole numbers from -127 to 127, with a float16 scale that keeps its
            length.
        indexed: whether the shortlist searches it; the others are gathered for the items of a shortlist.
    """

    name: str
    shape: tuple[int, ...]
    dtype: FeatureType = "float16"
    indexed: bool = False

    @property
    def vectors(self) -> int:
        """How many vectors one photo has."""
        return math.prod(self.shape[:-1])

    @property
    def size_bytes(self) -> int:
        """Of one record."""
        scales = self.vectors * _SCALE.itemsize if self.dtype == "int8" else 0
        return math.prod(self.shape) * _WIDTH[self.dtype] + scales

    def pack(self, values: NDArray[Any]) -> bytes:
        """One photo's feature as a record.

        Args:
            values: `shape`, any float type.

        Raises:
            ValueError: another shape.
        """
        if values.shape != self.shape:
            raise ValueError(f"feature {self.name!r} has shape {values.shape}, expected {self.shape}")
        if self.dtype != "int8":
            data: bytes = values.astype(np.dtype(self.dtype).newbyteorder("<")).tobytes()
            return data
        vectors = values.reshape(self.vectors, self.shape[-1]).astype(np.float32)
        largest = np.abs(vectors).max(axis=1, keepdims=True)
        codes = np.rint(vectors * (127 / np.maximum(largest, 1e-12))).astype(np.int8)  # (vectors, V)
        coded = np.linalg.norm(codes.astype(np.float32), axis=1)  # 127 at least, but for zero vectors
        scales = (np.linalg.norm(vectors, axis=1) / np.maximum(coded, 1)).astype(_SCALE)  # lengths stay as they are
        return bytes(codes.tobytes() + scales.tobytes())

    def unpack(self, records: Sequence[bytes | memoryview]) -> NDArray[Any]:
        """Records to (N, *shape): float16 as stored, float32 else (int8 codes times their scales).

        Raises:
            ValueError: a record of another size.
        """
        for record in records:
            if len(record) != self.size_bytes:
                raise ValueError(f"a record of {self.name!r} has {len(record)} bytes, expected {self.size_bytes}")
        joined = np.frombuffer(bytearray().join(records), np.uint8).reshape(len(records), self.size_bytes)  # writable
        if self.dtype != "int8":
            kind = np.dtype(self.dtype)
            values = joined.reshape(-1).view(kind.newbyteorder("<")).astype(kind, copy=False)
            return values.reshape(len(records), *self.shape)
        count = math.prod(self.shape)
        codes = joined[:, :count].view(np.int8).reshape(len(records), self.vectors, self.shape[-1])
        scales = np.ascontiguousarray(joined[:, count:]).view(_SCALE)  # (N, vectors)
        return (codes * scales.astype(np.float32)[:, :, None]).reshape(len(records), *self.shape)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"name": self.name, "shape": list(self.shape), "dtype": self.dtype, "indexed": self.indexed}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FeatureSpec:
        """Read what `to_dict` wrote."""
        shape = tuple(int(side) for side in values["shape"])
        return cls(str(values["name"]), shape, values["dtype"], bool(values["indexed"]))


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
