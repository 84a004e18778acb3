"""The tabulated form against the network that it is made from, and what all attributes cost beside an encoding."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.model.attributes.conftest import EARLY, LATE, Build
from threadmatch.model.attributes.reader import AttributeReader


@pytest.mark.parametrize("form", ["ag-man", "asenet-v2"])
def test_the_tabulated_form_gives_the_networks_embeddings_and_attention(build: Build, form: str) -> None:
    network = build(form)
    levels = torch.randn(3, LATE + EARLY, 4, 5, generator=torch.Generator().manual_seed(8))
    embeddings, attention = AttributeReader(network)(levels)
    torch.testing.assert_close(embeddings, network(levels).embeddings)
    torch.testing.assert_close(attention, network(levels).attention)
    assert not list(AttributeReader(network).parameters())  # tables, nothing to learn


@pytest.mark.parametrize("form", ["ag-man", "asenet-v2"])
def test_the_operations_said_are_those_counted(build: Build, form: str) -> None:
    reader = AttributeReader(build(form))
    with FlopCounterMode(display=False) as counter:
        reader(torch.randn(1, LATE + EARLY, 6, 5))
    assert reader.flops((6, 5)) == counter.get_total_flops()
