"""Short trainings by which the recipe was chosen: `python evidence/pilots.py NAME --data DIR --tests DIR --out RUN`.

Each is a row of PILOTS; the same command goes on where it was stopped. Scores are of the development scenes and of what
validation holds out, never of a test set. `python evidence/pilots.py table --out RUNS --json results/pilots_people.json`
puts all that have ended below a folder into one file.
"""

import argparse
import json
import sys
import time
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mirl.data.banks import shrink
from mirl.data.split import read_bytes, split_folder
from mirl.degrade import graphics
from mirl.degrade.noise import add_gaussian_noise
from mirl.degrade.rounding import round_to_8_bits
from mirl.degrade.web import code_jpeg
from mirl.engine.engine import open_backend
from mirl.engine.tiles import map_tiles
from mirl.errors import MirlError
from mirl.evaluate.metrics import psnr
from mirl.evaluate.people.development import development_crops
from mirl.files import write_json
from mirl.image import cut_centre, quantise, read_pixels
from mirl.lottery.prune import Masks
from mirl.lottery.run import Arrays, TrainingFolder
from mirl.lottery.search import run_training
from mirl.lottery.setting import make_setting, stop_switch
from mirl.lottery.state import arrays_of
from mirl.lottery.train import Stopped
from mirl.network.promptir import PromptIR, initialise
from mirl.recipe import PruneConfig, Recipe, TaskShare, TrainConfig, small_laboratory
from mirl.ticket import load_ticket, read_ticket

MIX = (
    TaskShare("denoise15", 0.04), TaskShare("denoise25", 0.04), TaskShare("denoise50", 0.04), TaskShare("gaussian", 0.08),
    TaskShare("camera", 0.14), TaskShare("coded", 0.08), TaskShare("derain", 0.10), TaskShare("rain", 0.10),
    TaskShare("dehaze", 0.11), TaskShare("haze", 0.11), TaskShare("jpeg", 0.07), TaskShare("rescaled", 0.03),
    TaskShare("clean", 0.05), TaskShare("tone", 0.04),
)  # fmt: skip
OLD_FIRST = (
    TaskShare("denoise15", 0.08), TaskShare("denoise25", 0.08), TaskShare("denoise50", 0.08), TaskShare("gaussian", 0.05),
    TaskShare("camera", 0.12), TaskShare("coded", 0.12), TaskShare("derain", 0.20), TaskShare("rain", 0.03),
    TaskShare("dehaze", 0.12), TaskShare("jpeg", 0.06), TaskShare("clean", 0.03), TaskShare("tone", 0.03),
)  # fmt: skip
WINDOW, OVERLAP, SIDE = 128, 16, 256


def hazy(weight: float) -> tuple[TaskShare, ...]:
    """The mix with another weight of haze in the loss."""
    return tuple(replace(share, loss=weight) if "haze" in share.task else share for share in MIX)


@dataclass(frozen=True)
class Pilot:
    """One candidate: what it changes, what it starts from ("": new initial values, else a ticket's weights and masks)."""

    question: str
    recipe: Recipe
    start: str = ""

    @property
    def patches(self) -> float:
        """Patches of 64x64, or their equal in pixels."""
        train = self.recipe.train
        return train.steps * train.batch * (train.patch / 64) ** 2


TRAIN = TrainConfig(
    steps=600, batch=8, patch=64, optimizer="muon", learning_rate=4e-3, minimum_learning_rate=1e-6, warmup_steps=100,
    ema_decay=0.995, loss="log-mse", block_loss=0.1, real_share=0.4,
)  # fmt: skip
NETWORK = small_laboratory().network
TUNE = replace(TRAIN, learning_rate=2e-3, steps=5000)


def tuned(name: str, train: TrainConfig = TUNE, tasks: tuple[TaskShare, ...] = MIX) -> Recipe:
    """A ticket's masks kept, its weights trained on."""
    return Recipe(name, NETWORK, train, PruneConfig(keep=0.1, rate_exponent=0.5), tasks)


