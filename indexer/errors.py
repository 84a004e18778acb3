"""What can go wrong in the indexer room.

IndexerError
 +- CatalogueError              the catalogue file, or all of its rows, cannot be used; mend the file
 +- GalleryError                the gallery's folder is missing, unfinished, damaged or of an unknown format
 |   +- FeatureMissingError     the gallery does not keep the feature that is asked for
 |   +- StoreUnavailableError   an engine of a cluster does not answer; try again
 +- GalleryModelMismatchError   the gallery was made by another model
 +- GalleryBusyError            another process is writing to the gallery; wait
 +- PredictionError             values are to be predicted that the model does not know
 +- ItemNotFoundError           no such item in this generation
 +- DamagedItemError            an item's stored bytes fail their checksum
 +- FilterError                 a filter expression that cannot be understood
"""

from __future__ import annotations

from collections.abc import Iterable


class IndexerError(Exception):
    """Base of every error the indexer room raises on purpose."""


class CatalogueError(IndexerError):
    """A catalogue that cannot be read, lacks a needed column, or holds nothing usable."""


class GalleryError(IndexerError):
    """A gallery folder that is missing, unfinished, damaged or of an unknown format."""


class FeatureMissingError(GalleryError):
    """A feature that is not among those that the gallery keeps of its photos.

    Args:
        name: of the feature.
        kept: names of those that the gallery has.
    """

    def __init__(self, name: str, kept: Iterable[str]) -> None:
        super().__init__(
            f"the gallery keeps no feature {name!r} (it has {', '.join(kept)}): ingest its catalogue into another "
            "folder with a model that makes it, or choose a matcher that does not need it"
        )
        self.name = name


class StoreUnavailableError(GalleryError):
    """An engine of a cluster (Milvus, the store) that does not answer in time: a host fails over, or is down."""

    retry_after_s = 5


class GalleryModelMismatchError(IndexerError):
    """A gallery whose features come from another model."""


class GalleryBusyError(IndexerError):
    """A gallery that another process is writing to at the moment."""


class PredictionError(IndexerError):
    """Values are to be predicted that the model does not know."""


class EditError(IndexerError):
    """An edit that was refused, and why; nothing of it is in the gallery. The message names no path."""


class GalleryFullError(EditError):
    """No room for the edit on the gallery's disk."""


class BacklogError(EditError):
    """More edits wait for being folded into the index than may."""

    retry_after_s = 60


class EditBusyError(EditError):
    """The database did not come free in time; the same edit may be tried again."""

    retry_after_s = 2


class ReadOnlyError(EditError):
    """A gallery that this process may read but not write."""


class EditFailedError(EditError):
    """The database failed; the log has the reason."""


class TooMuchMetadataError(EditError):
    """An item's metadata would outgrow what is kept of one; nothing of the change was."""


class ItemNotFoundError(IndexerError):
    """An item that is not in the gallery's current generation.

    Args:
        item_id: the id that was asked for.
    """

    def __init__(self, item_id: str) -> None:
        super().__init__(f"no item {item_id!r} in this gallery")
        self.item_id = item_id


class DamagedItemError(IndexerError):
    """An item whose stored features or photo do not match their checksum.

    Args:
        item_id: the damaged item.
        part: what is damaged: the name of a feature, or "photo".
    """

    def __init__(self, item_id: str, part: str) -> None:
        super().__init__(
            f"item {item_id!r} has damaged data in the gallery ({part}: checksum mismatch or missing); "
            "ingest its catalogue again: what is damaged is encoded anew"
        )
        self.item_id = item_id
        self.part = part


class FilterError(IndexerError):
    """A filter expression that cannot be parsed or names an unknown column.

    Args:
        message: what was found and what is allowed.
        expression: the whole expression.
        position: offset of the offending part in the expression, in characters from 0.
    """

    def __init__(self, message: str, *, expression: str, position: int = 0) -> None:
        super().__init__(f"{message} (at character {position + 1} of {expression!r})")
        self.expression = expression
        self.position = position
