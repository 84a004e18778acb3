"""A configuration says what is wrong with it."""

from __future__ import annotations

from typing import Any

import pytest

from threadmatch.model.config import GRNetConfig
from threadmatch.model.errors import ConfigError


def test_a_configuration_survives_json() -> None:
    config = GRNetConfig(scales=("1x1", "2x3"), blend=("greedy",), steps=2)
    assert GRNetConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"scales": ("2x2",)}, "1x1"),
        ({"scales": ("1x1", "2by2")}, "2by2"),
        ({"scales": ("1x1", "2x2", "2x2")}, "twice"),
        ({"steps": 0}, "steps"),
        ({"pool": "sum"}, "pool"),
        ({"edges": "none"}, "recompute"),
        ({"dropout": 1.0}, "dropout"),
        ({"blend": ("cosine",)}, "cosine"),
        ({"neck_channels": -1}, "neck_channels"),
    ],
)
def test_a_wrong_value_is_refused_by_name(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        GRNetConfig(**settings)


@pytest.mark.parametrize(
    "settings",
    [{"neck_channels": "wide"}, {"scales": 3}, {"position_code": "yes"}, {"dropout": "much"}, {"steps": 2.5}],
)
def test_a_value_of_another_type_is_refused_by_name(settings: dict[str, Any]) -> None:
    [(name, value)] = settings.items()
    with pytest.raises(ConfigError, match=f"{name} is {value!r}; Input should be"):
        GRNetConfig.from_dict(settings)


def test_an_unknown_setting_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="node_channels"):
        GRNetConfig.from_dict({"node_chanels": 3})


def test_a_newer_form_is_refused() -> None:
    with pytest.raises(ConfigError, match="config_version"):
        GRNetConfig.from_dict({"config_version": 99})
