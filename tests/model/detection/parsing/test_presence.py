"""Photos that show no garment are told from those that do; what tells them belongs to one parser's weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from threadmatch.model.descriptions import DEFAULT_PARSER
from threadmatch.model.detection.parsing.detector import ParserDetector, load_parser_detector
from threadmatch.model.detection.parsing.network import lite0_parser
from threadmatch.model.detection.parsing.presence import (
    LEAST_SHARE,
    PRESENCE_FILE,
    Presence,
    load_presence,
    said_by,
    save_presence,
    shows_none,
)
from threadmatch.model.detection.parsing.weights import ParserConfig, fingerprint, load_parser, parser_folder
from threadmatch.model.detection.structure import has_structure
from threadmatch.model.errors import CheckpointError
from threadmatch.model.images import decode_image
from threadmatch.model.synthetic.nonsense import KINDS, as_jpeg, nonsense
from threadmatch.service.demo.sources import SHIPPED_PHOTOS

SEEDS = range(3)  # of those that nothing was fitted on
FEW = 24


def test_pictures_of_no_garment_are_told_from_photos_of_garments() -> None:
    detector = load_parser_detector()
    said = {
        (kind, seed): not detector.parse(decode_image(as_jpeg(nonsense(kind, seed))).pixels).shows_garment
        for kind in KINDS
        for seed in SEEDS
    }
    assert sum(said.values()) >= 0.85 * len(said), [one for one, right in said.items() if not right]
    for kind in KINDS:
        assert any(said[kind, seed] for seed in SEEDS), kind
    for path in sorted(SHIPPED_PHOTOS.rglob("*.jpg"))[:FEW]:
        assert detector.parse(decode_image(path.read_bytes()).pixels).shows_garment, path.name


@pytest.mark.parametrize("kind", ["flat", "gradient"])
def test_one_colour_and_a_gradient_have_no_structure_and_all_other_pictures_do(kind: str) -> None:
    assert not any(has_structure(np.asarray(nonsense(kind, seed))) for seed in range(12))
    others = [other for other in KINDS if other not in ("flat", "gradient", "landscape", "noise")]
    assert all(has_structure(np.asarray(nonsense(other, seed))) for other in others for seed in SEEDS)


def test_mere_grain_has_no_structure_and_a_grainy_photo_has() -> None:
    grain = np.random.default_rng(0).normal(0, 60, (300, 200, 3))
    assert not has_structure(np.clip(128 + grain, 0, 255).astype(np.uint8))
    photo = decode_image(sorted(SHIPPED_PHOTOS.rglob("*.jpg"))[0].read_bytes()).pixels
    grainy = photo + grain[:1, :1] + np.random.default_rng(1).normal(0, 25, photo.shape)
    assert has_structure(np.clip(grainy, 0, 255).astype(np.uint8))


@pytest.mark.parametrize(
    ("presence", "structured", "none"),
    [
        (None, True, False),
        (None, False, True),
        (0.4, True, True),
        (0.6, True, False),
        (0.6, False, True),
        (1, False, False),
    ],
)
def test_plain_cloth_that_fills_a_photo_is_a_garment_where_the_networks_are_sure(
    presence: float | None, structured: bool, none: bool
) -> None:
    assert shows_none(presence, structured=structured) is none


def presence() -> Presence:
    """Of five channels and four classes, the first two of which are garments'."""
    shares = np.array([0.6, 0.3, LEAST_SHARE / 2, 0], np.float32)
    return Presence(np.arange(5, dtype=np.float32), -2.5, 4.0, shares, np.array([0.5, 2, 1, 3], np.float32))


def test_what_two_networks_say_is_the_equation_written_as_loops() -> None:
    fitted, mean = presence(), np.full(5, 0.1, np.float32)
    classes = np.array([0.1, 0.2, 0.3, 0.4], np.float32)
    own = sum(0.1 * channel for channel in range(5)) - 2.5
    assert fitted.own(mean) == pytest.approx(own, abs=1e-6)
    mass = sum(p for p, f in zip(classes, fitted.shares, strict=True) if f > LEAST_SHARE)
    likeness = sum(p * f for p, f in zip(classes, fitted.shares, strict=True))
    logit = 0.5 * own + 2 * np.log(mass) + np.log(likeness) + 3
    assert fitted(own, classes) == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-6)
    assert np.isfinite(said_by(np.array([0, 0, 0, 1], np.float32), fitted.shares)).all(), "no garment's class at all"


def test_other_things_are_asked_about_only_where_the_parser_is_unsure() -> None:
    asked: list[tuple[int, ...]] = []

    def things(photo: np.ndarray) -> np.ndarray:
        asked.append(photo.shape)
        return np.array([0, 0, 0, 1], np.float32)

    parser, config = lite0_parser(), ParserConfig(name="untrained", sides_px=(64, 32))
    photo = np.zeros((90, 60, 3), np.uint8)
    channels = parser.encoder(torch.zeros(1, 3, 64, 32))[-1].shape[1]
    for sure, shows in ((-1e6, True), (1e6, False)):
        fitted = replace(presence(), weight=np.zeros(channels, np.float32), sure=sure)
        detector = ParserDetector(parser, config, presence=fitted, things=things)
        assert detector.parse(photo).shows_garment is shows
    assert asked == [photo.shape]


def test_what_was_fitted_on_other_weights_is_not_used(tmp_path: Path) -> None:
    fitted = presence()
    save_presence(fitted, tmp_path, "these weights")
    read = load_presence(tmp_path, "these weights")
    assert read is not None
    classes = np.full(4, 0.25, np.float32)
    assert (read.sure, read(1.5, classes)) == (fitted.sure, fitted(1.5, classes))
    assert read.own(np.ones(5, np.float32)) == fitted.own(np.ones(5, np.float32))
    assert load_presence(tmp_path, "others") is None


def test_a_damaged_file_is_named_and_none_at_all_is_fine(tmp_path: Path) -> None:
    assert load_presence(tmp_path, "these weights") is None
    (tmp_path / PRESENCE_FILE).write_bytes(b"no tensors")
    with pytest.raises(CheckpointError, match=PRESENCE_FILE):
        load_presence(tmp_path, "these weights")


def test_the_shipped_parser_has_one_that_belongs_to_it() -> None:
    parser, _ = load_parser(DEFAULT_PARSER)
    assert load_presence(parser_folder(DEFAULT_PARSER), fingerprint(parser)) is not None
