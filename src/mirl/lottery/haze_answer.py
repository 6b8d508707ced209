"""Train the haze head of a ticket: how much haze is in a photograph?

A few thousand weights look at a thumbnail (`mirl.engine.haze`). Training takes minutes on one core: a bank of examples
(`mirl.lottery.haze_examples`) made from clean photographs, then some thousand small updates. One photograph in
VALIDATION_STEP trains nothing: examples made of those choose the thresholds between which the answer rises from 0 to 1.
The same data, seed and machine give the same head.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, conv2d, relu

from mirl.engine.haze import FLOOR
from mirl.engine.haze import features as seen
from mirl.errors import MirlError
from mirl.haze_head import HazeHead, head_shapes
from mirl.lottery.haze_examples import SHAPES, UNTREATED, Example, Maker, Source
from mirl.lottery.haze_sources import haze_sources
from mirl.lottery.muon import Muon

VALIDATION_STEP = 8
UNTREATED_PART = 3  # one in so many training examples is a photograph as it is, with haze or without
SURFACES_PART = 8  # and beside so many there is one more of a surface: they are the hardest to tell from haze
FALSE_SHARE, SURE_SHARE = 0.03, 0.7
"""`low` is passed by this share of the untreated haze-free photographs (some are misty), `high` by this share of the hazy.

The treated examples are made to look like haze, or not like it: their shares say nothing of photographs.
"""
CUT = 12  # pixels off a thumbnail's side, in every second update
LEAST_RISE = 0.05  # from low to high


@dataclass(frozen=True)
class HazeTraining:
    """How a head is trained: channels of its convolutions, size of the bank, updates of how many examples, rate.

    A sixth as many examples again validate, half of them untreated.
    """

    widths: tuple[int, ...] = (8, 16, 16, 24)
    examples: int = 24_000
    steps: int = 4_000
    batch: int = 32
    learning_rate: float = 1e-2
    weight_decay: float = 1e-3
    seed: int = 0


@dataclass(frozen=True)
class HazeResult:
    """A trained head and its probabilities of haze on the validation examples, by what was done to them."""

    head: HazeHead
    training: HazeTraining
    photos: int
    hazy: dict[str, list[float]] = field(default_factory=dict)
    clean: dict[str, list[float]] = field(default_factory=dict)

    def share_above(self, threshold: float, hazy: bool, kind: str | None = None) -> float:
        """Return the share of the hazy (or haze-free) validation examples, of one kind or all, above `threshold`."""
        values = [p for name, many in (self.hazy if hazy else self.clean).items() if kind in (None, name) for p in many]
        return float(np.mean(np.array(values) > threshold)) if values else 0.0

    def told(self) -> dict[str, Any]:
        """Return what a ticket's provenance says of its head: data, training, shares of validation examples."""
        answers = {
            "hazy_surely": self.share_above(self.head.high, True, UNTREATED),
            "hazy": self.share_above(self.head.low, True, UNTREATED),
            "false": self.share_above(self.head.low, False, UNTREATED),
            "false_treated": self.share_above(self.head.low, False),
        }
        return {"photos": self.photos, **asdict(self.training), **{name: round(share, 4) for name, share in answers.items()}}


