"""Quality beside cost: searches that differ in how they prune, from their run folders.

    mirl search --recipe tiny --keep 0.10 --score magnitude --out runs/magnitude
    mirl search --recipe tiny --keep 0.10 --score macs --out runs/macs
    python bench/cost_searched.py runs/magnitude runs/macs [--size 256] [--threads 1] [--runs 5] [--out results/cost_tiny]

For each run the last ticket's validation PSNR of every task beside the input's and the dense network's (level 0), and the
figures of `bench/cost.py`, timed in turns, relative to the first run. `float16_loss_db`: what storing weights in float16
takes from the PSNR, at most over the bundled held-out photographs with noise of sigma 25. Writes OUT.json and OUT.csv.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from cost import describe, measure, write_table
from mirl.data.bundled import held_out_photos
from mirl.degrade.noise import add_gaussian_noise
from mirl.engine.sparse import NativeBackend
from mirl.evaluate.metrics import psnr
from mirl.evaluate.speed import parse_size
from mirl.image import read_pixels
from mirl.lottery.run import RunFolder, load_arrays
from mirl.ticket import Ticket, read_ticket


def float16_loss(run: RunFolder, level: int, ticket: Ticket) -> float:
    """Return the largest loss in dB of the stored ticket against the float32 weights it was made of."""
    exact = NativeBackend(Ticket(ticket.network, load_arrays(run.level(level).weights)[0], ticket.masks))
    stored = NativeBackend(ticket)
    losses = []
    for number, path in enumerate(held_out_photos()):
        clean = read_pixels(path)
        noisy = add_gaussian_noise(clean, np.random.default_rng(number), 25.0)
        full, half = (psnr(np.clip(backend.forward(noisy), 0, 1), clean) for backend in (exact, stored))
        losses.append(full - half)
    return max(losses)


def read_run(path: Path) -> tuple[dict[str, Any], Ticket]:
    """Return what a run was pruned by and how good its ticket is, and the ticket."""
    run = RunFolder(path)
    recipe, ticket = run.recipe(), read_ticket(run.ticket)
    level = int(ticket.provenance["level"])
    dense, last = run.level(0).record()["validation"], run.level(level).record()["validation"]
    prune = recipe.prune
    scores = {
        task: {"input": row["input_psnr"], "dense": dense[task]["psnr"], "ticket": row["psnr"]} for task, row in last.items()
    }
    mean = {kind: float(np.mean([row[kind] for row in scores.values()])) for kind in ("input", "dense", "ticket")}
    return {
        "recipe": recipe.name,
        "seed": recipe.seed,
        "scope": prune.scope,
        "score": prune.score,
        "normalise": prune.normalise,
        "depthwise": "pruned" if prune.depthwise else "kept",
        "min_layer_density": prune.min_layer_density,
        "levels": level,
        "psnr": scores,
        **{f"mean_psnr_{kind}": value for kind, value in mean.items()},
        "float16_loss_db": float16_loss(run, level, ticket),
    }, ticket


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("searched", nargs="+", type=Path)
    parser.add_argument("--size", default="256")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("results/cost_tiny"))
    options = parser.parse_args()
    found, backends = [], []
    for path in options.searched:
        row, ticket = read_run(path)
        backends.append(NativeBackend(ticket, options.threads))
        found.append(row | describe(ticket, backends[-1]))
    timed = measure(backends, parse_size(options.size), options.runs)
    rows = [row | times for row, times in zip(found, timed, strict=True)]
    for row in rows:
        tasks = ", ".join(f"{task} {psnrs['ticket']:.2f} ({psnrs['dense']:.2f})" for task, psnrs in row["psnr"].items())
        print(f"{row['score']:10} PSNR of the ticket (dense): {tasks}; mean {row['mean_psnr_ticket']:.2f} dB; "
              f"MACs {row['density_macs']:.1%}, left {row['macs_share_with_attention']:.1%}; "
              f"{row['median_ms']:.1f} ms {row['relative_time']:.2f}; float16 {row['float16_loss_db']:.4f} dB")  # fmt: skip
    searches = [f"mirl search --recipe {r['recipe']} --keep 0.10 --score {r['score']} --out runs/{r['score']}" for r in rows]
    runs = " ".join(f"runs/{row['score']}" for row in rows)
    options_given = f"--size {options.size} --threads {options.threads} --runs {options.runs}"
    commands = [*searches, f"python bench/cost_searched.py {runs} {options_given}"]
    write_table(rows, options.out, commands=commands, size=list(parse_size(options.size)), threads=options.threads,
                runs=options.runs)  # fmt: skip


if __name__ == "__main__":
    main()
