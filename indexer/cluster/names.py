"""What things are called in Milvus and in the store.

PREFIX_GALLERY                     alias of the collection in service: Milvus's word for CURRENT
PREFIX_GALLERY__000003             collection of a generation
PREFIX:c:FEATURES:CONTENT          hash: features, display photo and look of one photo with one box
PREFIX:GALLERY:seq                 counter: the row numbers of all generations
PREFIX:GALLERY:000003:about        hash: manifest, counts, the last write's time
PREFIX:GALLERY:000003:columns      hash: metadata columns and their kinds
PREFIX:GALLERY:000003:r:BUCKET     hash: of ROWS_A_BUCKET row numbers each, the content and the id
PREFIX:GALLERY:000003:i:ID         the item: its newest row, and what is shown of it
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final

ROWS_A_BUCKET: Final = 256
"""Fields of a hash up to Redis's own bound for its compact form, so that a row costs some 60 bytes, no key."""
CONTENT_BYTES: Final = 16
_GENERATION: Final = re.compile(r"\d{6}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Names:
    """Of one gallery.

    Args:
        prefix: of the cluster's settings.
        gallery: its name.
    """

    prefix: str
    gallery: str

    @property
    def alias(self) -> str:
        """Of the collection in service."""
        return f"{self.prefix}_{self.gallery}"

    @property
    def sequence(self) -> str:
        """The counter of row numbers."""
        return f"{self.prefix}:{self.gallery}:seq"

    def collection(self, generation: str) -> str:
        """Of a generation."""
        return f"{self.alias}__{generation}"

    def generation_of(self, collection: str) -> str | None:
        """What `collection` was called with; None for one of somebody else."""
        start, generation = f"{self.alias}__", collection[len(self.alias) + 2 :]
        return generation if collection.startswith(start) and _GENERATION.fullmatch(generation) else None

    def about(self, generation: str) -> str:
        """The hash of a generation's manifest and counts."""
        return f"{self._of(generation)}:about"

    def columns(self, generation: str) -> str:
        """The hash of a generation's metadata columns."""
        return f"{self._of(generation)}:columns"

    def bucket(self, generation: str, row: int) -> str:
        """The hash that a row number is in."""
        return f"{self._of(generation)}:r:{row // ROWS_A_BUCKET}"

    def item(self, generation: str, item_id: str) -> str:
        """An item's key."""
        return f"{self._of(generation)}:i:{item_id}"

    def everything_of(self, generation: str) -> str:
        """Pattern of all keys of a generation."""
        return f"{self._of(generation)}:*"

    def _of(self, generation: str) -> str:
        return f"{self.prefix}:{self.gallery}:{generation}"


def content_number(sha256: str, asked_box: str) -> int:
    """The number of a photo's bytes with one box: the same wherever they are met, so nothing is stored twice."""
    digest = hashlib.blake2b(f"{sha256}|{asked_box}".encode(), digest_size=CONTENT_BYTES).digest()
    return int.from_bytes(digest, "big")


def short_number(content: int) -> int:
    """63 bits of it, for what keeps numbers of 64: two of one shortlist are never alike by chance."""
    return content >> (8 * CONTENT_BYTES - 63)
