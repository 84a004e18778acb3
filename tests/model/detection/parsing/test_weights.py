from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from threadmatch.model.detection.parsing.network import lite0_parser
from threadmatch.model.detection.parsing.weights import (
    CONFIG_FILE,
    SHIPPED,
    WEIGHTS_FILE,
    ParserConfig,
    load_parser,
    save_parser,
)
from threadmatch.model.errors import CheckpointError

MOST_BYTES = 6_000_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("parser")
    save_parser(lite0_parser(), folder, ParserConfig(name="tiny", sides_px=(64, 64)))
    return folder


def _copy(folder: Path, to: Path) -> Path:
    to.mkdir()
    for file in folder.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    return to


def test_a_parser_comes_back_as_it_was_saved(folder: Path) -> None:
    torch.manual_seed(0)
    saved = lite0_parser().half().float().eval()
    loaded, config = load_parser(folder)
    assert config.sides_px == (64, 64)
    photo = torch.full((1, 3, 64, 64), 90, dtype=torch.uint8)
    torch.testing.assert_close(loaded(photo), saved(photo), atol=1e-3, rtol=1e-3)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_a_folder_without_a_parser_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no parser in"):
        load_parser(tmp_path)


def test_a_parser_of_other_kinds_is_refused(folder: Path, tmp_path: Path) -> None:
    other = _copy(folder, tmp_path / "other")
    config = json.loads((other / CONFIG_FILE).read_text()) | {"kinds": ["background", "sock"]}
    (other / CONFIG_FILE).write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="sock"):
        load_parser(other)


def test_torn_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    other = _copy(folder, tmp_path / "torn")
    (other / WEIGHTS_FILE).write_bytes((other / WEIGHTS_FILE).read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_parser(other)


@pytest.mark.parametrize("change", ["missing", "unknown", "shape", "nan"])
def test_weights_that_do_not_fit_are_refused(folder: Path, tmp_path: Path, change: str) -> None:
    other = _copy(folder, tmp_path / change)
    tensors = load_file(other / WEIGHTS_FILE)
    name = "decoder.classify.weight"
    if change == "missing":
        del tensors[name]
    elif change == "unknown":
        tensors["extra"] = torch.zeros(1)
    elif change == "shape":
        tensors[name] = torch.zeros(1)
    else:
        tensors[name] = torch.full_like(tensors[name], float("nan"))
    save_file(tensors, other / WEIGHTS_FILE)
    with pytest.raises(CheckpointError, match=r"does not fit|no numbers"):
        load_parser(other)


@pytest.mark.skipif(not list(SHIPPED.glob(f"*/{WEIGHTS_FILE}")), reason="no parser is shipped yet")
def test_a_shipped_parser_is_small_and_complete() -> None:
    for weights in SHIPPED.glob(f"*/{WEIGHTS_FILE}"):
        assert weights.stat().st_size < MOST_BYTES
        assert {"config.json", "README.md", "recipe.toml", "NOTICE"} <= {file.name for file in weights.parent.iterdir()}
        load_parser(weights.parent)
