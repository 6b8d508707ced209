"""How long an update takes here, from a few of them."""

import time

import torch

from mirl.lottery.prune import dense_masks
from mirl.lottery.schedule import learning_rate
from mirl.lottery.setting import make_setting, silent
from mirl.lottery.state import TrainState
from mirl.lottery.train import Learner, make_optimizer, share_of
from mirl.network.promptir import PromptIR, initialise, use_kernels
from mirl.recipe import Recipe


def seconds_per_update(recipe: Recipe, device: str = "auto", devices: int = 1, nodes: int = 1, updates: int = 3) -> float:
    """Make one update, which compiles and takes memory, then time `updates` more, each with its batch; nothing is written.

    The batches are cut from the bundled photographs, so that no large data set is read for it; pruned levels train at the
    same pace. Raises what `make_setting` does.
    """
    setting = make_setting(recipe, None, device, lambda: False, silent, devices=devices, nodes=nodes)
    fabric, network = setting.fabric, PromptIR(recipe.network)
    initialise(network, torch.Generator().manual_seed(recipe.seed))
    use_kernels(network, setting.kernels)
    network.to(fabric.device)
    dense = dense_masks(recipe.network, recipe.prune)
    masks = {name: torch.from_numpy(mask).to(fabric.device) for name, mask in dense.items()}
    state = TrainState(
        network, make_optimizer(network, recipe, dense, setting.products), masks, recipe.train, len(recipe.tasks), 0
    )
    learner, share = Learner.of(recipe, fabric, state), share_of(fabric, recipe.train.batch)
    began = 0.0
    for step in range(updates + 1):
        batch = setting.stream.batch(step, share, fabric.global_rank, fabric.world_size)
        losses, _, _ = learner.update(batch, learning_rate(recipe.train, step))
        if step in (0, updates):
            losses.sum().item()  # waits for the device
            began, ended = (time.monotonic(), began) if step == 0 else (began, time.monotonic())
    return (ended - began) / updates
