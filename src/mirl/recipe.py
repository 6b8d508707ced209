"""Everything that decides a search, as frozen dataclasses, and the recipes that ship: tiny(), small(), paper(), and
paper_published(), the paper's run with its own choices.

A recipe is plain data (no torch): it is written into the run folder and compared on resume, so the same recipe
and seed on the same machine give the same bytes.
"""

import dataclasses
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from mirl.errors import MirlError
from mirl.plain import from_plain

Scope = Literal["global", "layer"]
Score = Literal["magnitude", "macs", "lamp"]
Normalise = Literal["initial-rms", "prompts", "none"]
Precision = Literal["32-true", "bf16-mixed", "auto"]
Optimizer = Literal["adamw", "muon"]
KernelChoice = Literal["auto", "native", "torch"]  # what a training runs on; of the run, not of its recipe
Prunable = Literal["kind", "name"]
Reset = Literal["full", "partial", "none"]
Loss = Literal["l1", "log-mse"]


@dataclass(frozen=True)
class NetworkConfig:
    """Shape of a PromptIR network (arXiv 2306.13090); the defaults are the published ones.

    `blocks` and `heads` run from full resolution to 1/8; `prompt_widths` and `prompt_sizes` belong to the
    prompts at 1/2, 1/4 and 1/8 resolution, in that order.
    """

    width: int = 48
    blocks: tuple[int, int, int, int] = (4, 6, 6, 8)
    refinement_blocks: int = 4
    heads: tuple[int, int, int, int] = (1, 2, 4, 8)
    expansion: float = 2.66
    prompts: int = 5
    prompt_widths: tuple[int, int, int] = (64, 128, 320)
    prompt_sizes: tuple[int, int, int] = (64, 32, 16)

    def __post_init__(self) -> None:
        """Reject shapes that cannot be built, naming the field. Raises MirlError."""
        sizes = [self.width, *self.blocks, self.refinement_blocks, *self.heads, self.prompts]
        if min(*sizes, *self.prompt_widths, *self.prompt_sizes) < 1 or max(*sizes, *self.prompt_widths) > 4096:
            raise MirlError(f"network sizes must lie between 1 and 4096, found {self}")
        if max(self.prompt_sizes) > 512 or not 0.5 <= self.expansion <= 16:
            raise MirlError(f"expected prompt_sizes up to 512 and an expansion of 0.5 to 16, found {self}")
        if self.width % 2:
            raise MirlError(f"network width must be even (pixel-unshuffle halves it), found {self.width}")
        w, heads = self.width, self.heads
        widths = [(w, heads[0]), (2 * w, heads[0]), (2 * w, heads[1]), (4 * w, heads[2]), (8 * w, heads[3])]
        mixed = (2 * w, 4 * w, 8 * w)
        widths += [(d + p, heads[2]) for d, p in zip(mixed, self.prompt_widths, strict=True)]
        for channels, count in widths:
            if channels % count:
                raise MirlError(f"{channels} channels cannot be split into {count} attention heads; change heads or widths")


