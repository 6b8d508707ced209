"""PromptIR: one blind network for rain, haze and noise. Written from the papers.

- Restormer (Zamir et al. 2022, arXiv 2111.09881): transposed attention (section 3.1), gated feed-forward (section 3.2),
  four-level encoder-decoder with pixel-(un)shuffle (figure 2).
- PromptIR (Potlapalli et al. 2023, arXiv 2306.13090): prompt generation and interaction in the decoder (section 3.1).

Formulated for speed: features are (b, h, w, c), the channels-last memory that both a 1x1 convolution (a matmul) and the
native LayerNorm read without a copy; a permuted view of the same memory is what the 3x3 convolutions take.
The norms of queries and keys divide the small Gram matrix instead of the large features, and the attention matrix is
multiplied into the output projection where that is cheaper. `layers.py` is the same network as a list of shapes.
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mirl.layers import hidden_width, stage_widths
from mirl.network.kernels import Kernels
from mirl.recipe import NetworkConfig
from mirl.ticket import Ticket

SCALE = 8  # the encoder halves the resolution three times


def conv3x3(x: Tensor, weight: Tensor, groups: int = 1) -> Tensor:
    """Convolve (b, h, w, inputs) with 3x3 filters and zero padding, channels last throughout."""
    return F.conv2d(x.permute(0, 3, 1, 2), weight, padding=1, groups=groups).permute(0, 2, 3, 1)


class Conv3x3(nn.Module):
    """Bias-free 3x3 convolution on (b, h, w, c) features; depthwise with `groups` equal to the channels."""

    kernels: Kernels | None = None  # PyTorch's

    def __init__(self, inputs: int, outputs: int, groups: int = 1):
        super().__init__()
        self.groups = groups
        self.weight = nn.Parameter(torch.empty(outputs, inputs // groups, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, h, w, inputs) to (b, h, w, outputs) with zero padding."""
        if self.kernels is not None and self.groups == 1:
            return self.kernels.convolution(x, self.weight)
        return conv3x3(x, self.weight, self.groups)


class Affinity(nn.Module):
    """The attention matrix from what it depends on; a module of its own so that tiles of one photo can share statistics."""

    def forward(self, gram: Tensor, squares: Tensor, temperature: Tensor) -> Tensor:
        """Return softmax(temperature * q kT) for q and k of unit length over the pixels (Restormer eq. 1).

        `gram` (b, heads, c/heads, c/heads) is q kT before normalisation, `squares` (b, 2, heads, c/heads) the squared
        lengths of q and k; both are sums over pixels.
        """
        q, k = squares.unbind(1)
        lengths = (q.unsqueeze(-1) * k.unsqueeze(-2)).clamp_min(1e-24)
        return (gram * torch.rsqrt(lengths) * temperature[:, None, None]).softmax(dim=-1)


class Attention(nn.Module):
    """Transposed attention: every head mixes its channels, whatever the number of pixels (Restormer section 3.1)."""

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.heads = heads
        self.temperature = nn.Parameter(torch.empty(heads))
        self.qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.qkv_depthwise = Conv3x3(3 * channels, 3 * channels, groups=3 * channels)
        self.affinity = Affinity()
        self.project = nn.Linear(channels, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, h, w, c) to (b, h, w, c)."""
        b, h, w, c = x.shape
        heads, n, width = self.heads, h * w, c // self.heads
        qkv = self.qkv_depthwise(self.qkv(x)).reshape(b, n, 3 * c)
        query_key, value = qkv.split((2 * c, c), dim=-1)
        squares = query_key.float().square().sum(dim=1).reshape(b, 2, heads, width)
        slices = query_key.split(width, dim=-1)
        gram = torch.stack([torch.bmm(slices[i].mT, slices[heads + i]) for i in range(heads)], dim=1)
        attention = self.affinity(gram.float(), squares, self.temperature).to(value.dtype)
        if n >= c:  # one c x c matrix an image, applied once: cheaper than mixing every pixel and then projecting it
            projection = self.project.weight.to(value.dtype).mT.reshape(heads, width, c)
            out = torch.bmm(value, (attention.mT @ projection).reshape(b, c, c))
        else:
            heads_value = value.reshape(b, n, heads, width).transpose(1, 2)
            out = self.project((heads_value @ attention.mT).transpose(1, 2).reshape(b, n, c))
        return out.reshape(b, h, w, c)


class FeedForward(nn.Module):
    """Gated depthwise feed-forward network: project(gelu(a) * b), a and b the halves of the expanded features (eq. 2).

    The halves are computed apart, each in memory of its own: the gate on strided halves of one tensor is a quarter slower.
    """

    def __init__(self, channels: int, expansion: float):
        super().__init__()
        hidden = hidden_width(channels, expansion)
        self.expand = nn.Linear(channels, 2 * hidden, bias=False)
        self.depthwise = Conv3x3(2 * hidden, 2 * hidden, groups=2 * hidden)
        self.project = nn.Linear(hidden, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, h, w, c) to (b, h, w, c)."""
        gate, content = (
            conv3x3(F.linear(x, expand), filters, groups=filters.shape[0])
            for expand, filters in zip(self.expand.weight.chunk(2), self.depthwise.weight.chunk(2), strict=True)
        )
        return self.project(F.gelu(gate) * content)


