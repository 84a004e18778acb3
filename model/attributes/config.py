"""What a network of attributes is: its form, its two stages of the backbone, and the attributes with their values.

Letters  A attributes, d width of an embedding
Paper    Xiao and Yamasaki, IEEE Access 2024 (AG-MAN); Ma et al., AAAI 2020 (ASEN)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Literal, get_args

from threadmatch.model.errors import ConfigError
from threadmatch.model.settings import check_type

Form = Literal["ag-man", "asenet-v2"]
Classifier = Literal["rest", "pooled", "none"]
SCALE: Final = 16.0
"""Of a cosine with a value's direction before the softmax over values, where nothing else is fitted."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute and what it can be.

    Fields:
        name: as requests and columns call it, such as "neckline".
        values: known ones, such as "v" and "crew"; () where a network was trained without names of values.
        scale: of the cosine with a value's direction; above 0. Fitted on held-out photos, so that a probability holds.
    """

    name: str
    values: tuple[str, ...] = ()
    scale: float = SCALE

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ConfigError(f"attribute {self.name!r} is no plain word; filters write it as predicted.NAME")
        if len(set(self.values)) != len(self.values):
            raise ConfigError(f"attribute {self.name!r} names a value twice: {', '.join(self.values)}")
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise ConfigError(f"attribute {self.name!r} has scale {self.scale}, expected a number above 0")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"name": self.name, "values": list(self.values), "scale": self.scale}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Attribute:
        """Read what `to_dict` wrote.

        Raises:
            ConfigError: something else.
        """
        try:
            return cls(str(values["name"]), tuple(map(str, values["values"])), float(values["scale"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"an attribute has name, values and scale; found {values!r}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributeConfig:
    """One network of attributes. The defaults are those that ship, on EfficientNet-Lite0; `PAPER` is the paper's."""

    form: Form = "ag-man"
    """"ag-man", or "asenet-v2", which the paper compares with: no fusion, no spatial gate, no masks, tanh for swish."""
    early: int = 5
    """Stage of the backbone, counted from 0 as in `Backbone.split`, whose map is fused into that of `late`."""
    late: int = 7
    """Stage whose map is attended to."""
    width: int = 256
    """d: channels that are attended to, and the size of an embedding (ASENet_V2's embedding is as wide as the map)."""
    classifier: Classifier = "pooled"
    """Where the attribute classifier reads, while training: "rest" is the paper's, the fused map carried through the
    backbone's remaining stages; "pooled" the fused map itself, for a backbone that stays frozen; "none"."""
    attributes: tuple[Attribute, ...] = ()

    def __post_init__(self) -> None:
        for name, kind in (("form", Form), ("classifier", Classifier)):
            if getattr(self, name) not in get_args(kind):
                raise ConfigError(f"{name} is {getattr(self, name)!r}, expected one of {get_args(kind)}")
        if not 0 <= self.early < self.late:
            raise ConfigError(f"early is stage {self.early} and late {self.late}; expected 0 <= early < late")
        if not self.attributes:
            raise ConfigError("attributes is empty, expected at least one")
        names = [attribute.name for attribute in self.attributes]
        if len(set(names)) != len(names):
            raise ConfigError(f"attributes name one twice: {', '.join(names)}")
        if self.width < len(names):
            raise ConfigError(
                f"width is {self.width}; the masks give each of {len(names)} attributes a channel at least"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Of the attributes, in the order of the embeddings."""
        return tuple(attribute.name for attribute in self.attributes)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        own = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "attributes"}
        return {**own, "attributes": [attribute.to_dict() for attribute in self.attributes]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> AttributeConfig:
        """Read what `to_dict` wrote.

        Raises:
            ConfigError: an unknown setting, or a value of another type or out of range.
        """
        known = [field.name for field in fields(cls)]
        if unknown := sorted(set(values) - set(known)):
            raise ConfigError(
                f"attributes has the settings {unknown}, known are {', '.join(known)}; update threadmatch"
            )
        given = dict(values)
        listed = given.get("attributes", [])
        if not isinstance(listed, list) or not all(isinstance(one, Mapping) for one in listed):
            raise ConfigError(f"attributes is {listed!r}, expected a list of name, values and scale")
        given["attributes"] = tuple(Attribute.from_dict(one) for one in listed)
        for name, value in given.items():
            check_type(cls, name, value)
        return cls(**given)


PAPER_BACKBONE: Final = "timm:resnet50"
"""ResNet-50; with IMAGE_PX 224 its layer2 and layer3 give 512 x 28 x 28 and 1024 x 14 x 14."""


def paper_config(attributes: tuple[Attribute, ...]) -> AttributeConfig:
    """AG-MAN as its authors built it, on PAPER_BACKBONE: layer2 fused into layer3, layer4 before the classifier."""
    return AttributeConfig(early=2, late=3, width=512, classifier="rest", attributes=attributes)