@dataclass(frozen=True)
class TrainConfig:
    """One training (one level): L1 loss, AdamW, linear warm-up then cosine (arXiv 2510.14463).

    The optimizer "muon" takes the matrices from AdamW (see `mirl.lottery.muon`): more learned by each update. With `epochs`
    the rate moves as in MIR-L's code: so many times, constant in between, and 0 in the first epoch of the warm-up; 0 moves
    it with every update. `loss` is the paper's "l1" or "log-mse", the logarithm of each sample's mean square, in which a
    decibel counts alike on faint and on strong degradations; `block_loss` adds so much of the L1 of means over blocks of 16
    pixels, the tone (see `mirl.lottery.loss`). The precision "auto" is bf16-mixed where the machine multiplies
    bfloat16 in hardware of its own (AMX, a GPU), else float32: a run may go on on another machine. `real_share` of a task's
    patches come from its real pairs where the data hold any, the others are made. A `clip_norm` of 0 does not clip. The
    first `early_share` of the updates see smaller patches of `early_patch` pixels, as many more of them as make up the area.
    """

    steps: int
    batch: int = 8
    patch: int = 64
    learning_rate: float = 2e-4
    minimum_learning_rate: float = 1e-6
    warmup_steps: int = 0
    optimizer: Optimizer = "adamw"
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    ema_decay: float = 0.0
    precision: Precision = "32-true"
    compile: bool = False
    clean_share: float = 0.0
    log_every: int = 20
    validate_every: int = 0
    epochs: int = 0
    real_share: float = 0.5
    loss: Loss = "l1"
    block_loss: float = 0.0
    early_patch: int = 0
    early_share: float = 0.0

    def __post_init__(self) -> None:
        """Reject values no training can run with, naming the field. Raises MirlError."""
        if self.steps < 1 or self.batch < 1 or self.log_every < 1:
            raise MirlError(
                f"steps, batch and log_every must be at least 1, found {self.steps}, {self.batch}, {self.log_every}"
            )
        if self.patch < 8 or self.patch % 8:
            raise MirlError(f"patch must be a multiple of 8 of at least 8 pixels, found {self.patch}")
        if not 0 <= self.minimum_learning_rate <= self.learning_rate or not self.learning_rate:
            raise MirlError(
                "expected 0 <= minimum_learning_rate <= learning_rate, found "
                f"{self.minimum_learning_rate} and {self.learning_rate}"
            )
        if not 0 <= self.ema_decay < 1 or not 0 <= self.clean_share < 1:
            raise MirlError(f"ema_decay and clean_share must lie in [0, 1), found {self.ema_decay}, {self.clean_share}")
        if not 0 <= self.warmup_steps <= self.steps:
            raise MirlError(f"warmup_steps must lie between 0 and steps, found {self.warmup_steps} of {self.steps}")
        if not self.clip_norm >= 0:
            raise MirlError(f"--clip-norm must be at least 0, which clips nothing, found {self.clip_norm}")
        if self.loss not in ("l1", "log-mse") or not 0 <= self.block_loss < 1e3:
            raise MirlError(
                f"expected loss l1 or log-mse and a block_loss of at least 0, found {self.loss!r}, {self.block_loss}"
            )
        if not 0 <= self.early_share < 1 or bool(self.early_share) != bool(self.early_patch):
            raise MirlError(
                "early_patch and early_share go together, the share in [0, 1), found "
                f"{self.early_patch} and {self.early_share}"
            )
        if self.early_patch and (self.early_patch % 8 or self.early_patch < 8 or self.patch % self.early_patch):
            raise MirlError(
                f"early_patch must be a multiple of 8 that divides patch, found {self.early_patch}, {self.patch}"
            )
        if self.epochs < 0 or not 0 <= self.real_share <= 1:
            raise MirlError(
                f"expected epochs of at least 0 and a real_share in [0, 1], found {self.epochs} and {self.real_share}"
            )

    def batch_at(self, step: int) -> tuple[int, int]:
        """Return how many patches update `step` (0-based) takes, and their side in pixels."""
        if step < self.early_share * self.steps:
            return self.batch * (self.patch // self.early_patch) ** 2, self.early_patch
        return self.batch, self.patch


@dataclass(frozen=True)
class PruneConfig:
    """What is pruned and how far. `keep` counts over ALL trainable parameters, norms and temperatures included.

    `fraction` of the surviving prunable weights goes at each level. `normalise="initial-rms"` ranks |w| divided by the
    RMS of its tensor at the rewind point, because prompts start an order of magnitude above convolution weights;
    "prompts" brings only the prompts to the RMS of all other prunable weights, so that narrow layers, whose weights are
    large and few, stay denser; "none" ranks raw magnitude, as the paper does.

    A squared weight is ranked against its uses per pixel to the power `cost_exponent` (see `mirl.lottery.prune.scores`).

    A tensor pruned to the density d learns at d^-`rate_exponent` times the learning rate (see `mirl.lottery.rates`).

    Two choices of MIR-L's code: `prunable="name"` prunes every tensor whose name holds "weight", LayerNorm scales included
    and prompts not; `reset="partial"` puts back all but prompts and temperatures, which stay as the level before left them.

    `reset="none"` is gradual pruning with learning-rate rewinding (Zhu & Gupta 2017, arXiv 1710.01878; Renda et al. 2020,
    arXiv 2003.02389): survivors keep their values, and all levels after the dense one share one more training, schedule and
    all, of which the first `ramp` is divided among them and the last has the rest.
    """

    keep: float = 0.10
    fraction: float = 0.2
    scope: Scope = "global"
    score: Score = "magnitude"
    normalise: Normalise = "initial-rms"
    prompts: bool = True
    depthwise: bool = True
    min_layer_density: float = 0.0
    prunable: Prunable = "kind"
    reset: Reset = "full"
    rate_exponent: float = 0.0
    ramp: float = 0.25
    cost_exponent: float = 0.0

    def __post_init__(self) -> None:
        """Reject densities and fractions outside (0, 1]. Raises MirlError."""
        if not 0 < self.keep <= 1:
            raise MirlError(f"--keep is the density to reach, above 0 and at most 1, found {self.keep}")
        if not 0 < self.fraction < 1:
            raise MirlError(f"--fraction is what one level removes, between 0 and 1, found {self.fraction}")
        if not 0 <= self.min_layer_density <= 1:
            raise MirlError(f"--min-layer-density must lie in [0, 1], found {self.min_layer_density}")
        for name, value, known in (
            ("scope", self.scope, Scope),
            ("score", self.score, Score),
            ("normalise", self.normalise, Normalise),
            ("prunable", self.prunable, Prunable),
            ("reset", self.reset, Reset),
        ):
            if value not in get_args(known):
                raise MirlError(f"unknown {name} {value!r}; expected one of {', '.join(get_args(known))}")
        if not 0 <= self.cost_exponent <= 2 or (self.cost_exponent and self.score == "macs"):
            raise MirlError(f"cost_exponent must lie in [0, 2], and macs has its own of 1, found {self.cost_exponent}")
        if not 0 < self.ramp <= 1:
            raise MirlError(
                f"ramp is the share of a training in which the density falls, above 0 and at most 1, found {self.ramp}"
            )
        if not 0 <= self.rate_exponent <= 1:
            raise MirlError(f"--rate-exponent must lie in [0, 1], found {self.rate_exponent}")


@dataclass(frozen=True)
class TaskShare:
    """A task of the registry in a recipe: how often it is drawn, and its weight in the loss."""

    task: str
    sampling: float = 1.0
    loss: float = 1.0


@dataclass(frozen=True)
class Recipe:
    """A complete search: network, training of each level, pruning, tasks, seed and rewind point."""

    name: str
    network: NetworkConfig
    train: TrainConfig
    prune: PruneConfig = field(default_factory=PruneConfig)
    tasks: tuple[TaskShare, ...] = ()
    seed: int = 0
    rewind_step: int = 0

    def __post_init__(self) -> None:
        """Reject an empty task list or a rewind point outside the training. Raises MirlError."""
        if not 0 <= self.seed < 2**31:
            raise MirlError(f"--seed must lie in [0, 2^31), found {self.seed}")
        if len({t.task for t in self.tasks}) < len(self.tasks) or any(not 0 < t.loss < 1e6 for t in self.tasks):
            raise MirlError(f"recipe {self.name!r}: each task once, with a loss weight above 0, found {self.tasks}")
        if not self.tasks or min(t.sampling for t in self.tasks) <= 0:
            raise MirlError(f"recipe {self.name!r} needs at least one task, each with a sampling weight above 0")
        if self.rewind_step and self.prune.reset == "none":
            raise MirlError(
                f"reset none rewinds no weights, so a rewind_step of {self.rewind_step} means nothing; expected 0"
            )
        if not 0 <= self.rewind_step < self.train.steps:
            raise MirlError(f"rewind_step must lie in [0, {self.train.steps}), found {self.rewind_step}")


def three_tasks(rain: float, haze: float) -> tuple[TaskShare, ...]:
    """Noise of three strengths, once each; rain and haze as often as is said."""
    noise = (TaskShare("denoise15"), TaskShare("denoise25"), TaskShare("denoise50"))
    return (*noise, TaskShare("derain", rain), TaskShare("dehaze", haze))


THREE_TASKS = three_tasks(rain=3.0, haze=3.0)


def tiny() -> Recipe:
    """Minutes on two CPU cores, on the bundled photographs: the demo, and a first look at a search.

    Wide and deep where pixels are few: there the parameters are that a ticket can do without. Prompts alone are rescaled
    for the ranking, so the few weights at full resolution, which carry the detail, stay denser.
    """
    return Recipe(
        name="tiny",
        network=NetworkConfig(
            width=8,
            blocks=(1, 1, 2, 4),
            refinement_blocks=1,
            heads=(1, 2, 2, 4),
            expansion=2.0,
            prompts=3,
            prompt_widths=(8, 16, 16),
            prompt_sizes=(16, 16, 8),
        ),
        train=TrainConfig(
            steps=450, learning_rate=6e-3, minimum_learning_rate=1e-5, warmup_steps=20, ema_decay=0.99, clean_share=0.05
        ),
        prune=PruneConfig(fraction=0.56, normalise="prompts", min_layer_density=0.02),
        tasks=three_tasks(rain=2.0, haze=2.0),
    )


def small_laboratory() -> Recipe:
    """The recipe `small` of the first published runs (results/evidence), which knows white noise, streaks and haze alone.

    A compact network for two CPU cores: under half an hour a level, an hour and a half a search.

    Narrow at full resolution, where time goes, wide and deep at 1/8, where parameters are cheap and a ticket can do without
    most of them. Few levels, so that each can train long: 100, 46, 21 and 10 % of all parameters. LAMP leaves weights to the
    layers that everything passes through, and the rewind point is late (Frankle et al. 2020, arXiv 1912.05671): in so few
    updates a sparse network does not make up for a start from nothing. Noise, rain and haze come as often as each other:
    with two thirds of that share of rain the network learns it far more slowly (the run less-rain in docs/results.md).
    """
    return Recipe(
        name="small-laboratory",
        network=NetworkConfig(
            width=16,
            blocks=(1, 1, 2, 4),
            refinement_blocks=1,
            heads=(1, 2, 4, 8),
            expansion=2.0,
            prompts=5,
            prompt_widths=(16, 16, 32),
            prompt_sizes=(16, 16, 8),
        ),
        train=TrainConfig(
            steps=5000,
            batch=8,
            patch=64,
            optimizer="muon",
            learning_rate=4e-3,
            minimum_learning_rate=1e-6,
            warmup_steps=100,
            ema_decay=0.995,
            clean_share=0.08,
            validate_every=1000,
        ),
        prune=PruneConfig(keep=0.10, fraction=0.55, score="lamp", rate_exponent=0.5),
        tasks=THREE_TASKS,
        rewind_step=1000,
    )


PEOPLE = (
    TaskShare("denoise15", 0.04),
    TaskShare("denoise25", 0.04),
    TaskShare("denoise50", 0.05),
    TaskShare("gaussian", 0.06),
    TaskShare("correlated", 0.03),
    TaskShare("camera", 0.13),
    TaskShare("coded", 0.08),
    TaskShare("derain", 0.10),
    TaskShare("rain", 0.09),
    TaskShare("dehaze", 0.12, loss=1.5),
    TaskShare("haze", 0.10, loss=1.5),
    TaskShare("jpeg", 0.07),
    TaskShare("rescaled", 0.02),
    TaskShare("clean", 0.04),
    TaskShare("tone", 0.03),
)
"""What spoils the photographs people have, and what must stay as it is, in the shares of the recipe small."""


def small() -> Recipe:
    """The recipe of the ticket that ships: degradations as they happen, a loss that counts decibels, gradual pruning.

    A parent of 3.3 million parameters, most of them at 1/8 resolution, where they cost little time; the dense level and the
    pruned ones take 2.5 million patches of 64x64, or as much area, each. With a haze head of 7,361 weights the ticket has
    10 % of all parameters. Chosen by the pilots in results/pilots_people.json.
    """
    return Recipe(
        name="small",
        network=replace(small_laboratory().network, width=24),
        train=TrainConfig(
            steps=2_500_000 // 32,
            batch=8,
            patch=128,
            early_patch=64,
            early_share=0.2,
            optimizer="muon",
            learning_rate=4e-3,
            minimum_learning_rate=1e-6,
            warmup_steps=300,
            ema_decay=0.999,
            loss="log-mse",
            block_loss=0.1,
            precision="auto",
            real_share=0.4,
            log_every=100,
        ),
        prune=PruneConfig(keep=0.0975, fraction=0.2, score="lamp", rate_exponent=0.5, reset="none", ramp=0.25),
        tasks=PEOPLE,
    )


PAPER_EPOCH = (3 * 3 * (4744 + 400) + 120 * 200 + 72_135) // 8
"""Updates of an epoch of the published run, 17,803: WED and BSD400 three times with each of three noises, Rain100L 120
times, OTS once, in batches of 8 of which the last, not full, is dropped."""

PAPER_TASKS = (
    *(TaskShare(f"denoise{sigma}", sampling=3.0 * (4744 + 400)) for sigma in (15, 25, 50)),
    TaskShare("derain", sampling=120.0 * 200),
    TaskShare("dehaze", sampling=72_135.0),
)


def paper() -> Recipe:
    """The published network, data mix and schedule (120 epochs a level, 15 of warm-up) with an honest lottery.

    Every tensor is rewound, prompts are pruned like all other weights, and the density counts all parameters:
    `paper_published` is the run as it was.
    """
    return Recipe(
        name="paper",
        network=NetworkConfig(),
        train=TrainConfig(
            steps=120 * PAPER_EPOCH,
            warmup_steps=15 * PAPER_EPOCH,
            batch=8,
            patch=64,
            learning_rate=2e-4,
            validate_every=PAPER_EPOCH,
            real_share=1.0,
        ),
        prune=PruneConfig(keep=0.10, fraction=0.2),
        tasks=PAPER_TASKS,
    )


def paper_published() -> Recipe:
    """The published run with MIR-L's own choices, as its code makes them (read from its repository): 15 rounds of 20 %.

    Prompts and temperatures are neither pruned nor reset, LayerNorm scales are pruned, raw magnitudes are ranked, the rate
    is 0 in the first epoch and ends at 0, no gradient is clipped. `keep` is what 15 rounds leave of a network without the
    six layers that MIR-L's never uses: 1,160,514 weights and 2,393,199 values that nothing prunes.
    """
    clean = paper()
    return replace(
        clean,
        name="paper-published",
        train=replace(clean.train, minimum_learning_rate=0.0, clip_norm=0.0, epochs=120),
        prune=PruneConfig(
            keep=(1_160_514 + 2_393_199) / 35_376_967, fraction=0.2, normalise="none", prunable="name", reset="partial"
        ),
    )


RECIPES = {
    "tiny": tiny,
    "small": small,
    "small-laboratory": small_laboratory,
    "paper": paper,
    "paper-published": paper_published,
}


def named_recipe(name: str) -> Recipe:
    """Return the shipped recipe called `name`; raises MirlError listing the known names."""
    if name not in RECIPES:
        raise MirlError(f"unknown recipe {name!r}; expected one of {', '.join(RECIPES)}")
    return RECIPES[name]()


def with_steps(recipe: Recipe, steps: int) -> Recipe:
    """Return the recipe with so many updates a level; the warm-up keeps its share."""
    warmup = recipe.train.warmup_steps * steps // recipe.train.steps
    return replace(recipe, train=replace(recipe.train, steps=steps, warmup_steps=warmup))


def to_dict(config: Any) -> dict[str, Any]:
    """Turn a recipe or a part of one into plain JSON values."""
    return dataclasses.asdict(config)


def network_from_dict(values: Any) -> NetworkConfig:
    """Rebuild a NetworkConfig from JSON. Raises MirlError on missing, unknown or ill-typed fields."""
    return from_plain(NetworkConfig, values)


def recipe_from_dict(values: Any) -> Recipe:
    """Rebuild a Recipe from JSON. Raises MirlError on missing, unknown or ill-typed fields."""
    return from_plain(Recipe, values)
