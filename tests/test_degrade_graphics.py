"""Rendered graphics: the same generator draws the same picture, each scene looks like what it is called."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mirl.degrade import graphics_pen
from mirl.degrade.graphics import SCENES, _stripes, render_graphic

PHOTO = np.random.default_rng(9).integers(0, 256, (40, 60, 3), np.uint8)


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
@pytest.mark.parametrize("side", [64, 97, 256])
def test_equal_generators_draw_equal_pictures_of_the_asked_size(scene, side):
    first, second = (render_graphic(np.random.default_rng(4), side, PHOTO, scene) for _ in range(2))
    assert first.shape == (side, side, 3)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_a_scene_differs_from_draw_to_draw_and_is_never_empty(scene):
    pictures = [render_graphic(np.random.default_rng(seed), 128, scene=scene) for seed in range(8)]
    assert len({picture.tobytes() for picture in pictures}) == 8
    assert np.median([picture.std() for picture in pictures]) > 8


def test_the_shares_of_the_scenes_sum_to_one_and_their_names_differ():
    assert sum(scene.share for scene in SCENES) == pytest.approx(1.0)
    assert len({scene.name for scene in SCENES}) == len(SCENES)


def test_graphics_are_light_and_dark_with_plain_grounds_and_hard_edges():
    pictures = [render_graphic(np.random.default_rng(seed), 128).astype(np.int16) for seed in range(60)]
    means = np.array([picture.mean() for picture in pictures])
    assert (means < 70).sum() >= 8
    assert (means > 190).sum() >= 8
    steps = [np.abs(np.diff(picture, axis=1)).max(2) for picture in pictures]
    assert np.median([(step == 0).mean() for step in steps]) > 0.5
    assert np.median([(step > 80).mean() for step in steps]) > 0.01


def test_pages_without_other_fonts_use_pillows_own(monkeypatch):
    with_all = graphics_pen.fonts()
    monkeypatch.setattr(graphics_pen, "_dejavu_folder", lambda: Path("no-fonts"))
    assert graphics_pen.fonts() == ("",)
    assert with_all[0] == ""
    for scene in SCENES:
        assert render_graphic(np.random.default_rng(1), 96, scene=scene).std() > 0


def test_screen_stripes_give_grey_text_coloured_fringes():
    edge = Image.fromarray(
        np.repeat(np.where(np.arange(96) < 50, 0, 255).astype(np.uint8)[None, :, None], 96, 0).repeat(3, 2)
    )
    seen = _stripes(edge, 32)
    assert np.ptp(seen[0].astype(int), axis=1).max() > 60
    assert (seen[:, :15] == 0).all()
    assert (seen[:, 18:] == 255).all()