def dense(name: str, train: TrainConfig = TRAIN, **network: object) -> Recipe:
    """From new initial values, dense."""
    return Recipe(name, replace(NETWORK, **network), train, PruneConfig(), MIX)  # type: ignore[arg-type]


LATE = replace(TUNE, patch=128, batch=4)
BF16 = replace(TRAIN, precision="bf16-mixed")
PILOTS = {
    "dense-16": Pilot("1.6 million parameters, float32", dense("dense-16")),
    "dense-16-bf16": Pilot("the same in bfloat16", dense("dense-16-bf16", BF16)),
    "dense-16-deep": Pilot("2.9 million, more at 1/8", dense("dense-16-deep", BF16, blocks=(1, 1, 2, 12))),
    "dense-24": Pilot("3.3 million, wider", dense("dense-24", BF16, width=24)),
    "early": Pilot(
        "today's masks, trained on",
        tuned("early", replace(LATE, steps=3000, precision="bf16-mixed"), hazy(1.5)),
        "small",
    ),
    "early-gentle": Pilot(
        "a quarter of the rate, more of the old tasks",
        tuned("early-gentle", replace(LATE, steps=1200, learning_rate=5e-4, precision="bf16-mixed"), OLD_FIRST),
        "small",
    ),
}


def train_pilot(name: str, data: Path, out: Path, time_limit: float | None) -> bool:
    """Train, or go on; True once it has ended."""
    pilot = PILOTS[name]
    place = TrainingFolder(out)
    if place.done:
        return True
    masks: Masks = {}
    if pilot.start:
        ticket = load_ticket(pilot.start)
        start: Arrays = dict(ticket.weights)
        masks = dict(ticket.masks)
    else:
        network = PromptIR(pilot.recipe.network)
        initialise(network, torch.Generator().manual_seed(pilot.recipe.seed))
        start = arrays_of(network)
    with stop_switch(time_limit) as stop:

        def told(step: int, steps: int, values: object) -> None:
            if step % 100 == 0:
                print(time.strftime("%H:%M:%S"), name, step, "of", steps, values, flush=True)

        setting = make_setting(replace(pilot.recipe, tasks=pilot.recipe.tasks), data, "cpu", stop, told, skip_bad=True)
        try:
            run_training(pilot.recipe, place, start, masks, replace(setting, validation=[]), {"kind": "pilot"})
        except Stopped as stopped:
            print(f"{name}: stopped at a safe point after update {stopped.step}")
            return False
    return True


def examples(data: Path, tests: Path) -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
    """Degraded and clean pictures by kind, float32 (h, w, 3) in 8-bit steps."""
    found: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}

    def add(kind: str, degraded: np.ndarray, clean: np.ndarray) -> None:
        found.setdefault(kind, []).append((quantise(degraded), clean))

    for crop in development_crops(tests, SIDE):
        add("real", crop.degraded, crop.clean)
    split = split_folder(data, skip_bad=True)
    for path in split.held_out_photos:
        clean = cut_centre(shrink(read_bytes(path), 0.6, Image.Resampling.BOX), SIDE).astype(np.float32) / 255
        rng = np.random.default_rng(zlib.crc32(path.stem.encode()))
        for sigma in (15, 25, 50):
            add(f"noise{sigma}", add_gaussian_noise(clean, rng, sigma), clean)
        noisy = add_gaussian_noise(clean, rng, 25)
        add("coded", coded(noisy, 95), clean)
        grey = round_to_8_bits(clean.mean(-1, keepdims=True)).repeat(3, -1)
        add("grey", round_to_8_bits(grey + rng.standard_normal(grey.shape[:2], np.float32)[..., None] * (25 / 255)), grey)
        for quality in (30, 75):
            add(f"jpeg{quality}", coded(clean, quality), clean)
        add("clean", clean, clean)
    for number in range(6):
        picture = graphics.render_graphic(np.random.default_rng([99, number]), SIDE).astype(np.float32) / 255
        add("graphics", picture, picture)
        add("graphics-jpeg75", coded(picture, 75), picture)
    for kind, name in (("derain", "rain"), ("dehaze", "haze")):
        for pair in split.held_out_pairs[kind]:
            assert pair.degraded is not None
            degraded, clean = (cut_centre(read_pixels(p), SIDE) for p in (pair.degraded, pair.clean))
            add(name, degraded, clean)
    return found


