"""Small networks of attributes, trained on nothing, with running statistics and masks that are not as they began."""

from collections.abc import Callable

import pytest
import torch

from threadmatch.model.attributes.config import Attribute, AttributeConfig
from threadmatch.model.attributes.network import AttributeNetwork, build_network

ATTRIBUTES = (Attribute("neckline", ("crew", "v")), Attribute("sleeves", ("short", "long", "none")), Attribute("mood"))
EARLY, LATE, WIDTH = 5, 6, 8

Build = Callable[[str], AttributeNetwork]


@pytest.fixture
def build() -> Build:
    """A network of a form, in evaluation mode."""

    def of(form: str) -> AttributeNetwork:
        config = AttributeConfig(form=form, width=WIDTH, attributes=ATTRIBUTES)  # type: ignore[arg-type]
        with torch.random.fork_rng():
            torch.manual_seed(5)
            network = build_network(config, (EARLY, LATE))
            for name, value in [*network.named_parameters(), *network.named_buffers()]:
                if name.endswith("gain"):
                    value.data.fill_(-0.8 if name == "look_gain" else 1.3)
                elif "running_var" in name:
                    value.uniform_(0.5, 2)
                elif name in ("norm.running_mean", "norm.weight", "norm.bias", "masks"):
                    value.data.uniform_(-0.5, 1)
        return network.eval()

    return of
