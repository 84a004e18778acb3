"""Mixed precision leaves weights, losses and the network's own classes as they were, and learns as float32 does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from timm.layers import Conv2dSame
from torch import nn

from model.errors import ConfigError
from model.train.compute import depthwise_in_float32, keep_freed_memory, mixed
from model.train.finetune import FinetuneSettings
from model.train.fit import FitSettings


def test_a_precision_that_is_none_is_named() -> None:
    for settings in (FitSettings, FinetuneSettings):
        with pytest.raises(ConfigError, match="'float8' is not known, known are float32, bfloat16"):
            settings(precision="float8")
        assert replace(settings(), precision="bfloat16").precision == "bfloat16"


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_matrix_products_are_in_the_precision_and_depthwise_convolutions_are_not(precision: str) -> None:
    wanted = getattr(torch, precision)
    net = nn.Sequential(
        nn.Conv2d(4, 8, 1), nn.Conv2d(8, 8, 3, groups=8), Conv2dSame(8, 8, 3, stride=2, groups=8), nn.Conv2d(8, 2, 1)
    )
    kinds = [type(layer) for layer in net]
    seen: list[torch.dtype] = []
    for layer in net:
        layer.register_forward_hook(lambda _layer, _given, out: seen.append(out.dtype))
    with depthwise_in_float32(net), mixed(precision):  # type: ignore[arg-type]
        out = net(torch.randn(1, 4, 6, 6))
    assert seen == [wanted, torch.float32, torch.float32, wanted]
    out.float().sum().backward()
    assert {one.grad.dtype for one in net.parameters() if one.grad is not None} == {torch.float32}
    assert [type(layer) for layer in net] == kinds, "the classes are put back"


def test_the_classes_are_put_back_after_an_error_too() -> None:
    layer = nn.Conv2d(2, 2, 1, groups=2)
    with pytest.raises(ZeroDivisionError), depthwise_in_float32(layer):
        raise ZeroDivisionError
    assert type(layer) is nn.Conv2d


def test_a_process_that_keeps_its_memory_works_on(tmp_path: Path) -> None:
    keep_freed_memory()
    blocks = [torch.zeros(2**22) for _ in range(4)]
    del blocks
    assert float(torch.ones(2**22).sum()) == 2**22
