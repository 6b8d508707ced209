"""Gradual pruning with learning-rate rewinding, and the losses that go with it: laws, resume, audit."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import MINI, mini_data
from mirl.lottery.loss import losses
from mirl.lottery.run import RunFolder, hash_state, load_arrays, load_masks, save_arrays
from mirl.lottery.search import search
from mirl.lottery.setting import usable_precision
from mirl.lottery.state import arrays_of, rewind
from mirl.lottery.verify import verify
from mirl.network.promptir import PromptIR
from mirl.recipe import PruneConfig, Recipe, TaskShare, TrainConfig, tiny

RECIPE = replace(
    tiny(),
    network=MINI,
    train=replace(
        tiny().train,
        steps=12,
        warmup_steps=10,
        patch=32,
        batch=2,
        loss="log-mse",
        block_loss=0.1,
        early_patch=16,
        early_share=0.25,
    ),
    prune=PruneConfig(keep=0.2, fraction=0.5, reset="none", score="lamp", rate_exponent=0.5),
    tasks=(TaskShare("denoise25"), TaskShare("derain")),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("gradual") / "run"
    assert search(RECIPE, folder, mini_data()).finished
    return RunFolder(folder)


def test_each_level_goes_on_from_the_weights_it_was_pruned_from(run: RunFolder) -> None:
    assert verify(run.path).ok
    for level in (1, 2, 3):
        before, masks = load_arrays(run.level(level - 1).weights)[0], load_masks(run.level(level).mask)
        tensors = {name: torch.from_numpy(mask) for name, mask in masks.items()}
        network = PromptIR(RECIPE.network)
        rewind(network, before, tensors)
        assert json.loads(run.level(level).rewound.read_text())["tensors"] == hash_state(arrays_of(network))
    assert sum(run.level(level).record()["steps"] for level in (1, 2, 3)) == RECIPE.train.steps


def test_stopped_in_a_level_it_ends_with_the_same_bytes(run: RunFolder, tmp_path: Path) -> None:
    for levels in (1, 2, None):
        search(RECIPE, tmp_path / "run", mini_data(), levels_now=levels and 1)
    assert (tmp_path / "run" / "ticket.mirl").read_bytes() == run.ticket.read_bytes()


def test_the_audit_finds_a_level_that_was_rewound_after_all(run: RunFolder, tmp_path: Path) -> None:
    copy = RunFolder(tmp_path / "run")
    shutil.copytree(run.path, copy.path)
    weights, metadata = load_arrays(copy.level(0).weights)
    name = next(iter(load_masks(copy.level(0).mask)))
    weights[name] = weights[name] + np.float32(1e-3)
    save_arrays(copy.level(0).weights, weights, metadata)
    assert not verify(copy.path).ok


def test_the_logarithm_counts_decibels_and_blocks_count_tone() -> None:
    faint, strong = torch.full((1, 3, 32, 32), 0.02), torch.full((1, 3, 32, 32), 0.2)

    def gain(config: TrainConfig, difference: torch.Tensor) -> float:
        return float(losses(difference, config) - losses(difference / 2, config))

    decibels, pixels = TrainConfig(steps=1, loss="log-mse"), TrainConfig(steps=1)
    assert gain(decibels, faint) == pytest.approx(gain(decibels, strong), rel=0.1)
    assert gain(pixels, strong) == pytest.approx(10 * gain(pixels, faint))
    checks = torch.ones(1, 3, 32, 32)
    checks[..., ::2] = -1
    tone = TrainConfig(steps=1, block_loss=0.5)
    assert float(losses(checks, tone)) == pytest.approx(1.0)
    assert float(losses(checks.abs(), tone)) == pytest.approx(1.5)


def test_a_recipe_without_the_new_fields_is_the_old_one() -> None:
    assert Recipe("r", RECIPE.network, TrainConfig(steps=1), tasks=RECIPE.tasks).train.loss == "l1"


def test_the_precision_auto_is_bfloat16_only_where_the_machine_has_hardware_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for flags, expected in (("fpu avx512_bf16 amx_bf16 amx_tile", "bf16-mixed"), ("fpu avx512_bf16", "32-true")):
        monkeypatch.setattr(Path, "read_text", lambda self, errors=None, flags=flags: f"flags : {flags}")
        assert usable_precision("auto", "cpu") == expected
    assert usable_precision("32-true", "cpu") == "32-true"
