"""Clears away photos and features that no generation of any gallery names any more.

Whoever uses a photo names it first, in the entry of a row, and then claims it (`Contents.claim`); whoever clears dooms
it first, and then looks for its name:

    uses it     names it  ->  claims it: takes the doom away, sends what is not there
    clears it   dooms it  ->  looks for names  ->  deletes it if it is doomed still

So of two at the same time one sees the other, whatever the clocks say: a name that came too late to be seen is followed
by a claim that finds the doom, or nothing there. A run that dies leaves dooms, which harm nobody.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from threadmatch.indexer.cluster.comparing import batches
from threadmatch.indexer.cluster.contents import DOOM, key_of_features
from threadmatch.indexer.cluster.filling import BATCH
from threadmatch.indexer.cluster.generation import read_manifest
from threadmatch.indexer.cluster.names import CONTENT_BYTES, Names
from threadmatch.indexer.cluster.store import RecordStore
from threadmatch.indexer.errors import GalleryError, StoreUnavailableError

_SHORT: Final = 8
"""Bytes of a content's number that are compared: one that is taken for another is kept, no more."""
_DOOMED: Final = (
    f"if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HSET', KEYS[1], '{DOOM}', ARGV[1]) end return 1"
)
_DELETED: Final = f"""
if redis.call('HGET', KEYS[1], '{DOOM}') ~= ARGV[1] then return -1 end
local bytes = 0
for _, value in ipairs(redis.call('HVALS', KEYS[1])) do bytes = bytes + #value end
redis.call('DEL', KEYS[1])
return bytes
"""


Named: TypeAlias = Mapping[str, NDArray[np.uint64]]
"""Of each model's features, sorted beginnings of contents' numbers; under "" those of rows without a manifest."""


def clear_contents(store: RecordStore, prefix: str, *, tell: Callable[[], None] = lambda: None) -> tuple[int, int]:
    """Delete contents that no row of any generation names.

    Args:
        store: of the cluster.
        prefix: of all names.
        tell: called now and then.

    Returns:
        How many were deleted, and their bytes.

    Raises:
        StoreUnavailableError: a node went away meanwhile; begin anew.
    """
    token = uuid.uuid4().hex
    named = _named(store, prefix, tell)
    content = re.compile(rf"{re.escape(prefix)}:c:(?P<features>[^:]+):(?P<number>[0-9a-f]{{{2 * CONTENT_BYTES}}})")
    found = (content.fullmatch(key) for key in store.keys(f"{prefix}:c:*"))
    doomed = [one for one in found if one is not None and not _is_named(one, named)]
    for block in batches(doomed, BATCH):
        tell()
        store.ask([("EVAL", _DOOMED, 1, one.string, token) for one in block])
    named = _named(store, prefix, tell)
    count = size = 0
    for block in batches((one for one in doomed if not _is_named(one, named)), BATCH):
        tell()
        freed = [int(one) for one in store.ask([("EVAL", _DELETED, 1, one.string, token) for one in block])]
        count += sum(one >= 0 for one in freed)
        size += sum(one for one in freed if one > 0)
    return count, size


def _is_named(content: re.Match[str], named: Named) -> bool:
    number = np.uint64(int(content["number"][: 2 * _SHORT], 16))
    for features in (content["features"], ""):
        there = named.get(features)
        if there is not None and len(there):
            place = int(np.searchsorted(there, number))
            if place < len(there) and there[place] == number:
                return True
    return False


def _named(store: RecordStore, prefix: str, tell: Callable[[], None]) -> Named:
    """What rows of all galleries and generations name, as they are while this reads."""
    bucket = re.compile(rf"{re.escape(prefix)}:(?P<gallery>[a-z0-9_]+):(?P<generation>\d{{6}}):r:\d+", re.ASCII)
    models: dict[tuple[str, str], str] = {}
    parts: dict[str, list[NDArray[np.uint64]]] = {}
    found = (bucket.fullmatch(key) for key in store.keys(f"{prefix}:*:r:*"))
    for block in batches((one for one in found if one is not None), BATCH):
        tell()
        read = store.ask([("HVALS", one.string) for one in block])
        for one, values in zip(block, read, strict=True):
            of = one["gallery"], one["generation"]
            if of not in models:
                models[of] = _features_of(store, Names(prefix, of[0]), of[1])
            numbers = b"".join(value[:_SHORT] for value in values)
            parts.setdefault(models[of], []).append(np.frombuffer(numbers, ">u8").astype(np.uint64))
    return {features: np.unique(np.concatenate(arrays)) for features, arrays in parts.items()}


def _features_of(store: RecordStore, names: Names, generation: str) -> str:
    """As contents' keys name the features of a generation; "" where nobody can say: it is being filled, or was not."""
    try:
        return key_of_features(read_manifest(store, names, generation).model.features_fingerprint)
    except StoreUnavailableError:
        raise
    except GalleryError:
        return ""