def train_haze_head(
    root: Path | None,
    training: HazeTraining | None = None,
    on_step: Callable[[str, int, int], None] | None = None,
    skip_bad: bool = False,
) -> HazeResult:
    """Train a head on the clean photographs below `root` (None: those in the package), in MIR-L's layout.

    Depth maps are used where the `depth` folders of dehaze sets hold them. `on_step` is told what is being done, how much
    of it and of how much; bad files are passed over with `skip_bad`. Raises MirlError as `split_folder` does, and with
    fewer than VALIDATION_STEP photographs.
    """
    training, tell = training or HazeTraining(), on_step or (lambda what, done, total: None)
    sources = list(haze_sources(root, skip_bad))
    if len(sources) < VALIDATION_STEP:
        raise MirlError(f"{root}: {len(sources)} photographs, expected at least {VALIDATION_STEP} to train a haze head")
    held_out = sources[VALIDATION_STEP - 1 :: VALIDATION_STEP]
    rest = [source for place, source in enumerate(sources) if (place + 1) % VALIDATION_STEP]
    maker = Maker(training.seed)
    plain, surfaces = training.examples // UNTREATED_PART, training.examples // SURFACES_PART
    examples = [
        *_examples(maker, rest, training.examples - plain, training.seed, "making examples", tell, treated=True),
        *_examples(maker, rest, plain, training.seed + 3, "making examples", tell, treated=False),
        *_examples(maker, rest, surfaces, training.seed + 4, "making surfaces", tell, scene="surface"),
    ]
    network = _train(examples, training, tell)
    count = max(training.examples // 12, VALIDATION_STEP)
    checks = [
        *_examples(maker, held_out, count, training.seed + 1, "validating", tell, treated=False),
        *_examples(maker, held_out, count, training.seed + 2, "validating", tell, treated=True),
    ]
    answers = network.probabilities([check.small for check in checks])
    clean, hazy = (answers[:count][[check.hazy == wanted for check in checks[:count]]] for wanted in (False, True))
    low = float(np.clip(np.quantile(clean, 1 - FALSE_SHARE), 0.5, 0.9))
    high = float(np.clip(np.quantile(hazy, 1 - SURE_SHARE), low + LEAST_RISE, 0.99))
    result = HazeResult(network.head(round(low, 4), round(high, 4)), training, len(sources))
    for check, answer in zip(checks, answers, strict=True):
        (result.hazy if check.hazy else result.clean).setdefault(check.kind, []).append(float(answer))
    return result


class HeadNetwork(nn.Module):
    """The head in torch, its parameters named as a head's tensors; `mirl.engine.haze.probability` is the same in numpy."""

    def __init__(self, widths: tuple[int, ...], generator: torch.Generator) -> None:
        """Draw weights by He et al. 2015 from `generator`; biases and the output begin at zero."""
        super().__init__()
        self.widths = widths
        for name, shape in head_shapes(widths).items():
            spread = (2 / int(np.prod(shape[1:]))) ** 0.5 if len(shape) == 4 else 0.0
            layer, kind = name.split(".")
            if not hasattr(self, layer):
                self.add_module(layer, nn.Module())
            value = torch.randn(shape, generator=generator) * spread
            self.get_submodule(layer).register_parameter(kind, nn.Parameter(value))

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (n,) of thumbnails' features, float32 (n, 5, h, w)."""
        own = dict(self.named_parameters())
        for i in range(1, len(self.widths) + 1):
            x = relu(conv2d(x, own[f"conv{i}.weight"], own[f"conv{i}.bias"], stride=2, padding=1))
        return x.mean((2, 3)) @ own["output.weight"] + own["output.bias"]

    @torch.no_grad()
    def probabilities(self, thumbnails: Sequence[np.ndarray]) -> np.ndarray:
        """Return the probability of haze for each thumbnail, uint8 (h, w, 3)."""
        return np.array([float(torch.sigmoid(self(features(with_dark(small)[None])))) for small in thumbnails])

    def halve(self) -> None:
        """Round all weights to float16, as a ticket's file holds them."""
        for value in self.parameters():
            value.data = value.data.half().float()

    def head(self, low: float, high: float) -> HazeHead:
        """Return its weights as a value."""
        tensors = {name: value.detach().numpy().copy() for name, value in self.named_parameters()}
        return HazeHead(self.widths, low, high, tensors)


def with_dark(small: np.ndarray) -> np.ndarray:
    """Return a thumbnail uint8 (h, w, 3) with its dark channel as a fourth."""
    dark = seen(small.astype(np.float32))[3].astype(np.uint8)
    return np.concatenate([small, dark[..., None]], axis=2)


def features(thumbnails: np.ndarray) -> Tensor:
    """Return (n, 5, h, w) of thumbnails `with_dark`, uint8 (n, h, w, 4): what `mirl.engine.haze.features` gives for each."""
    x = torch.from_numpy(np.ascontiguousarray(thumbnails.transpose(0, 3, 1, 2))).float() / 255
    most, least = x[:, :3].amax(1, keepdim=True), x[:, :3].amin(1, keepdim=True)
    seen_so = torch.cat([x, (most - least) / (most + FLOOR)], dim=1)
    return seen_so.contiguous(memory_format=torch.channels_last)  # convolutions of so few channels take half the time


def _train(examples: Sequence[Example], training: HazeTraining, tell: Callable[[str, int, int], None]) -> HeadNetwork:
    """Train with Muon along a cosine; each update sees thumbnails of one shape.

    In 500 updates of 32 Muon at 1e-2 reached a validation loss of 0.380, AdamW 0.395 at best.
    """
    rng = np.random.default_rng([training.seed % 2**63, 11])
    banks = []
    for shape in SHAPES:
        of_shape = [example for example in examples if example.small.shape[:2] == shape]
        if of_shape:
            answers = torch.tensor([float(example.hazy) for example in of_shape])
            banks.append((np.stack([with_dark(example.small) for example in of_shape]), answers))
    shares = np.array([len(answers) for _, answers in banks], float) / len(examples)
    network = HeadNetwork(training.widths, torch.Generator().manual_seed(training.seed))
    optimizer = Muon(network, training.learning_rate, training.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, training.steps))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so small a network is slower on more, and this way the sums have one order
    try:
        for step in range(training.steps):
            thumbnails, answers = banks[rng.choice(len(banks), p=shares)]
            places = rng.integers(len(answers), size=training.batch)
            batch = _varied(thumbnails[places], rng)
            loss = binary_cross_entropy_with_logits(network(features(batch)), answers[places])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            tell("training", step + 1, training.steps)
    finally:
        torch.set_num_threads(threads)
    network.halve()
    return network


def _varied(batch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mirror thumbnails (n, h, w, 4), or not; cut CUT pixels off their height and width, or not."""
    height, width = (size - CUT * int(rng.integers(2)) for size in batch.shape[1:3])  # few sizes: torch prepares for each
    top, left = int(rng.integers(batch.shape[1] - height + 1)), int(rng.integers(batch.shape[2] - width + 1))
    return batch[:, top : top + height, left : left + width][:, :, :: 1 - 2 * int(rng.integers(2))]


def _rate(step: int, steps: int) -> float:
    return min(1.0, (step + 1) / 20) * (0.5 + 0.5 * math.cos(math.pi * step / steps))


def _examples(
    maker: Maker,
    sources: Sequence[Source],
    count: int,
    seed: int,
    what: str,
    tell: Callable[[str, int, int], None],
    treated: bool = True,
    scene: str | None = None,
) -> list[Example]:
    """Make `count` examples, every second one in haze or, of a given scene, none; photographs and shapes are drawn."""
    made = []
    for number in range(count):
        rng = np.random.default_rng([seed % 2**63, 3, number])
        source = sources[int(rng.integers(len(sources)))]
        shape = SHAPES[int(rng.integers(len(SHAPES)))]
        made.append(maker.example(source, shape, number % 2 == 0 and scene is None, rng, treated, scene))
        tell(what, number + 1, count)
    return made
