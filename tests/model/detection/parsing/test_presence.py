"""Photos that show no garment are told from those that do; what tells them belongs to one parser's weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from threadmatch.model.descriptions import DEFAULT_PARSER
from threadmatch.model.detection.parsing.detector import load_parser_detector
from threadmatch.model.detection.parsing.presence import (
    PRESENCE_FILE,
    Presence,
    load_presence,
    save_presence,
)
from threadmatch.model.detection.parsing.weights import fingerprint, load_parser, parser_folder
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
    others = [other for other in KINDS if other not in ("flat", "gradient", "landscape")]
    assert all(has_structure(np.asarray(nonsense(other, seed))) for other in others for seed in SEEDS)


def test_what_was_fitted_on_other_weights_is_not_used(tmp_path: Path) -> None:
    fitted = Presence(np.arange(5, dtype=np.float32), -2.5)
    save_presence(fitted, tmp_path, "these weights")
    read = load_presence(tmp_path, "these weights")
    assert read is not None
    mean = np.full(5, 0.1, np.float32)
    assert read(mean) == fitted(mean) == pytest.approx(1 / (1 + np.e**1.5))
    assert load_presence(tmp_path, "others") is None


def test_a_damaged_file_is_named_and_none_at_all_is_fine(tmp_path: Path) -> None:
    assert load_presence(tmp_path, "these weights") is None
    (tmp_path / PRESENCE_FILE).write_bytes(b"no tensors")
    with pytest.raises(CheckpointError, match=PRESENCE_FILE):
        load_presence(tmp_path, "these weights")


def test_the_shipped_parser_has_one_that_belongs_to_it() -> None:
    parser, _ = load_parser(DEFAULT_PARSER)
    assert load_presence(parser_folder(DEFAULT_PARSER), fingerprint(parser)) is not None
