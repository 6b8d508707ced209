"""The network as a list of parameters: name, kind, shape and cost, without torch.

One description serves the ticket reader (which names and shapes must a file hold?), the pruner (which tensors may be
pruned?), `mirl inspect` (density by MACs) and the engines. A test holds it equal to `network.promptir.PromptIR`.
Architecture: PromptIR (arXiv 2306.13090, figure 2) on Restormer's blocks (arXiv 2111.09881, section 3).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Literal

from mirl.recipe import NetworkConfig

Kind = Literal["conv", "pointwise", "depthwise", "linear", "prompt", "norm", "bias", "temperature"]
PRUNABLE_KINDS = ("conv", "pointwise", "depthwise", "linear", "prompt")


@dataclass(frozen=True)
class Parameter:
    """One tensor of the network.

    `uses_per_pixel` counts the multiply-accumulates of one weight for each input pixel: 1/scale^2 for a convolution at
    1/scale of the full resolution. It is 0 for what is computed once an image, whatever its size.
    """

    name: str
    kind: Kind
    shape: tuple[int, ...]
    uses_per_pixel: float = 0.0

    @property
    def size(self) -> int:
        """Number of values."""
        return prod(self.shape)

    @property
    def prunable(self) -> bool:
        """Whether it holds weights in the sense of pruning: never norms, biases or temperatures."""
        return self.kind in PRUNABLE_KINDS

    @property
    def called_weight(self) -> bool:
        """Whether its name says weight: LayerNorm scales too, prompts not. MIR-L prunes these."""
        return self.name.endswith("weight")

    @property
    def maskable(self) -> bool:
        """Whether a ticket may hold a mask for it: every prunable tensor, and LayerNorm scales."""
        return self.prunable or self.called_weight


def hidden_width(width: int, expansion: float) -> int:
    """Channels of each of the two branches in the gated feed-forward network."""
    return int(width * expansion)


def stage_widths(config: NetworkConfig) -> dict[str, tuple[int, int, int, int]]:
    """Name -> (channels, heads, number of blocks, scale) of every stack of transformer blocks, in forward order."""
    w, (h1, h2, h3, h4), (b1, b2, b3, b4) = config.width, config.heads, config.blocks
    p1, p2, p3 = config.prompt_widths
    return {
        "encoder1": (w, h1, b1, 1),
        "encoder2": (2 * w, h2, b2, 2),
        "encoder3": (4 * w, h3, b3, 4),
        "latent": (8 * w, h4, b4, 8),
        "mix3": (8 * w + p3, h3, 1, 8),
        "decoder3": (4 * w, h3, b3, 4),
        "mix2": (4 * w + p2, h3, 1, 4),
        "decoder2": (2 * w, h2, b2, 2),
        "mix1": (2 * w + p1, h3, 1, 2),
        "decoder1": (2 * w, h1, b1, 1),
        "refinement": (2 * w, h1, config.refinement_blocks, 1),
    }


def parameters(config: NetworkConfig) -> tuple[Parameter, ...]:
    """List every tensor of the network in forward order."""
    return tuple(_network(config))


def parameter_count(config: NetworkConfig) -> int:
    """Count all trainable values; 35,376,967 for the published shape without its six unused layers."""
    return sum(parameter.size for parameter in parameters(config))


def macs_per_pixel(config: NetworkConfig) -> float:
    """Multiply-accumulates with weights for each input pixel when nothing is pruned (attention products excluded)."""
    return sum(parameter.size * parameter.uses_per_pixel for parameter in parameters(config))


def attention_macs_per_pixel(config: NetworkConfig) -> float:
    """Multiply-accumulates of q kT and attention v for each input pixel; no weight takes part, so none is ever pruned."""
    return sum(
        count * 2 * channels * (channels // heads) / scale**2
        for channels, heads, count, scale in stage_widths(config).values()
    )


def _network(config: NetworkConfig) -> Iterator[Parameter]:
    w, stages = config.width, stage_widths(config)

    def stage(name: str) -> Iterator[Parameter]:
        channels, heads, count, scale = stages[name]
        for index in range(count):
            yield from _block(f"{name}.{index}", channels, heads, config.expansion, scale)

    yield _conv("embed", w, 3, 1)
    yield from stage("encoder1")
    yield _conv("down1", w // 2, w, 1)
    yield from stage("encoder2")
    yield _conv("down2", w, 2 * w, 2)
    yield from stage("encoder3")
    yield _conv("down3", 2 * w, 4 * w, 4)
    yield from stage("latent")
    # The decoder, from 1/8 to full resolution: prompt, mix, reduce, upsample, fuse with the encoder, blocks.
    # Channels of the features that meet the prompt, that leave `reduce`, and after `up`:
    plan = ((3, 8 * w, 4 * w, 8), (2, 4 * w, 4 * w, 4), (1, 2 * w, 2 * w, 2))
    for level, channels, reduced, scale in plan:
        prompt_width, size = config.prompt_widths[level - 1], config.prompt_sizes[level - 1]
        yield Parameter(f"prompt{level}.values", "prompt", (config.prompts, size, size, prompt_width))
        yield Parameter(f"prompt{level}.select.weight", "linear", (config.prompts, channels))
        yield Parameter(f"prompt{level}.select.bias", "bias", (config.prompts,))
        yield _conv(f"prompt{level}.conv", prompt_width, prompt_width, scale)
        yield from stage(f"mix{level}")
        yield _pointwise(f"reduce{level}", reduced, channels + prompt_width, scale)
        yield _conv(f"up{level}", 2 * reduced, reduced, scale)
        if level > 1:
            skip = 4 * w if level == 3 else 2 * w
            yield _pointwise(f"fuse{level}", skip, reduced // 2 + skip, scale // 2)
        yield from stage(f"decoder{level}")
    yield from stage("refinement")
    yield _conv("output", 3, 2 * w, 1)


def _block(name: str, channels: int, heads: int, expansion: float, scale: int) -> Iterator[Parameter]:
    hidden = hidden_width(channels, expansion)
    yield Parameter(f"{name}.norm1.weight", "norm", (channels,))
    yield Parameter(f"{name}.norm1.bias", "norm", (channels,))
    yield Parameter(f"{name}.attention.temperature", "temperature", (heads,))
    yield _pointwise(f"{name}.attention.qkv", 3 * channels, channels, scale)
    yield _depthwise(f"{name}.attention.qkv_depthwise", 3 * channels, scale)
    yield _pointwise(f"{name}.attention.project", channels, channels, scale)
    yield Parameter(f"{name}.norm2.weight", "norm", (channels,))
    yield Parameter(f"{name}.norm2.bias", "norm", (channels,))
    yield _pointwise(f"{name}.feed_forward.expand", 2 * hidden, channels, scale)
    yield _depthwise(f"{name}.feed_forward.depthwise", 2 * hidden, scale)
    yield _pointwise(f"{name}.feed_forward.project", channels, hidden, scale)


def _conv(name: str, outputs: int, inputs: int, scale: int) -> Parameter:
    return Parameter(f"{name}.weight", "conv", (outputs, inputs, 3, 3), 1 / scale**2)


def _pointwise(name: str, outputs: int, inputs: int, scale: int) -> Parameter:
    return Parameter(f"{name}.weight", "pointwise", (outputs, inputs), 1 / scale**2)


def _depthwise(name: str, channels: int, scale: int) -> Parameter:
    return Parameter(f"{name}.weight", "depthwise", (channels, 1, 3, 3), 1 / scale**2)
