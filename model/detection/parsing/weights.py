"""A parser on disk: weights.safetensors and config.json; nothing is unpickled.

FOLDER/weights.safetensors   tensors by name, float16
FOLDER/config.json           form, version, kinds, sides
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Final

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from threadmatch.model.descriptions import DEFAULT_PARSER
from threadmatch.model.detection.parsing.kinds import KINDS
from threadmatch.model.detection.parsing.network import Parser, lite0_parser
from threadmatch.model.errors import CheckpointError

SHIPPED: Final = Path(__file__).parent / "weights"
WEIGHTS_FILE: Final = "weights.safetensors"
CONFIG_FILE: Final = "config.json"
FORM: Final = "lite0"
VERSION: Final = 1


class ParserConfig(BaseModel):
    """What config.json says.

    Fields:
        name: of the parser.
        form: how it is built.
        kinds: of its channels, in order.
        sides_px: what it sees of an upright photo, height and width; a lying one the other way round.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=100)
    form: str = FORM
    version: int = VERSION
    kinds: tuple[str, ...] = KINDS
    sides_px: tuple[int, int] = (256, 192)


def save_parser(parser: Parser, folder: Path, config: ParserConfig) -> None:
    """Write a parser's folder; weights in float16."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: value.detach().cpu().half().contiguous()
        for name, value in parser.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    save_file(tensors, folder / WEIGHTS_FILE)
    (folder / CONFIG_FILE).write_text(json.dumps(config.model_dump(), indent=2) + "\n")


def fingerprint(parser: Parser) -> str:
    """SHA-256 name of a parser's weights, 16 hex digits; those that `save_parser` halves count as halved."""
    digest = hashlib.sha256(f"{FORM} {VERSION} {KINDS}".encode())
    for name, value in sorted(parser.state_dict().items()):
        if not name.endswith("num_batches_tracked"):
            digest.update(f"{name}{tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().half().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def parser_folder(name_or_folder: str | Path) -> Path:
    """Where a parser's files are: a folder, or that of a shipped one by its name."""
    return SHIPPED / name_or_folder if str(name_or_folder) == DEFAULT_PARSER else Path(name_or_folder)


def load_parser(folder: str | Path = DEFAULT_PARSER) -> tuple[Parser, ParserConfig]:
    """Read a parser, ready to answer.

    Args:
        folder: with the two files, or the name of a shipped one.

    Raises:
        CheckpointError: a file is missing or damaged, or the two do not belong together.
    """
    folder = parser_folder(folder)
    try:
        config = ParserConfig.model_validate_json((folder / CONFIG_FILE).read_bytes())
    except (OSError, ValidationError) as error:
        raise CheckpointError(f"no parser in {folder}: {CONFIG_FILE} cannot be used ({error})") from error
    expected = (FORM, VERSION, KINDS)
    if (config.form, config.version, config.kinds) != expected:
        raise CheckpointError(
            f"{folder / CONFIG_FILE} describes form {config.form!r}, version {config.version}, kinds {config.kinds}; "
            f"expected {expected}"
        )
    parser = lite0_parser()
    try:
        weights = {name: value.float() for name, value in load_file(folder / WEIGHTS_FILE).items()}
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{folder / WEIGHTS_FILE} cannot be read ({error})") from error
    counters = {name for name in parser.state_dict() if name.endswith("num_batches_tracked")}
    try:
        missing, unknown = parser.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise CheckpointError(f"{folder / WEIGHTS_FILE} does not fit: {error}"[:2000]) from error
    if unknown or set(missing) - counters:
        wrong = sorted({*unknown, *(set(missing) - counters)})
        raise CheckpointError(f"{folder / WEIGHTS_FILE} does not fit: {len(wrong)} tensors, {wrong[:3]} ...")
    if not all(bool(value.isfinite().all()) for value in weights.values()):
        raise CheckpointError(f"{folder / WEIGHTS_FILE} holds values that are no numbers")
    parser.eval().requires_grad_(False).to(memory_format=torch.channels_last)
    return parser, config
