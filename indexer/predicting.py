"""Values of attributes that a model reads off photos, as metadata of the items: asked for, and marked by their names.

Letters  A attributes, D embedding size
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

from threadmatch.indexer.catalogue.values import metadata_json
from threadmatch.indexer.errors import DamagedItemError, PredictionError
from threadmatch.indexer.store import records
from threadmatch.indexer.store.versions import Store
from threadmatch.model.attributes.values import PREDICTED, Floats, ValueDirections, predicted_columns
from threadmatch.model.features import ATTRIBUTES, Encoder


@runtime_checkable
class Predicts(Protocol):
    """A model that may know attributes."""

    @property
    def attributes(self) -> ValueDirections | None:
        """Those that it knows."""
        ...


class Predictor:
    """Adds to metadata what photos seem to show.

    Args:
        known: attributes of the model, values of one at least among them.
        store: that keeps the photos' features already.
    """

    def __init__(self, known: ValueDirections, store: Store) -> None:
        self._known, self._store = known, store

    @classmethod
    def of(cls, model: Encoder, store: Store) -> Predictor:
        """Of a model.

        Raises:
            PredictionError: it knows no values.
        """
        known = model.attributes if isinstance(model, Predicts) else None
        if known is None or not any(attribute.values for attribute in known.attributes):
            raise PredictionError(
                f"model {model.name!r} cannot tell values of attributes; take one that was trained for them, or leave "
                "--predict out"
            )
        return cls(known, store)

    def added(self, metadata: str, content: int) -> str:
        """A row's metadata (a JSON object) with the predicted columns of its content's photo.

        Raises:
            DamagedItemError: the photo's features cannot be read.
        """
        spec = next(spec for spec in self._store.features if spec.name == ATTRIBUTES)
        record = records.read(self._store.connection, spec, [content]).get(content)
        if record is None:
            raise DamagedItemError(f"content {content}", ATTRIBUTES)
        return metadata_json(json.loads(metadata) | columns_of(self._known, spec.unpack([record])[0]))


def columns_of(known: ValueDirections, embeddings: Floats) -> dict[str, Any]:
    """The predicted columns of one photo's (A, D) embeddings."""
    [said] = known.predict(np.asarray(embeddings, np.float32)[None])
    return dict(predicted_columns(said))


def is_predicted(columns: Iterable[str] | Mapping[str, Any]) -> bool:
    """Whether a gallery's columns are partly predicted, so that items that are put later should have them too."""
    return any(name.startswith(PREDICTED) for name in columns)
