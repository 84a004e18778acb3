"""What stands before a plain ground is told from it, also where it has the ground's colour."""

from __future__ import annotations

import cv2
import numpy as np

from threadmatch.model.detection.ground import without_ground


def test_a_white_shirt_before_a_white_wall_is_kept_and_the_wall_is_not() -> None:
    photo = np.full((200, 160, 3), 250, np.uint8)
    cv2.rectangle(photo, (40, 50), (120, 150), (90, 90, 90), 4)  # its seams; within, it is white too
    kept = without_ground(photo)
    assert kept.shape == (200, 160)
    assert kept[100, 80] == 1
    assert kept[5:40].max() < 0.01
    assert kept[:, 130:].max() < 0.1
    assert 0 <= kept.min() <= kept.max() <= 1


def test_a_photo_of_nothing_but_ground_keeps_nothing() -> None:
    assert without_ground(np.full((30, 40, 3), 7, np.uint8)).max() == 0
