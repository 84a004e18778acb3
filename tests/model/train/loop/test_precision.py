"""Mixed precision leaves weights, losses and the network's own classes as they were, and learns as float32 does."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from timm.layers import Conv2dSame
from torch import nn

from tests.support.checkout import IMPORT_PATH
from tests.support.patience import PATIENCE_S
from threadmatch.model.errors import ConfigError
from threadmatch.model.train.loop.precision import Precision, mixed
from threadmatch.model.train.phases.end_to_end import EndToEndSettings
from threadmatch.model.train.phases.finetune import FinetuneSettings
from threadmatch.model.train.phases.head import HeadSettings


def test_a_precision_that_is_none_is_named() -> None:
    for settings in (HeadSettings, FinetuneSettings, EndToEndSettings):
        with pytest.raises(ConfigError, match="'float8' is not known, known are float32, bfloat16"):
            settings(precision="float8")
        assert replace(settings(), precision="bfloat16").precision == "bfloat16"


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_matrix_products_are_in_the_precision_and_depthwise_convolutions_are_not(precision: Precision) -> None:
    wanted = getattr(torch, precision)
    net = nn.Sequential(
        nn.Conv2d(4, 8, 1), nn.Conv2d(8, 8, 3, groups=8), Conv2dSame(8, 8, 3, stride=2, groups=8), nn.Conv2d(8, 2, 1)
    )
    seen: list[torch.dtype] = []
    for layer in net:
        layer.register_forward_hook(lambda _layer, _given, out: seen.append(out.dtype))
    with mixed(precision, net):
        out = net(torch.randn(1, 4, 6, 6))
    assert seen == [wanted, torch.float32, torch.float32, wanted]
    out.float().sum().backward()
    assert {one.grad.dtype for one in net.parameters() if one.grad is not None} == {torch.float32}
    assert not any("forward" in vars(layer) for layer in net), "layers are as they were"
    net(torch.randn(1, 4, 6, 6))
    assert set(seen[4:]) == {torch.float32}


def test_layers_are_as_they_were_after_an_error_too() -> None:
    layer = nn.Conv2d(2, 2, 1, groups=2)
    with pytest.raises(ZeroDivisionError), mixed("bfloat16", layer):
        raise ZeroDivisionError
    assert "forward" not in vars(layer)
    assert layer(torch.ones(1, 2, 1, 1)).dtype == torch.float32


ROUNDS = 3
PAGES = 16_384
"""Of 64 MiB: more than the C library keeps by itself."""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's settings")
def test_a_process_that_keeps_its_memory_is_not_handed_the_same_pages_again() -> None:
    """64 MiB that are freed and asked for again are 16,384 new pages each time, or none."""
    given, kept = _page_faults()
    assert given > ROUNDS * 10_000, "else this C library keeps such blocks anyway, and the setting is not needed"
    assert kept < given / 5


def _page_faults() -> list[int]:
    """Before the setting and after it, in a process of its own, since it is for good."""
    program = f"""
import resource, torch
from threadmatch.model.train.loop.precision import keep_freed_memory

def faults(rounds):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        torch.ones(4096 // 4 * {PAGES})
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(faults({ROUNDS}))
keep_freed_memory()
faults(10)  # until the heap is as large as it gets
print(faults({ROUNDS}))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": IMPORT_PATH, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    return [int(line) for line in done.stdout.split()]
