"""The store of decoded images: crops, orientations, padding, memory and mapped file alike."""

import errno
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mirl.data.store import SYMMETRIES, ImageStore, turned
from mirl.errors import MirlError

SIZES = [(40, 50), (33, 32), (64, 32)]


def images(channels: int = 3) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, channels), dtype=np.uint8) for size in SIZES]


def places(store: ImageStore, patch: int, count: int = 40) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(1)
    index = rng.integers(0, len(store), count)
    return (
        index,
        rng.integers(0, store.heights[index] - patch + 1),
        rng.integers(0, store.widths[index] - patch + 1),
        np.arange(count) % SYMMETRIES,
    )


def test_a_crop_is_the_pixels_of_its_image_turned():
    store = ImageStore(((image, 255 - image) for image in images()), 32)
    index, top, left, symmetry = places(store, 32)
    clean, twin = store.crops(index, top, left, symmetry, 32)
    for k, i in enumerate(index):
        expected = turned(images()[i][top[k] : top[k] + 32, left[k] : left[k] + 32], symmetry[k])
        assert np.array_equal(clean[k].numpy(), expected)
        assert np.array_equal(twin[k].numpy(), 255 - expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_gather_of_a_gpu_equals_the_copies_of_the_cpu(channels):
    store = ImageStore(((image, image[::-1]) for image in images(channels)), 24)
    copied = store.crops(*places(store, 24), 24)
    store._on_device = torch.from_numpy(store._bytes.reshape(-1, channels).copy())
    gathered = store.crops(*places(store, 24), 24)
    assert all(torch.equal(a, b) for a, b in zip(copied, gathered, strict=True))


def test_the_orientations_are_the_group_of_the_square():
    square = np.arange(9).reshape(3, 3, 1)
    views = [turned(square, s).tobytes() for s in range(SYMMETRIES)]
    assert len(set(views)) == 8
    for a in range(SYMMETRIES):
        combined = [turned(turned(square, a), b).tobytes() for b in range(SYMMETRIES)]
        assert sorted(combined) == sorted(views)  # closed, and every element has its inverse
    assert {np.rot90(square, k).tobytes() for k in range(4)} < set(views)
    # The first four never turn by 90 degrees.
    assert {turned(square, s).tobytes() for s in range(4)} == {
        v.tobytes() for v in (square, square[::-1], square[:, ::-1], square[::-1, ::-1])
    }


def test_a_mapped_store_equals_one_in_memory_and_leaves_no_file(tmp_path):
    pairs = [(image, image[:, ::-1]) for image in images()]
    memory = ImageStore(iter(pairs), 32)
    for limit in (0, 10_000, memory.nbytes - 1):  # from the first image on, in the middle, with the last
        mapped = ImageStore(iter(pairs), 32, memory_limit_bytes=limit, folder=tmp_path)
        assert mapped.mapped
        assert not memory.mapped
        for a, b in zip(memory.crops(*places(memory, 32), 32), mapped.crops(*places(mapped, 32), 32), strict=True):
            assert torch.equal(a, b)
        assert list(tmp_path.iterdir()) == []
    assert not ImageStore(iter(pairs), 32, memory_limit_bytes=memory.nbytes).mapped


def test_a_mapped_store_frees_its_file(tmp_path):
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        pytest.skip("needs /proc")

    def open_files() -> int:
        return sum(str(tmp_path) in str(link.readlink()) for link in descriptors.iterdir() if link.is_symlink())

    def mapped_files() -> int:
        return Path("/proc/self/maps").read_text().count(str(tmp_path))

    store = ImageStore(((image, None) for image in images()), 8, memory_limit_bytes=0, folder=tmp_path)
    assert mapped_files() == 1
    del store
    assert (open_files(), mapped_files()) == (0, 0)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 40))
def test_an_image_smaller_than_the_patch_is_continued_by_reflection(height, width, side):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    store = ImageStore([(image, 255 - image)], side)
    stored = store.image(0)
    assert stored.shape == (max(height, side), max(width, side), 3)
    assert np.array_equal(stored[:height, :width], image)
    assert np.array_equal(store.image(0, degraded=True), 255 - stored)
    if 1 < height < side:
        assert np.array_equal(stored[height, :width], image[height - 2])
    if 1 < width < side:
        assert np.array_equal(stored[:height, width], image[:, width - 2])


def test_stored_images_cannot_be_changed_by_accident():
    with pytest.raises(ValueError, match="read-only"):
        ImageStore([(images()[0], None)], 8).image(0)[0] = 0


def test_a_store_refuses_nothing_and_unequal_twins():
    a, b, _ = images()
    with pytest.raises(MirlError, match="no image to store"):
        ImageStore([], 8)
    with pytest.raises(MirlError, match="twins of one size"):
        ImageStore([(a, b)], 8)
    with pytest.raises(MirlError, match="twin for every image of a store or for none"):
        ImageStore([(a, a), (b, None)], 8)


def test_a_full_disk_is_one_line_that_says_where(tmp_path, monkeypatch):
    class Full:
        def write(self, _):
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self):
            pass

    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: Full())
    with pytest.raises(MirlError, match=r"cannot keep decoded images in .*No space left.*TMPDIR"):
        ImageStore([(images()[0], None)], 8, memory_limit_bytes=0, folder=tmp_path)