class Block(nn.Module):
    """Transformer block: attention and feed-forward, each behind a LayerNorm over channels and a residual."""

    kernels: Kernels | None = None  # PyTorch's
    units: Tensor | None = None  # of the feed-forward, those that masks leave alive; None: all

    def __init__(self, channels: int, heads: int, expansion: float):
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attention = Attention(channels, heads)
        self.norm2 = nn.LayerNorm(channels)
        self.feed_forward = FeedForward(channels, expansion)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, h, w, c) to (b, h, w, c)."""
        if self.kernels is None:
            x = x + self.attention(self.norm1(x))
            return x + self.feed_forward(self.norm2(x))
        a, f = self.attention, self.feed_forward
        weights = (a.qkv.weight, a.qkv_depthwise.weight, a.temperature, a.project.weight)
        x = self.kernels.attention(x, self.norm1.weight, self.norm1.bias, *weights)
        expand, filters, project = f.expand.weight, f.depthwise.weight, f.project.weight
        if self.units is not None:
            both = torch.cat((self.units, self.units + f.project.in_features))
            return self.kernels.feed_forward(
                x, self.norm2.weight, self.norm2.bias, expand[both], filters[both], project[:, self.units]
            )
        return self.kernels.feed_forward(x, self.norm2.weight, self.norm2.bias, expand, filters, project)


class Prompt(nn.Module):
    """Prompt generation: components mixed by the image's mean features, resized to the features (PromptIR eq. 2-3)."""

    def __init__(self, channels: int, prompts: int, width: int, size: int):
        super().__init__()
        self.values = nn.Parameter(torch.empty(prompts, size, size, width))
        self.select = nn.Linear(channels, prompts)
        self.conv = Conv3x3(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map features (b, h, w, channels) to a prompt (b, h, w, width)."""
        b, h, w, _ = x.shape
        shares = self.select(x.mean(dim=(1, 2))).softmax(dim=-1)
        prompts, size, _, width = self.values.shape
        prompt = (shares.to(self.values.dtype) @ self.values.reshape(prompts, -1)).reshape(b, size, size, width)
        if (h, w) != (size, size):
            resized = F.interpolate(prompt.permute(0, 3, 1, 2), (h, w), mode="bilinear", align_corners=False)
            prompt = resized.permute(0, 2, 3, 1)
        return self.conv(prompt)


class PromptIR(nn.Module):
    """The whole network: (b, 3, h, w) degraded RGB in [0, 1] to (b, 3, h, w) restored, not clipped; any h and w.

    Parameters are uninitialised until `initialise` or `load_state_dict`.
    """

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.config = config
        w = config.width
        for name, (channels, heads, count, _) in stage_widths(config).items():
            self.add_module(name, nn.Sequential(*(Block(channels, heads, config.expansion) for _ in range(count))))
        self.embed = Conv3x3(3, w)
        self.down1, self.down2, self.down3 = Conv3x3(w, w // 2), Conv3x3(2 * w, w), Conv3x3(4 * w, 2 * w)
        p1, p2, p3 = config.prompt_widths
        s1, s2, s3 = config.prompt_sizes
        self.prompt3 = Prompt(8 * w, config.prompts, p3, s3)
        self.prompt2 = Prompt(4 * w, config.prompts, p2, s2)
        self.prompt1 = Prompt(2 * w, config.prompts, p1, s1)
        self.reduce3 = nn.Linear(8 * w + p3, 4 * w, bias=False)
        self.reduce2 = nn.Linear(4 * w + p2, 4 * w, bias=False)
        self.reduce1 = nn.Linear(2 * w + p1, 2 * w, bias=False)
        self.up3, self.up2, self.up1 = Conv3x3(4 * w, 8 * w), Conv3x3(4 * w, 8 * w), Conv3x3(2 * w, 4 * w)
        self.fuse3 = nn.Linear(6 * w, 4 * w, bias=False)
        self.fuse2 = nn.Linear(4 * w, 2 * w, bias=False)
        self.output = Conv3x3(2 * w, 3)

    def forward(self, image: Tensor) -> Tensor:
        """Restore a batch; the image is reflected up to a multiple of 8 and the result cut back."""
        h, w = image.shape[-2:]
        x0 = _reflect_pad(image).permute(0, 2, 3, 1)
        x1 = self._stage("encoder1", self.embed(x0))
        x2 = self._stage("encoder2", _unshuffle(self.down1(x1)))
        x3 = self._stage("encoder3", _unshuffle(self.down2(x2)))
        x = self._stage("latent", _unshuffle(self.down3(x3)))
        x = _shuffle(self.up3(self.reduce3(self._stage("mix3", torch.cat((x, self.prompt3(x)), -1)))))
        x = self._stage("decoder3", self.fuse3(torch.cat((x, x3), -1)))
        x = _shuffle(self.up2(self.reduce2(self._stage("mix2", torch.cat((x, self.prompt2(x)), -1)))))
        x = self._stage("decoder2", self.fuse2(torch.cat((x, x2), -1)))
        x = _shuffle(self.up1(self.reduce1(self._stage("mix1", torch.cat((x, self.prompt1(x)), -1)))))
        x = self._stage("decoder1", torch.cat((x, x1), -1))
        x = x0 + self.output(self._stage("refinement", x))
        return x.permute(0, 3, 1, 2)[..., :h, :w]

    def _stage(self, name: str, x: Tensor) -> Tensor:
        """Run a stack of blocks."""
        out: Tensor = self.get_submodule(name)(x)
        return out


def use_kernels(network: nn.Module, kernels: Kernels | None, masks: Mapping[str, Tensor] | None = None) -> None:
    """Let every block and every dense convolution of `network` run on `kernels`; None stands for PyTorch's.

    `masks` (True: survives), under which the network stays until the next call, tell which units of the feed-forward
    networks are dead: our kernels pass over these, and over their gradients, which are zero.
    """
    for name, module in network.named_modules():
        if isinstance(module, Block | Conv3x3):
            module.kernels = kernels
        if isinstance(module, Block):
            live = live_units(module.feed_forward, f"{name}.feed_forward", masks or {})
            module.units = None if live.all() else live.nonzero()[:, 0]


def live_units(layer: FeedForward, name: str, masks: Mapping[str, Tensor]) -> Tensor:
    """Return which of the hidden units (hidden,) can be other than zero, or matter, under the masks of the layer `name`.

    Unit j is dead when its row of either half of the expansion is pruned, either of its filters, or its column of the
    projection: then project(gelu(a) b) does not see it, and every gradient of a surviving weight of it is zero.
    """
    units = layer.project.in_features
    live = torch.ones(units, dtype=torch.bool)
    for leaf in ("expand", "depthwise"):
        if (mask := masks.get(f"{name}.{leaf}.weight")) is not None:
            live &= mask.reshape(2, units, -1).any(2).all(0).cpu()
    if (mask := masks.get(f"{name}.project.weight")) is not None:
        live &= mask.any(0).cpu()
    return live


def initialise(network: nn.Module, generator: torch.Generator) -> None:
    """Give every parameter its initial value from `generator` (CPU), in the order of `named_parameters`.

    Convolutions and linear layers: uniform in +-1/sqrt(fan-in), PyTorch's default; prompts: uniform in [0, 1]
    (PromptIR); LayerNorm: 1 and 0; temperatures: 1.
    """
    with torch.no_grad():
        for name, parameter in sorted(network.named_parameters()):
            leaf = name.rsplit(".", 1)[-1]
            if leaf == "values":
                drawn = torch.rand(parameter.shape, generator=generator)
            elif leaf == "temperature" or (".norm" in name and leaf == "weight"):
                drawn = torch.ones(parameter.shape)
            elif ".norm" in name:
                drawn = torch.zeros(parameter.shape)
            else:
                weight = network.get_parameter(name.replace("bias", "weight"))
                bound = 1 / math.sqrt(weight[0].numel())
                drawn = (torch.rand(parameter.shape, generator=generator) * 2 - 1) * bound
            parameter.copy_(drawn)


def network_of(ticket: Ticket) -> PromptIR:
    """Build the network of a ticket on the CPU, in evaluation mode, without gradients."""
    network = PromptIR(ticket.network)
    network.load_state_dict({name: torch.from_numpy(value) for name, value in ticket.weights.items()})
    return network.eval().requires_grad_(False)


def _unshuffle(x: Tensor) -> Tensor:
    """(b, h, w, c) -> (b, h/2, w/2, 4c), channel order of pixel-unshuffle."""
    b, h, w, c = x.shape
    return x.reshape(b, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 5, 2, 4).reshape(b, h // 2, w // 2, 4 * c)


def _shuffle(x: Tensor) -> Tensor:
    """(b, h, w, 4c) -> (b, 2h, 2w, c), channel order of pixel-shuffle."""
    b, h, w, c = x.shape
    return x.reshape(b, h, w, c // 4, 2, 2).permute(0, 1, 4, 2, 5, 3).reshape(b, 2 * h, 2 * w, c // 4)


def _reflect_pad(image: Tensor) -> Tensor:
    """Reflect the bottom and right edges to a multiple of 8; unlike F.pad it reflects small images repeatedly."""
    for dim in (-2, -1):
        size = image.shape[dim]
        if padded := -size % SCALE:
            period = max(2 * (size - 1), 1)
            position = torch.arange(size + padded, device=image.device) % period
            image = image.index_select(dim, torch.minimum(position, period - position) if size > 1 else position)
    return image
