"""Decoded images as one flat uint8 buffer, and crops of them in the eight orientations of a square.

The buffer is in memory or, above a limit, in a temporary file that is mapped into it and has no name: it
vanishes with the process, however that ends. On the CPU a crop is a strided copy (15,000 crops of 64x64 a
second on one core against 7,500 with index arithmetic, bench/stream.py); on a GPU all crops of a batch are
one gather.
"""

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from mirl.errors import MirlError

DEFAULT_MEMORY_LIMIT_BYTES = 4 * 2**30

SYMMETRIES = 8
"""Bit 2 transposes, then bit 0 flips top and bottom and bit 1 left and right."""


class ImageStore:
    """Images of any sizes, optionally each with a degraded twin of the same size, cropped many at a time.

    `heights` and `widths` are those of the stored images, after padding.
    """

    def __init__(
        self,
        images: Iterable[tuple[np.ndarray, np.ndarray | None]],
        smallest_side: int,
        device: torch.device | str = "cpu",
        memory_limit_bytes: int = DEFAULT_MEMORY_LIMIT_BYTES,
        folder: Path | None = None,
    ) -> None:
        """Take uint8 (h, w, c) images, as (clean, degraded or None), all of them with a twin or none.

        Sides shorter than `smallest_side` are continued by reflection. A store of more than
        `memory_limit_bytes` goes to a file in `folder` (None: the system's folder for temporary files) and
        stays off a GPU. Raises MirlError when that file cannot be written, when a twin's size differs, or
        when there is no image.
        """
        self.device = torch.device(device)
        self.paired = False
        heights: list[int] = []
        widths: list[int] = []
        offsets: list[int] = []
        size = 0
        with _Spool(memory_limit_bytes, folder) as spool:
            for clean, degraded in images:
                if degraded is not None and clean.shape != degraded.shape:
                    raise MirlError(f"expected twins of one size, found {clean.shape} and {degraded.shape}")
                if heights and self.paired != (degraded is not None):
                    raise MirlError("expected a degraded twin for every image of a store or for none")
                self.paired = degraded is not None
                planes = [_reflected(clean, smallest_side)]
                if degraded is not None:
                    planes.append(_reflected(degraded, smallest_side))
                heights.append(planes[0].shape[0])
                widths.append(planes[0].shape[1])
                offsets.append(size)
                for plane in planes:
                    spool.append(plane)
                    size += plane.size
                self.channels = clean.shape[2]
            if not heights:
                raise MirlError("no image to store; expected at least one")
            self._bytes = spool.finish()
        self.mapped = isinstance(self._bytes, np.memmap)
        self.nbytes = self._bytes.nbytes
        self.heights, self.widths = np.array(heights), np.array(widths)
        self._offsets = np.array(offsets)
        self._on_device = None
        if self.device.type != "cpu" and not self.mapped:
            self._on_device = torch.from_numpy(self._bytes.reshape(-1, self.channels)).to(self.device)

    def __len__(self) -> int:
        return len(self.heights)

    def image(self, index: int, degraded: bool = False) -> np.ndarray:
        """Return one stored image as a read-only view: uint8 (h, w, c)."""
        height, width = int(self.heights[index]), int(self.widths[index])
        count = height * width * self.channels
        start = int(self._offsets[index]) + (count if degraded else 0)
        view = self._bytes[start : start + count].reshape(height, width, self.channels)
        view.flags.writeable = False
        return view

    def crops(
        self, indices: np.ndarray, tops: np.ndarray, lefts: np.ndarray, symmetries: np.ndarray, patch: int
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return clean crops and their twins (or None): uint8 (n, patch, patch, c) on the store's device.

        All arguments but `patch` are integer arrays (n,); the crop [top, top + patch) x [left, left + patch)
        must lie in the image. Each crop is turned by its symmetry (see SYMMETRIES), its twin alike.
        """
        cut = self._copied if self._on_device is None else self._gathered
        arguments = indices, tops, lefts, symmetries, patch
        return cut(*arguments, False), cut(*arguments, True) if self.paired else None

    def _copied(
        self,
        indices: np.ndarray,
        tops: np.ndarray,
        lefts: np.ndarray,
        symmetries: np.ndarray,
        patch: int,
        twin: bool,
    ) -> torch.Tensor:
        out = np.empty((len(indices), patch, patch, self.channels), np.uint8)
        for place, index, top, left, symmetry in zip(out, indices, tops, lefts, symmetries, strict=True):
            crop = self.image(index, twin)[top : top + patch, left : left + patch]
            place[...] = turned(crop, int(symmetry))
        return torch.from_numpy(out).to(self.device)

    def _gathered(
        self,
        indices: np.ndarray,
        tops: np.ndarray,
        lefts: np.ndarray,
        symmetries: np.ndarray,
        patch: int,
        twin: bool,
    ) -> torch.Tensor:
        assert self._on_device is not None
        widths = self.widths[indices]
        twins = widths * self.heights[indices] if twin else 0
        first = self._offsets[indices] // self.channels + twins
        steps = np.arange(patch)
        row, column = over_turned(
            torch.from_numpy((tops[:, None] + steps) * widths[:, None]).to(self.device),
            torch.from_numpy(first[:, None] + lefts[:, None] + steps).to(self.device),
            symmetries,
        )
        return self._on_device[row + column]


def turned(image: np.ndarray, symmetry: int) -> np.ndarray:
    """Return a view of `image` (h, w, c) in one of the eight orientations (see SYMMETRIES)."""
    if symmetry & 4:
        image = image.swapaxes(0, 1)
    if symmetry & 1:
        image = image[::-1]
    return image[:, ::-1] if symmetry & 2 else image


def over_turned(rows: torch.Tensor, columns: torch.Tensor, symmetries: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Spread values (n, p) per row and per column of untouched crops over the turned ones: (n, p, p)."""
    symmetry = torch.from_numpy(np.asarray(symmetries, np.int64)).to(rows.device)[:, None]
    flip_i, flip_j, transposed = ((symmetry & bit).bool() for bit in (1, 2, 4))

    def flipped(values: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
        return torch.where(where, values.flip(1), values)

    transposed = transposed[..., None]
    row = torch.where(transposed, flipped(rows, flip_j)[:, None, :], flipped(rows, flip_i)[:, :, None])
    column = torch.where(transposed, flipped(columns, flip_i)[:, :, None], flipped(columns, flip_j)[:, None, :])
    return row, column


def _reflected(image: np.ndarray, smallest_side: int) -> np.ndarray:
    pads = [(0, max(0, smallest_side - side)) for side in image.shape[:2]]
    # numpy repeats a reflection as often as needed, but a side of one pixel has nothing to reflect.
    if any(after for _, after in pads):
        for axis, pad in enumerate(pads):
            widths = [(0, 0)] * image.ndim
            widths[axis] = pad
            image = np.pad(image, widths, mode="edge" if image.shape[axis] == 1 else "reflect")
    return np.ascontiguousarray(image)


class _Spool:
    """Bytes appended in memory until they exceed the limit, then to an unnamed file."""

    def __init__(self, limit: int, folder: Path | None) -> None:
        self._limit, self._folder = limit, folder
        self._memory = bytearray()
        self._file: BinaryIO | None = None

    def __enter__(self) -> "_Spool":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()  # a finished map keeps its own hold on the content

    def append(self, array: np.ndarray) -> None:
        with self._named_errors():
            if self._file is None and len(self._memory) + array.nbytes > self._limit:
                # Not a context manager here: __exit__ closes it.
                self._file = tempfile.TemporaryFile(prefix="mirl-", dir=self._folder)  # noqa: SIM115
                self._file.write(self._memory)
                self._memory = bytearray()
            if self._file is None:
                self._memory += array.data
            else:
                self._file.write(array.data)

    def finish(self) -> np.ndarray:
        if self._file is None:
            return np.frombuffer(self._memory, np.uint8)
        with self._named_errors():
            self._file.flush()
            return np.memmap(self._file, np.uint8, mode="r+")

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            place = self._folder or tempfile.gettempdir()
            raise MirlError(
                f"cannot keep decoded images in {place}: {error.strerror or error}; set TMPDIR to a folder with more space"
            ) from error
