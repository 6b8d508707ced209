"""JPEG coding in tensors, on the device of training: baseline JPEG (ITU-T T.81), standard tables, as libjpeg codes it.

Everything but the entropy coding, which loses nothing: RGB to YCbCr (JFIF), 2x2 means of the chroma, 8x8 DCT, rounding by
the quality's tables (T.81 annex K), and back with bilinear chroma ("fancy upsampling"). Within a level or two of Pillow's
pixels, see tests/test_data_coding.py. Different qualities and samplings stand in one batch; no loop over samples.
"""

import math
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from mirl.data.draws import Draws
from mirl.degrade.rounding import round_to_8_bits

BLOCK = 8
_LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMINANCE = ((17, 18, 24, 47), (18, 21, 26, 66), (24, 26, 56, 99), (47, 66, 99, 99))  # the other entries are 99


@dataclass(frozen=True)
class Coding:
    """How often and how hard patches are coded: shares are probabilities of a sample, `quality` a range of 1 to 100.

    Of the coded ones `full_chroma` are 4:4:4, the others 4:2:0; `twice` are coded again, at another quality and grid phase.
    """

    share: float = 1.0
    quality: tuple[float, float] = (12.0, 98.0)
    full_chroma: float = 0.3
    twice: float = 0.0

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        """Code some of `images`, float32 (n, h, w, 3) in [0, 1] with sides that are multiples of 16; shape as given."""
        wanted = draws.uniform("coded") < self.share
        if not wanted.any():
            return images
        own = draws.subset(wanted)
        places = torch.from_numpy(wanted.nonzero()[0]).to(images.device)
        chosen = images[places].permute(0, 3, 1, 2)
        chroma = torch.from_numpy(own.uniform("chroma") < self.full_chroma).to(images.device)
        coded = jpeg(chosen, self._quality(own, images.device), chroma)
        if (again := own.uniform("twice") < self.twice).any():
            down, across = (
                torch.from_numpy(own.integers(axis, BLOCK - 1) + 1).to(images.device) for axis in ("rows", "columns")
            )
            second = jpeg(_rolled(coded, down, across), self._quality(own.apart("second"), images.device), chroma)
            second = _rolled(second, -down, -across)
            coded = torch.where(torch.from_numpy(again).to(images.device)[:, None, None, None], second, coded)
        result = images.clone()
        result[places] = coded.permute(0, 2, 3, 1)
        return result

    def _quality(self, draws: Draws, device: torch.device) -> Tensor:
        return torch.from_numpy(draws.uniform("quality", *self.quality).round().astype("float32")).to(device)


