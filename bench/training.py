"""A training's whole step on our kernels against PyTorch's, interleaved, one thread; and their loss curves on each other.

    python bench/training.py [--ticket T] [--batch 16] [--rounds 7] [--avx2] [--json results/training_kernels.json]
    python bench/training.py --curves 500 [--json results/training_curves.json] [--figure results/training_curves.svg]

A step is what `mirl search` does: forward, loss, backward, masks, clipping, optimizer, moving average, in the precision that
the machine trains in. "pruned": masks of the recipe's last level, by its scores, from initial values; with `--ticket` the
network and the masks are the ticket's, which training has shaped: more of its units are dead. `--avx2` holds both
sides to AVX2, as on a processor without AVX-512. Times are CPU time of this process; the search's is put together from the
steps and the recipe's schedule, its ramp at the mean of both. Stop trainings first (`make queue-pause MINUTES=10`).
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
if "--avx2" in sys.argv and os.environ.get("ATEN_CPU_CAPABILITY") != "avx2":  # read when torch is loaded
    os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | AVX2)

import torch  # noqa: E402

from mirl.data.patches import load_training_data  # noqa: E402
from mirl.engine.memory import keep_large_blocks  # noqa: E402
from mirl.evaluate.speed import machine  # noqa: E402
from mirl.lottery.prune import dense_masks, initial_scales, plan_levels, scores, shrink_masks  # noqa: E402
from mirl.lottery.schedule import learning_rate  # noqa: E402
from mirl.lottery.setting import usable_precision  # noqa: E402
from mirl.lottery.state import TrainState, arrays_of  # noqa: E402
from mirl.lottery.train import Learner, make_optimizer  # noqa: E402
from mirl.network.kernels import BFLOAT16, Kernels, variants  # noqa: E402
from mirl.network.promptir import PromptIR, initialise, use_kernels  # noqa: E402
from mirl.recipe import Recipe, named_recipe  # noqa: E402
from mirl.ticket import load_ticket  # noqa: E402

Step = Callable[[int], tuple[float, float]]


def make_step(
    recipe: Recipe, kernels: Kernels | None, bfloat16: bool, pruned: bool, stream: Any, options: argparse.Namespace,
    shaped: dict[str, Any] | None = None,
) -> Step:  # fmt: skip
    """Return a function that makes update `n` and gives its loss and its CPU seconds, the batch not counted."""
    from lightning_fabric import Fabric

    fabric = Fabric(accelerator="cpu", devices=1, precision="bf16-mixed" if bfloat16 else "32-true")
    network = PromptIR(recipe.network)
    initialise(network, torch.Generator().manual_seed(recipe.seed))
    masks = dense_masks(recipe.network, recipe.prune)
    if pruned and shaped is not None:
        masks = masks | shaped
    elif pruned:
        start = arrays_of(network)
        ranked = scores(start, initial_scales(start, recipe.network, recipe.prune), recipe.network, recipe.prune)
        masks = shrink_masks(masks, ranked, plan_levels(recipe.network, recipe.prune)[-1], recipe.prune)
    tensors = {name: torch.from_numpy(mask) for name, mask in masks.items()}
    use_kernels(network, kernels, tensors)
    products = torch.bfloat16 if bfloat16 and kernels is not None else torch.float32
    state = TrainState(
        network, make_optimizer(network, recipe, masks, products), tensors, recipe.train, len(recipe.tasks), 0
    )
    with torch.no_grad():
        torch._foreach_mul_(state.masked, state.masks)
    learner = Learner.of(recipe, fabric, state)

    def step(number: int) -> tuple[float, float]:
        given = stream.batch(number, options.batch, 0, 1, options.patch)
        began = time.process_time()
        losses, _, _ = learner.update(given, learning_rate(recipe.train, number))
        return float(losses.mean()), time.process_time() - began

    return step


def speed(options: argparse.Namespace, recipe: Recipe, stream: Any, shaped: dict[str, Any] | None) -> dict[str, Any]:
    own = "avx2" if options.avx2 else variants()[0]
    low = usable_precision(recipe.train.precision, "cpu") == "bf16-mixed" and not options.avx2
    settings: dict[str, tuple[Kernels | None, bool]] = {
        "torch float32": (None, False),
        f"{own} float32": (Kernels(own), False),
    }
    if low and BFLOAT16 in variants():
        settings |= {"torch bfloat16": (None, True), f"{BFLOAT16} bfloat16": (Kernels(BFLOAT16), True)}
    steps = {
        (name, level): make_step(recipe, kernels, bf16, level == "pruned", stream, options, shaped)
        for name, (kernels, bf16) in settings.items()
        for level in ("dense", "pruned")
    }
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in steps}
    for number in range(options.rounds + 1):
        for key, step in steps.items():
            _, taken = step(number)
            if number:
                seconds[key].append(taken)
    median = {key: statistics.median(times) for key, times in seconds.items()}
    ramp = recipe.prune.ramp
    whole = {n: median[n, "dense"] * (1 + ramp / 2) + median[n, "pruned"] * (1 - ramp / 2) for n in settings}
    rows = []
    for name, (kernels, bf16) in settings.items():
        if kernels is None:
            continue
        against = "torch bfloat16" if bf16 else "torch float32"
        rows.append(
            {
                "kernels": name, "against": against,
                "dense": median[against, "dense"] / median[name, "dense"],
                "pruned": median[against, "pruned"] / median[name, "pruned"],
                "search": whole[against] / whole[name],
            }
        )  # fmt: skip
    return {
        "seconds_a_step": {f"{name}, {level}": value for (name, level), value in median.items()},
        "patches_a_second": {f"{n}, {lv}": options.batch * (options.patch / 64) ** 2 / v for (n, lv), v in median.items()},
        "rows": rows,
    }


def curves(options: argparse.Namespace, recipe: Recipe, stream: Any) -> dict[str, Any]:
    settings = {"torch float32": (None, False), f"{variants()[0]} float32": (Kernels(variants()[0]), False)}
    if BFLOAT16 in variants():
        settings[f"{BFLOAT16} bfloat16"] = (Kernels(BFLOAT16), True)
    steps = {n: make_step(recipe, k, bf16, False, stream, options) for n, (k, bf16) in settings.items()}
    losses: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(options.curves):
        for name, step in steps.items():
            losses[name].append(step(number)[0])
    means = {
        name: [statistics.fmean(values[i : i + 20]) for i in range(0, len(values), 20)] for name, values in losses.items()
    }
    first = means["torch float32"]
    apart = {name: max(abs(a - b) for a, b in zip(values, first, strict=True)) for name, values in means.items()}
    return {"means_of_20_updates": means, "largest_difference_of_means": apart, "fall_of_the_loss": first[0] - first[-1]}


def draw(means: dict[str, list[float]], file: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "mirl"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 3.5))
    for style, (name, values) in zip(("-", "--", ":"), means.items(), strict=False):
        axes.plot([20 * (i + 1) for i in range(len(values))], values, style, label=name)
    axes.set(xlabel="update", ylabel="loss, mean of 20 updates")
    axes.legend()
    figure.savefig(file, metadata={"Date": None}, bbox_inches="tight")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="small")
    parser.add_argument("--ticket", help="take network and masks of this ticket")
    parser.add_argument("--batch", type=int, default=16, help="of one of the two processes of a training")
    parser.add_argument("--patch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--avx2", action="store_true")
    parser.add_argument("--curves", type=int, default=0, metavar="UPDATES")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    keep_large_blocks()
    torch.set_num_threads(1)
    recipe, shaped = named_recipe(options.recipe), None
    if options.ticket:
        ticket = load_ticket(options.ticket)
        recipe, shaped = replace(recipe, network=ticket.network), dict(ticket.masks)
    if options.curves:
        recipe = replace(recipe, train=replace(recipe.train, steps=options.curves, warmup_steps=20))
    stream = load_training_data(
        None, recipe.tasks, options.patch, 0, torch.device("cpu"), real_share=recipe.train.real_share
    )
    found = curves(options, recipe, stream) if options.curves else speed(options, recipe, stream, shaped)
    words = [f"--recipe {options.recipe} --batch {options.batch} --patch {options.patch}"]
    words += [f"--curves {options.curves}" if options.curves else f"--rounds {options.rounds}"] + ["--avx2"] * options.avx2
    words += [f"--ticket {options.ticket}"] if options.ticket else []
    result = {
        "command": f"python bench/training.py {' '.join(words)}",
        "processor": machine()["cpu"], "torch": torch.__version__, "threads": 1, **found,
    }  # fmt: skip
    for row in found.get("rows", []):
        print(f"{row['kernels']:16} over {row['against']:14}  dense {row['dense']:.2f}x  pruned {row['pruned']:.2f}x  "
              f"search {row['search']:.2f}x")  # fmt: skip
    if options.curves:
        apart, fall = found["largest_difference_of_means"], found["fall_of_the_loss"]
        print(f"largest difference of the means {apart}, the loss fell by {fall:.4f}")
    if options.figure and options.curves:
        draw(found["means_of_20_updates"], options.figure)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
