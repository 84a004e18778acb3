"""Many labelled images encoded once, decoded on all cores beside the model, and kept in a cache folder.

Letters  n images, E embedding size, R regions, C channels
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from threadmatch.model.coded import Stored, floats
from threadmatch.model.data.pairs import LabelledImage
from threadmatch.model.data.photo_reading import decoded, identity
from threadmatch.model.features import EMBEDDING, REGIONS, FeatureSpec
from threadmatch.model.inference import Model
from threadmatch.model.matching import Floats, Items, Photo
from threadmatch.model.progress import Progress, unheard


@dataclass(frozen=True, slots=True)
class EncodedSet:
    """Labelled images and their features by name: (n, *shape) each, float32 where the feature is, float16 else, or in
    the form that a gallery keeps (`as_kept`)."""

    images: list[LabelledImage]
    features: Mapping[str, Stored]

    @property
    def embeddings(self) -> NDArray[np.float32]:
        """(n, E), what stage one compares."""
        return np.asarray(self.features[EMBEDDING], np.float32)

    @property
    def regions(self) -> Floats:
        """(n, R, C)."""
        return floats(self.features[REGIONS])

    def having(self, **features: Floats) -> EncodedSet:
        """With these features added or in place of those of the same name."""
        return replace(self, features={**self.features, **features})

    def as_kept(self, specs: Iterable[FeatureSpec]) -> EncodedSet:
        """The same as a gallery would have them: what loses bits on disk has lost them.

        Args:
            specs: of these features; of those that it does not name nothing changes.
        """
        coarse = {spec.name: spec for spec in specs if spec.dtype not in ("float32", "float16")}
        kept = {
            name: coarse[name].stored([coarse[name].pack(one) for one in np.asarray(values)])
            for name, values in self.features.items()
            if name in coarse
        }
        return replace(self, features={**self.features, **kept})

    def photo(self, n: int) -> Photo:
        """The features of one image: (*shape) each."""
        return {name: floats(values[n : n + 1])[0] for name, values in self.features.items()}

    def items(self, at: NDArray[np.int64], names: Iterable[str]) -> Items:
        """The named features of some images: (len(at), *shape) each."""
        return {name: self.features[name][at] for name in names}


def encode_images(
    model: Model,
    images: Sequence[LabelledImage],
    *,
    cache: Path | None = None,
    workers: int = 2,
    progress: Progress = unheard,
) -> EncodedSet:
    """Encode labelled images.

    Args:
        model: whose features.
        images: to encode; read from disk.
        cache: folder to keep the result in, by the model's features, the paths and the boxes; None keeps nothing.
        workers: decoding processes.
        progress: hears how many images are done.

    Raises:
        DataError: an image cannot be read; it is named.
    """
    names = [spec.name for spec in model.features]
    files = {name: cache / f"{_key(model, images)}.{name}.npy" for name in names} if cache is not None else {}
    if files and files[names[-1]].exists():
        return EncodedSet(list(images), {name: np.load(file) for name, file in files.items()})
    made = {
        spec.name: np.empty((len(images), *spec.shape), np.float32 if spec.dtype == "float32" else np.float16)
        for spec in model.features
    }
    done = 0
    for pixels in decoded(images, image_px=model.image_px, framing=model.framing, workers=workers):
        for name, values in model.encode(pixels).items():
            made[name][done : done + len(pixels)] = values
        done += len(pixels)
        progress("encoding photos", done, len(images))
    if cache is not None:
        cache.mkdir(parents=True, exist_ok=True)
        for name, file in files.items():  # the last one's presence says that all are whole
            np.save(file, made[name])
    return EncodedSet(list(images), made)


def _key(model: Model, images: Sequence[LabelledImage]) -> str:
    made_by = "".join((model.features_fingerprint, *(spec.made_by for spec in model.features)))
    return hashlib.sha256(made_by.encode() + identity(images)).hexdigest()[:24]