def _rolled(images: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """Roll each of (n, c, h, w) by its own number of pixels (n,)."""
    n, _, h, w = images.shape
    rows = (torch.arange(h, device=images.device) - down[:, None]) % h
    columns = (torch.arange(w, device=images.device) - across[:, None]) % w
    samples = torch.arange(n, device=images.device)[:, None, None]
    return images.permute(0, 2, 3, 1)[samples, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def jpeg(images: Tensor, quality: Tensor, full_chroma: Tensor) -> Tensor:
    """Code and decode float32 (n, 3, h, w) in [0, 1], sides multiples of 16; the result is rounded to 8 bits.

    `quality` (n,) as libjpeg's, 1 to 100; `full_chroma` (n,) bool: 4:4:4 where true, else 4:2:0.
    """
    red, green, blue = (round_to_8_bits(images) * 255).unbind(1)
    luma = (0.299 * red + 0.587 * green + 0.114 * blue).round() - 128
    chroma = torch.stack(
        (-0.168736 * red - 0.331264 * green + 0.5 * blue, 0.5 * red - 0.418688 * green - 0.081312 * blue), dim=1
    )
    chroma = (chroma - (0.5 + 1e-4)).ceil()  # halves, of all grey pixels' neighbours, go down
    luma_table, chroma_table = (_tables(name, quality) for name in ("luminance", "chrominance"))
    luma = (_quantised(luma[:, None], luma_table)[:, 0] + 128).clamp(0, 255)
    kinds = full_chroma.unique().tolist()
    result = torch.empty_like(chroma)
    for full in kinds:  # two kinds at most
        of_kind = full_chroma == full
        part, table = chroma[of_kind], chroma_table[of_kind]
        if full:
            result[of_kind] = _quantised(part, table)
        else:
            small = _quantised(_halved(part), table)
            smooth = F.interpolate(small, scale_factor=2, mode="bilinear", align_corners=False)
            turn = torch.arange(smooth.shape[-1], device=smooth.device) % 2
            result[of_kind] = (((smooth * 16).round() + 8 - turn) / 16).floor()
    cb, cr = result.clamp(-128, 127).unbind(1)
    rgb = torch.stack((luma + 1.402 * cr, luma - 0.344136 * cb - 0.714136 * cr, luma + 1.772 * cb), dim=1)
    return round_to_8_bits(rgb / 255)


def _quantised(planes: Tensor, table: Tensor) -> Tensor:
    """Round the DCT of 8x8 blocks of (n, c, h, w) to multiples of each sample's table (n, 8, 8); back to integers."""
    n, c, h, w = planes.shape
    basis = _basis().to(planes.device)
    blocks = planes.reshape(n, c, h // BLOCK, BLOCK, w // BLOCK, BLOCK).permute(0, 1, 2, 4, 3, 5)
    steps = table[:, None, None, None]
    # libjpeg's forward DCT (jfdctint.c) in its fixed point: rows, then columns, integers eight times the coefficients. At
    # high qualities many lie on halves of a step, which are rounded away from zero.
    forward = _forward().to(planes.device)
    rows = ((blocks.to(torch.float64) @ forward.mT + 2**10) / 2**11).floor()
    eightfold = ((forward @ rows + 2**14) / 2**15).floor().to(torch.float32)
    rounded = eightfold.sign() * ((eightfold.abs() + steps * (BLOCK / 2)) / (steps * BLOCK)).floor() * steps
    planes = (basis.mT @ rounded @ basis).permute(0, 1, 2, 4, 3, 5).reshape(n, c, h, w)
    return (planes + (0.5 + 1e-3)).floor()  # flat blocks lie on halves, which go up


def _halved(planes: Tensor) -> Tensor:
    """Return the 2x2 means of (n, c, h, w), rounded as libjpeg's h2v2_downsample does: halves down and up in turn."""
    turn = torch.arange(planes.shape[-1] // 2, device=planes.device) % 2
    return (F.avg_pool2d(planes, 2) + (turn + 1) / 4).floor()


def _tables(name: str, quality: Tensor) -> Tensor:
    """Scale the standard table as libjpeg's jpeg_set_quality does: (n, 8, 8) of 1 to 255."""
    percent = torch.where(quality < 50, (5000 / quality.clamp_min(1)).floor(), 200 - 2 * quality)
    scaled = ((_standard_table(name).to(quality.device) * percent[:, None, None] + 50) / 100).floor()
    return scaled.clamp(1, 255)


@cache
def _standard_table(name: str) -> Tensor:
    if name == "luminance":
        return torch.tensor(_LUMINANCE, dtype=torch.float32)
    table = torch.full((BLOCK, BLOCK), 99.0)
    table[:4, :4] = torch.tensor(_CHROMINANCE, dtype=torch.float32)
    return table


@cache
def _forward() -> Tensor:
    """libjpeg's integer DCT, (8, 8): 2^13 sqrt(8) times the orthonormal one, from jfdctint's constants; float64 is exact."""
    half = torch.tensor(
        (
            (8192, 8192, 8192, 8192),
            (11363, 9633, 6437, 2260),
            (10703, 4433, -4433, -10703),
            (9633, -2259, -11362, -6436),
            (8192, -8192, -8192, 8192),
            (6437, -11362, 2261, 9633),
            (4433, -10704, 10704, -4433),
            (2260, -6436, 9633, -11363),
        ),
        dtype=torch.float64,
    )
    sign = torch.tensor([1.0, -1.0] * 4, dtype=torch.float64)[:, None]  # even rows are symmetric, odd ones antisymmetric
    return torch.cat((half, half.flip(1) * sign), dim=1)


@cache
def _basis() -> Tensor:
    """The orthonormal DCT-II, (8, 8)."""
    k = torch.arange(BLOCK, dtype=torch.float32)
    basis = torch.cos((2 * k[None] + 1) * k[:, None] * math.pi / 16) / 2
    basis[0] *= math.sqrt(0.5)
    return basis
