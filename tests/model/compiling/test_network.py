"""A converted network answers as torch's, or is not used."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from threadmatch.model.compiling.network import compile_network, import_openvino, probe_photo
from threadmatch.model.errors import CompileError
from threadmatch.model.inference import load_model


class Small(nn.Module):
    """A convolution and a pooling of any size of photo."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.convolution = nn.Conv2d(3, 4, 3)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.convolution(pixels.permute(0, 3, 1, 2).float() / 255).relu()
        return maps.mean(dim=(2, 3)), maps


class Sorted(Small):
    """What the converter does not know: a complex spectrum."""

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        return torch.linalg.eigvals(pixels[:, :3, :, 0].float()).abs(), pixels.float()


class Frozen(Small):
    """Traced it always says of every photo what it said of the first."""

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        first, maps = super().forward(pixels)
        return first * float(pixels.float().std()), maps


def photos(count: int, height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(count).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def agree(network: nn.Module, compiled: object, given: NDArray[np.uint8]) -> None:
    with torch.inference_mode():
        expected = network(torch.from_numpy(given))
    assert callable(compiled)
    for values, found in zip(expected, compiled(given), strict=True):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, values.numpy(), atol=1e-5)


def test_any_number_of_photos_of_the_sizes_asked_for(tmp_path: Path) -> None:
    network = Small().eval()
    compiled = compile_network(network, [probe_photo(32, 24), probe_photo(24, 32)], key="small", cache=tmp_path)
    for given in (photos(1, 32, 24), photos(5, 24, 32), photos(2, 32, 24)):
        agree(network, compiled, given)


def test_the_first_start_answers_as_all_later_ones_to_the_last_bit(tmp_path: Path, tiny_model_folder: Path) -> None:
    """Else two workers of one service could order what ties in two ways."""
    first, later = (
        load_model(tiny_model_folder, device="cpu", engine="openvino", cache=tmp_path / "kept") for _ in range(2)
    )
    side = first.image_px
    given = photos(3, side, side)
    for name, values in first.encode(given).items():
        np.testing.assert_array_equal(later.encode(given)[name], values, name)


def test_another_process_finds_it_and_a_damaged_one_is_made_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    network, probes = Small().eval(), [probe_photo(16, 16)]
    compile_network(network, probes, key="small", cache=tmp_path)
    [entry] = tmp_path.iterdir()
    written = (entry / "network.bin").stat().st_mtime_ns
    agree(network, compile_network(network, probes, key="small", cache=tmp_path), photos(2, 16, 16))
    assert (entry / "network.bin").stat().st_mtime_ns == written
    (entry / "network.bin").write_bytes(b"")
    agree(network, compile_network(network, probes, key="small", cache=tmp_path), photos(2, 16, 16))
    assert (entry / "network.bin").stat().st_size
    assert "converted network is damaged, made again" in [record.message for record in caplog.records]


def test_what_is_compiled_is_kept_for_this_processor_and_compiled_anew_on_another(tmp_path: Path) -> None:
    network, probes, given = Small().eval(), [probe_photo(16, 16)], photos(2, 16, 16)
    first = compile_network(network, probes, key="small", cache=tmp_path)
    [entry] = tmp_path.iterdir()
    [compiled] = entry.glob("*.blob")
    receipt = json.loads((entry / "receipt.json").read_bytes())
    digest = receipt.pop(compiled.name)  # as all else, it is read only where it is what was written
    assert digest == hashlib.sha256(compiled.read_bytes()).hexdigest()
    (entry / "network.xml").write_bytes(b"no network: not read where the compiled one is")
    receipt["network.xml"] = hashlib.sha256((entry / "network.xml").read_bytes()).hexdigest()
    (entry / "receipt.json").write_text(json.dumps({**receipt, compiled.name: digest}))
    later = compile_network(network, probes, key="small", cache=tmp_path)
    for mine, theirs in zip(later(given), first(given), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert (entry / "network.xml").read_bytes().startswith(b"no network")

    compile_network(network, probes, key="elsewhere", cache=tmp_path)
    [entry] = tmp_path.glob("elsewhere-*")
    [compiled] = entry.glob("*.blob")
    compiled.rename(entry / "f32-another.blob")
    receipt = json.loads((entry / "receipt.json").read_bytes())
    receipt["f32-another.blob"] = receipt.pop(compiled.name)
    (entry / "receipt.json").write_text(json.dumps(receipt))
    agree(network, compile_network(network, probes, key="elsewhere", cache=tmp_path), given)
    assert (entry / "f32-another.blob").is_file(), "the entry was believed"


@pytest.mark.parametrize("holds", [b"", b"no network"])
def test_what_was_compiled_and_cannot_be_read_is_made_again(tmp_path: Path, holds: bytes) -> None:
    network, probes = Small().eval(), [probe_photo(16, 16)]
    compile_network(network, probes, key="small", cache=tmp_path)
    [entry] = tmp_path.iterdir()
    [compiled] = entry.glob("*.blob")
    compiled.write_bytes(holds)
    receipt = json.loads((entry / "receipt.json").read_bytes())
    (entry / "receipt.json").write_text(json.dumps({**receipt, compiled.name: hashlib.sha256(holds).hexdigest()}))
    agree(network, compile_network(network, probes, key="small", cache=tmp_path), photos(2, 16, 16))
    assert compiled.read_bytes() != holds


def test_what_is_kept_of_another_network_is_not_believed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    probes = [probe_photo(16, 16)]
    compile_network(Small(seed=1).eval(), probes, key="same", cache=tmp_path)
    network = Small(seed=2).eval()
    for _ in range(2):  # and what replaces it is
        agree(network, compile_network(network, probes, key="same", cache=tmp_path), photos(3, 16, 16))
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == [
        "converted network answers otherwise than torch, made again"
    ]


@pytest.mark.parametrize("kind", [Sorted, Frozen])
def test_a_network_that_cannot_be_converted_faithfully_is_refused(tmp_path: Path, kind: type[Small]) -> None:
    with pytest.raises(CompileError, match="OpenVINO"):
        compile_network(kind().eval(), [probe_photo(16, 16), probe_photo(24, 16)], key="odd", cache=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_threads_may_ask_at_once(tmp_path: Path) -> None:
    network = Small().eval()
    compiled = compile_network(network, [probe_photo(16, 16)], key="small", cache=None)
    failed: list[BaseException] = []

    def ask(count: int) -> None:
        try:
            for _ in range(20):
                agree(network, compiled, photos(count, 16, 16))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=ask, args=(count,)) for count in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


def test_openvino_is_imported_without_its_telemetry() -> None:
    import_openvino()
    assert importlib.util.find_spec("openvino_telemetry") is not None, "it is installed"
    assert not [name for name in sys.modules if name.startswith("openvino_telemetry")]
    assert "openvino.tools.ovc.telemetry_stub" in sys.modules, "what OpenVINO takes where it is not there"
