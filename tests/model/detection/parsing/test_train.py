from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from threadmatch.model.detection.parsing.kinds import ANYTHING, BACKGROUND, KINDS, bits
from threadmatch.model.detection.parsing.weights import load_parser
from threadmatch.model.errors import ConfigError, DataError
from threadmatch.model.train.parser.parser_photos import KnownPhoto, PhotoStore, drawn_photo, write_store
from threadmatch.model.train.parser.scenes import SOURCES, Scenes, SceneShares
from threadmatch.model.train.parser.train_parser import read_recipe, train

RECIPE = """
name = "tiny"
[data]
root = "data"
[train]
steps = 3
batch = 2
sides_px = [64, 64]
small_sides_px = [32, 32]
small_share = 0.4
save_every = {save_every}
imagenet = false
{more}
"""


def _photos() -> Iterator[KnownPhoto]:
    rng = np.random.default_rng(0)
    for source in sorted(set(SOURCES.values())):
        for _ in range(2):
            pixels = rng.integers(0, 255, (90, 60, 3)).astype(np.uint8)
            allowed = np.full((90, 60), BACKGROUND, np.uint16)
            if source != "place":
                allowed[20:60, 15:45] = bits(["top"])
                allowed[60:80, 15:45] = bits(["trousers", "skirt"])
            yield KnownPhoto(source, pixels, allowed)


def _recipe(folder: Path, *, save_every: int = 1, more: str = "") -> Path:
    path = folder / "recipe.toml"
    path.write_text(RECIPE.format(save_every=save_every, more=more))
    return path


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write_store(_photos(), tmp_path / "run" / "store")
    return tmp_path / "run"


def test_a_store_gives_back_what_was_written(tmp_path: Path) -> None:
    photos = list(_photos())
    assert write_store(iter(photos), tmp_path) == len(photos)
    store = PhotoStore(tmp_path)
    for number, photo in enumerate(photos):
        np.testing.assert_array_equal(store[number].pixels, photo.pixels)
        np.testing.assert_array_equal(store[number].allowed, photo.allowed)
        assert number in store.by_source[photo.source]


def test_an_unfinished_store_is_no_store(tmp_path: Path) -> None:
    write_store(_photos(), tmp_path)
    (tmp_path / "index.json").unlink()
    with pytest.raises(DataError, match="prepare it first"):
        PhotoStore(tmp_path)


@pytest.mark.parametrize("name", list(SOURCES))
def test_a_scene_has_its_sides_and_its_labels(tmp_path: Path, name: str) -> None:
    write_store(_photos(), tmp_path)
    scenes = Scenes(PhotoStore(tmp_path), SceneShares(**{one: float(one == name) for one in SOURCES}))
    for seed in range(6):
        pixels, allowed = scenes.make(np.random.default_rng(seed), (64, 96), stride=4)
        assert pixels.shape == (64, 96, 3)
        assert pixels.dtype == np.uint8
        assert allowed.shape == (16, 24)
        assert allowed.min() > 0
        assert allowed.max() <= ANYTHING
        if name == "empty":
            assert (allowed == BACKGROUND).all()


def test_a_garment_pasted_elsewhere_takes_its_labels_along(tmp_path: Path) -> None:
    pixels = np.full((90, 60, 3), 120, np.uint8)
    allowed = np.full((90, 60), BACKGROUND, np.uint16)
    pixels[20:70, 10:40], allowed[20:70, 10:40] = (250, 10, 10), bits(["top"])
    write_store([KnownPhoto("laid", pixels, allowed)], tmp_path)
    scenes = Scenes(PhotoStore(tmp_path), SceneShares(**{one: float(one == "pasted") for one in SOURCES}))
    agreed = []
    for seed in range(30):
        scene, sets = scenes.make(np.random.default_rng(seed), (64, 96), stride=4)
        redness = (scene[..., 0].astype(int) - scene[..., 1])[2::4, 2::4]
        agreed.append(redness[sets == bits(["top"])].mean() > 2 * redness[sets == BACKGROUND].mean() + 20)
    assert np.mean(agreed) > 0.85  # some scenes are grey


def test_the_same_numbers_give_the_same_scene(tmp_path: Path) -> None:
    write_store(_photos(), tmp_path)
    scenes = Scenes(PhotoStore(tmp_path), SceneShares())
    for one, other in zip(
        scenes.make(np.random.default_rng(5), (64, 64), stride=4),
        scenes.make(np.random.default_rng(5), (64, 64), stride=4),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_of_a_drawn_garment_only_its_own_pixels_are_known() -> None:
    photo = drawn_photo(3, 0)
    assert photo.pixels.shape[:2] == photo.allowed.shape
    values = set(np.unique(photo.allowed).tolist())
    assert ANYTHING in values
    assert len(values) == 3  # its kinds, everything else, and the seam


def test_training_saves_a_parser_that_loads(tmp_path: Path, run: Path) -> None:
    folder = train(read_recipe(_recipe(tmp_path)), run)
    parser, config = load_parser(folder)
    assert config.name == "tiny"
    assert parser(torch.zeros(1, 3, 64, 64)).shape[1] == len(KINDS)
    assert len((run / "log.jsonl").read_text().splitlines()) == 3


class _Dies(Scenes):
    """Makes so many scenes, then the power is cut."""

    left = 0

    def make(self, rng: np.random.Generator, size: tuple[int, int], *, stride: int) -> tuple[np.ndarray, np.ndarray]:
        if self.left == 0:
            raise RuntimeError("power cut")
        self.left -= 1
        return super().make(rng, size, stride=stride)


def test_a_resumed_training_ends_as_an_uninterrupted_one(tmp_path: Path, run: Path) -> None:
    recipe = read_recipe(_recipe(tmp_path))
    dying = _Dies(PhotoStore(run / "store"), recipe.scenes)
    dying.left = 5
    with pytest.raises(RuntimeError, match="power cut"):
        train(recipe, run, scenes=dying)
    resumed, _ = load_parser(train(recipe, run))
    write_store(_photos(), tmp_path / "whole" / "store")
    whole, _ = load_parser(train(recipe, tmp_path / "whole"))
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, atol=2e-3, rtol=2e-3)


def test_another_recipe_does_not_go_on_with_a_run(tmp_path: Path, run: Path) -> None:
    train(read_recipe(_recipe(tmp_path)), run)
    with pytest.raises(ConfigError, match="another recipe"):
        train(read_recipe(_recipe(tmp_path, more="seed = 4")), run)


@pytest.mark.parametrize(
    ("more", "named"), [("stepps = 4", "stepps"), ("batch = 'two'", "batch"), ("[scene]\nstreet = 1.0", "scene")]
)
def test_a_recipe_with_a_mistake_is_refused_by_name(tmp_path: Path, more: str, named: str) -> None:
    path = _recipe(tmp_path)
    path.write_text(path.read_text().replace("batch = 2\n", "") + more)
    with pytest.raises(ConfigError, match=named):
        read_recipe(path)


def test_shares_of_scenes_must_be_possible() -> None:
    with pytest.raises(ConfigError, match="below 0"):
        SceneShares(street=-1.0)