def coded(image: np.ndarray, quality: int) -> np.ndarray:
    """Code as JPEG, 4:2:0."""
    return np.asarray(code_jpeg(Image.fromarray(np.rint(image * 255).astype(np.uint8)), quality), np.float32) / 255


def score(ticket: Path | str, data: Path, tests: Path) -> dict[str, dict[str, float]]:
    """Return PSNR by kind, in dB (at most 60), of inputs and of what a ticket makes of them in windows of 128."""
    backend = open_backend(read_ticket(ticket) if isinstance(ticket, Path) else load_ticket(ticket), "native", 1)
    rows = {}
    for kind, pairs in examples(data, tests).items():
        values = []
        for degraded, clean in pairs:
            out = quantise(np.clip(map_tiles(backend.forward, degraded, (WINDOW, WINDOW), OVERLAP), 0, 1))
            values.append((min(psnr(degraded, clean), 60.0), min(psnr(out, clean), 60.0)))
        before, after = np.array(values).mean(0)
        rows[kind] = {"images": len(pairs), "input": float(before), "psnr": float(after)}
    return rows


def table(runs: Path, json_file: Path) -> None:
    """Gather the scores below `runs` into one file, and print them: a column for each pilot, a row for each kind."""
    found = [json.loads(file.read_text()) for file in sorted(runs.glob("*/scores.json"))]
    if not found:
        raise MirlError(f"{runs} holds no scores; expected folders of pilots that have ended")
    cpu = next(line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line)
    command = "python evidence/pilots.py table --out RUNS --json results/pilots_people.json"
    write_json(json_file, {"command": command, "processor": cpu, "window": WINDOW, "overlap": OVERLAP, "rows": found})
    names = [row.get("pilot") or row["ticket"] for row in found]
    print(f"{'':16}{'input':>8}" + "".join(f"{name:>15}" for name in names))
    for kind, first in found[0]["scores"].items():
        print(f"{kind:16}{first['input']:8.2f}" + "".join(f"{row['scores'][kind]['psnr']:15.2f}" for row in found))


def main() -> None:
    """Train and score one pilot, or score a ticket, or gather the scores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="a row of PILOTS, the name or file of a ticket to score, or table")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/train"))
    parser.add_argument("--tests", type=Path, default=Path("../shared/data/test"))
    parser.add_argument("--json", type=Path, default=Path("results/pilots_people.json"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--time-limit", type=float)
    options = parser.parse_args()
    if options.name == "table":
        return table(options.out, options.json)
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.name not in PILOTS:
        ticket: Path | str = Path(options.name) if options.name.endswith(".mirl") else options.name
        rows = {"ticket": options.name, "scores": score(ticket, options.data, options.tests)}
    else:
        if not train_pilot(options.name, options.data, options.out, options.time_limit):
            return
        pilot, place = PILOTS[options.name], TrainingFolder(options.out)
        rows = {
            "pilot": options.name, "question": pilot.question, "patches": pilot.patches,
            "seconds": place.record()["seconds"], "parameters": place.record()["total"],
            "scores": score(place.ticket, options.data, options.tests),
        }  # fmt: skip
    (options.out / "scores.json").write_text(json.dumps(rows, indent=1))
    for kind, row in rows["scores"].items():  # type: ignore[attr-defined]
        print(f"{kind:16} {row['input']:6.2f} -> {row['psnr']:6.2f}")


if __name__ == "__main__":
    try:
        main()
    except MirlError as error:
        sys.exit(f"pilots: {error}")
