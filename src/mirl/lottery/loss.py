"""What a training makes small.

L1 is the paper's (arXiv 2510.14463). It is large where much can be won, so a network trained by it spends itself on strong
noise and haze and treats faint degradations alike: false haze, and wax where there was little noise. The logarithm of the
mean square counts decibels. Beside either, L1 of the means over blocks watches tone, which pixels alone hardly feel.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mirl.recipe import TrainConfig

BLOCK = 16
LOG_WEIGHT, LOG_FLOOR = 0.02, 1e-5
"""Weight of the logarithm, so that its gradient is as large as L1's, and what is added to the mean square: 50 dB."""


def losses(difference: Tensor, config: TrainConfig) -> Tensor:
    """Return the loss of each sample, (n,), from restored minus clean, float32 (n, 3, h, w)."""
    if config.loss == "log-mse":
        loss = LOG_WEIGHT * torch.log(difference.square().mean(dim=(1, 2, 3)) + LOG_FLOOR)
    else:
        loss = difference.abs().mean(dim=(1, 2, 3))
    if config.block_loss:
        block = min(BLOCK, *difference.shape[-2:])
        loss = loss + config.block_loss * F.avg_pool2d(difference, block).abs().mean(dim=(1, 2, 3))
    return loss
