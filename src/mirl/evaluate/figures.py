"""How near a picture is to its truth: one value for PSNR and SSIM, of the restored picture and of the input."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Self

import numpy as np

from mirl.evaluate.metrics import Window, psnr, ssim


@dataclass(frozen=True)
class Figures:
    """PSNR in dB and SSIM of a restored picture, or their means over several, and the same of the degraded input."""

    psnr: float
    ssim: float
    input_psnr: float
    input_ssim: float

    @property
    def gain(self) -> float:
        """What restoring brought, in dB."""
        return self.psnr - self.input_psnr

    @classmethod
    def mean(cls, several: Sequence[Self]) -> Self:
        """Return the mean of each figure."""
        return cls(*(statistics.fmean(getattr(each, field.name) for each in several) for field in fields(cls)))

    def cells(self) -> list[str]:
        """Return PSNR in and out, the gain, SSIM in and out, as tables show them."""
        return [
            f"{self.input_psnr:.2f}",
            f"{self.psnr:.2f}",
            f"{self.gain:+.2f}",
            f"{self.input_ssim:.4f}",
            f"{self.ssim:.4f}",
        ]


def flat(row: Any) -> dict[str, Any]:
    """Return a row, a dataclass, as files hold it: its fields by name, those of its inner dataclasses in their place."""
    value: dict[str, Any] = {}
    for field in fields(row):
        inner = getattr(row, field.name)
        value |= flat(inner) if is_dataclass(inner) else {field.name: inner}
    return value


def nearness(image: np.ndarray, clean: np.ndarray, window: Window, cap_db: float) -> tuple[float, float]:
    """Return PSNR, at most `cap_db`, and SSIM of two float (h, w, 3) images in [0, 1]."""
    return min(psnr(image, clean), cap_db), ssim(image, clean, window)
