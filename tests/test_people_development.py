"""The development set is fixed: ten PolyU pairs whose scenes the rest does not have."""

import numpy as np
import pytest
from PIL import Image

from mirl.errors import MirlError
from mirl.evaluate.people import DEVELOPMENT_SCENES, development_crops
from mirl.evaluate.people.development import DEVELOPMENT, PLACE


def test_there_are_ten_pairs_and_a_scene_is_wholly_in():
    assert len(DEVELOPMENT) == 10 == sum(map(len, DEVELOPMENT_SCENES.values()))
    marks = {name.rstrip("0123456789").rstrip("_").rsplit("_", 1)[-1] for name in DEVELOPMENT}
    assert marks == {"bicycle", "GO", "photo", "plant", "waterhouse"}


def test_crops_are_the_middle_of_every_photograph_and_a_missing_one_is_named(tmp_path):
    rng = np.random.default_rng(0)
    for name in DEVELOPMENT:
        for folder, mark in (("input", "real"), ("target", "gt")):
            file = tmp_path / PLACE / folder / f"{name}_{mark}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8)).save(file, quality=95)
    crops = development_crops(tmp_path, 16)
    assert [crop.name for crop in crops] == sorted(DEVELOPMENT)
    assert {crop.degraded.shape for crop in crops} == {crop.clean.shape for crop in crops} == {(16, 16, 3)}
    first = np.asarray(Image.open(tmp_path / PLACE / "target" / f"{crops[0].name}_gt.jpg"))[4:20, 8:24]
    assert np.array_equal(np.rint(crops[0].clean * 255), first)
    with pytest.raises(MirlError, match="32x24 and 32x24 pixels; expected one size of at least 32x32"):
        development_crops(tmp_path, 32)
    (tmp_path / PLACE / "input" / f"{crops[3].name}_real.jpg").unlink()
    with pytest.raises(MirlError, match=crops[3].name):
        development_crops(tmp_path, 16)
