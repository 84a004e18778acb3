"""Which parts there are (`part.Part`), and how a checkpoint holds them: a folder each, beside the core's files.

    alignment/config.json         part, fingerprint, core (fingerprint of the features below), settings
    alignment/model.safetensors   its tensors
    alignment/recipe.toml, README.md   how it was trained, and its card

Adding a part is a class and a line in PARTS. A factory imports its part when it is first asked for.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from threadmatch.model.descriptions import CONFIG_FILE
from threadmatch.model.errors import CheckpointError, ConfigError
from threadmatch.model.features import ATTRIBUTES
from threadmatch.model.part import Part
from threadmatch.model.tensor_files import read_fitting, write_described

logger = logging.getLogger(__name__)


def _alignment(settings: Mapping[str, Any]) -> Part:
    from threadmatch.model.alignment.part import AlignmentPart

    return AlignmentPart.from_settings(settings)


def _attributes(settings: Mapping[str, Any]) -> Part:
    from threadmatch.model.attributes.part import AttributesPart

    return AttributesPart.from_settings(settings)


PARTS: Final[dict[str, Callable[[Mapping[str, Any]], Part]]] = {"alignment": _alignment, ATTRIBUTES: _attributes}
"""From a part's settings to the part, untrained; ConfigError for settings that it does not know."""


def read_parts(folder: Path) -> Iterator[Part]:
    """The parts of a checkpoint, trained; none where it has none.

    Raises:
        CheckpointError: one is damaged, torn or unknown to this release.
    """
    for path in sorted(folder.glob(f"*/{CONFIG_FILE}")):
        yield _read(path.parent)


def _read(folder: Path) -> Part:
    path = folder / CONFIG_FILE
    try:
        description: dict[str, Any] = json.loads(path.read_text())
        name, core, said = (str(description[key]) for key in ("part", "core", "fingerprint"))
        settings = dict(description["settings"])
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise CheckpointError(f"{path} is not a description of a model's part ({error!r})") from error
    if name not in PARTS:
        raise CheckpointError(
            f"{path} is of a part {name!r}, known are {', '.join(PARTS) or 'none'}; take the folder out, or use the "
            "release that wrote it"
        )
    try:
        part = PARTS[name](settings)
    except (ConfigError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: {error}") from error
    part.load_state_dict(read_fitting(folder, part.state_dict(), may_lack=frozenset()))
    part.tie(core)
    if part.fingerprint != said:
        raise CheckpointError(
            f"{folder}: {CONFIG_FILE} says fingerprint {said}, the weights are {part.fingerprint}; the two files are "
            "of different parts"
        )
    return part.eval()


def write_parts(parts: Iterable[Part], folder: Path, *, core: str) -> None:
    """Write parts to a checkpoint's folder; those of other features than `core` are left out, and said so."""
    for part in parts:
        if part.core != core:
            logger.warning(
                "a part is left out: it was trained on other features; train it anew",
                extra={"part": part.name, "trained_on": part.core, "features": core},
            )
            continue
        part.tie(core)  # its weights may be others than when it was attached
        description = {
            "part": part.name,
            "fingerprint": part.fingerprint,
            "core": core,
            "settings": part.settings,
        }
        write_described(folder / part.name, description, part.state_dict(), half=True)
