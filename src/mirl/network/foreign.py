"""PromptIR's and MIR-L's checkpoints as tickets: published names and shapes to ours, and the network they are of.

Written from the papers (PromptIR, arXiv 2306.13090; Restormer, arXiv 2111.09881; MIR-L, arXiv 2510.14463) and the key names
of published checkpoints. Both networks agree on images whose sides are multiples of 8. What ours cannot express is an error:
no prompts, LayerNorm without bias, convolutions with a bias, stages whose heads or expansion leave the published plan. One
thing differs, far below trained sizes: ours divides q kT by max(|q||k|, 1e-12), the published code each of q and k by its
length or 1e-12.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirl.errors import MirlError
from mirl.layers import Parameter, hidden_width, parameters
from mirl.recipe import NetworkConfig
from mirl.ticket import Ticket

State = Mapping[str, NDArray[np.float32]]

_FIRST = "patch_embed.proj.weight"  # the key that tells where in a file the network's keys begin
_STAGES = {
    "encoder1": "encoder_level1",
    "encoder2": "encoder_level2",
    "encoder3": "encoder_level3",
    "latent": "latent",
    "mix3": "noise_level3",
    "decoder3": "decoder_level3",
    "mix2": "noise_level2",
    "decoder2": "decoder_level2",
    "mix1": "noise_level1",
    "decoder1": "decoder_level1",
    "refinement": "refinement",
}
_IN_BLOCK = {
    "norm1.weight": "norm1.body.weight",
    "norm1.bias": "norm1.body.bias",
    "attention.temperature": "attn.temperature",
    "attention.qkv.weight": "attn.qkv.weight",
    "attention.qkv_depthwise.weight": "attn.qkv_dwconv.weight",
    "attention.project.weight": "attn.project_out.weight",
    "norm2.weight": "norm2.body.weight",
    "norm2.bias": "norm2.body.bias",
    "feed_forward.expand.weight": "ffn.project_in.weight",
    "feed_forward.depthwise.weight": "ffn.dwconv.weight",
    "feed_forward.project.weight": "ffn.project_out.weight",
}
_LAYERS = {
    "embed": "patch_embed.proj",
    "down1": "down1_2.body.0",
    "down2": "down2_3.body.0",
    "down3": "down3_4.body.0",
    "up3": "up4_3.body.0",
    "up2": "up3_2.body.0",
    "up1": "up2_1.body.0",
    "reduce3": "reduce_noise_level3",
    "reduce2": "reduce_noise_level2",
    "reduce1": "reduce_noise_level1",
    "fuse3": "reduce_chan_level3",
    "fuse2": "reduce_chan_level2",
    "output": "output",
}
_IN_PROMPT = {
    "values": "prompt_param",
    "select.weight": "linear_layer.weight",
    "select.bias": "linear_layer.bias",
    "conv.weight": "conv3x3.weight",
}
UNUSED = {
    "chnl_reduce1.weight": 64 * 64,
    "chnl_reduce2.weight": 128 * 128,
    "chnl_reduce3.weight": 320 * 256,
    "reduce_noise_channel_1.weight": 112 * 48,
    "reduce_noise_channel_2.weight": 224 * 96,
    "reduce_noise_channel_3.weight": 448 * 192,
}
"""The six 1x1 convolutions that the published code makes and its forward never uses, with their weights at the published
width, 215,296 in all."""


@dataclass(frozen=True)
class Imported:
    """A foreign checkpoint as a ticket, and what was left behind.

    `unused` are tensors of the network that its forward never uses, `outside` those of the file that are not the network's;
    both by name with the number of values.
    """

    ticket: Ticket
    unused: dict[str, int]
    outside: dict[str, int]


def published_name(name: str) -> str:
    """Return the published key of our tensor `name`."""
    layer, _, rest = name.partition(".")
    if layer in _STAGES:
        index, _, leaf = rest.partition(".")
        place = _STAGES[layer] if layer.startswith("mix") else f"{_STAGES[layer]}.{index}"  # one block, not a sequence
        return f"{place}.{_IN_BLOCK[leaf]}"
    if layer.startswith("prompt"):
        return f"{layer}.{_IN_PROMPT[rest]}"
    return f"{_LAYERS[layer]}.{rest}"


def published_shape(parameter: Parameter) -> tuple[int, ...]:
    """Return the published shape: 1x1 convolutions, temperatures (heads, 1, 1), prompts (1, n, width, size, size)."""
    shape = parameter.shape
    if parameter.kind == "pointwise":
        return (*shape, 1, 1)
    if parameter.kind == "temperature":
        return (*shape, 1, 1)
    if parameter.kind == "prompt":
        prompts, height, width, channels = shape
        return (1, prompts, channels, height, width)
    return shape


def import_state(file: Mapping[str, Any]) -> Imported:
    """Return the ticket of a state dict of PromptIR or MIR-L, every value exactly as it is; see `published_shape`.

    Keys may have a prefix, such as Lightning's `net.`; what has another one is not the network's. Values are arrays of
    float32. Zeros of a tensor that a ticket may mask, LayerNorm scales among them, become its mask. Raises MirlError for
    missing or unknown keys, wrong shapes, values that are not finite, and networks that ours cannot express.
    """
    prefix = _prefix(file)
    state = {key[len(prefix) :]: value for key, value in file.items() if key.startswith(prefix)}
    outside = {key: int(value.size) for key, value in file.items() if not key.startswith(prefix)}
    unused = {key: int(state.pop(key).size) for key in UNUSED if key in state}
    _check_kind(state)
    network = _network(state)
    listed = parameters(network)
    _check_names(state, {published_name(p.name) for p in listed})
    weights: dict[str, NDArray[np.float32]] = {}
    masks: dict[str, NDArray[np.bool_]] = {}
    for p in listed:
        weight = weights[p.name] = _converted(p, state[published_name(p.name)])
        if p.maskable and not weight.all():
            masks[p.name] = weight != 0
            weight[~masks[p.name]] = 0  # a negative zero too
    return Imported(Ticket(network, weights, masks), unused, outside)


def _prefix(file: Mapping[str, Any]) -> str:
    found = [key[: -len(_FIRST)] for key in file if key.endswith(_FIRST)]
    prefixes = [prefix for prefix in found if prefix == "" or prefix.endswith(".")]
    if len(prefixes) == 1:
        return prefixes[0]
    if "net." in prefixes:
        return "net."
    if prefixes:
        raise MirlError(
            f"it holds several networks ({', '.join(sorted(prefixes))[:120]}); expected one; save that one alone"
        )
    some = ", ".join(list(file)[:3]) or "nothing"
    raise MirlError(
        f"no PromptIR network: {_FIRST} is missing, found {len(file)} tensors ({some:.120}); expected published keys"
    )


def _check_kind(state: State) -> None:
    """Refuse the published variants that ours cannot express, by what they are rather than by a missing key."""
    if not any(key.startswith("prompt") for key in state):
        raise MirlError(
            "a network without prompts (Restormer, or PromptIR with decoder=False), which mirl's cannot express; "
            "expected prompt1 to prompt3"
        )
    norms = [key for key in state if re.search(r"norm[12]\.body\.weight$", key)]
    if norms and not any(key.replace("weight", "bias") in state for key in norms):
        raise MirlError(
            "its LayerNorm has no bias (BiasFree) and so subtracts no mean, which mirl's network cannot express; "
            "expected WithBias, the published kind"
        )
    biased = [key for key in state if key.endswith(".bias") and ".body.bias" not in key and ".linear_layer." not in key]
    if biased:
        raise MirlError(
            f"a bias on a convolution, {biased[0]:.80}, which mirl's network cannot express; expected bias=False"
        )


def _network(state: State) -> NetworkConfig:
    """Read the configuration off the shapes."""
    stages = ("encoder1", "encoder2", "encoder3", "latent")
    prompts = [_shape(state, f"prompt{level}.prompt_param", 5) for level in (1, 2, 3)]
    if len({shape[1] for shape in prompts}) > 1 or any(shape[3] != shape[4] for shape in prompts):
        raise MirlError(f"its prompts are {', '.join(map(str, prompts))}; expected the same number of them, each square")
    first = {ours: f"{theirs}.0" for ours, theirs in _STAGES.items() if not ours.startswith("mix")}
    hidden = []
    for ours, theirs in _STAGES.items():
        outputs, inputs = _shape(state, f"{first.get(ours, theirs)}.ffn.project_in.weight", 4)[:2]
        hidden.append((inputs, outputs // 2))
    counts = {ours: _count(state, _STAGES[ours]) for ours in (*stages, "refinement")}
    heads = [_shape(state, f"{first[ours]}.attn.temperature", 3)[0] for ours in stages]
    b1, b2, b3, b4 = (counts[ours] for ours in stages)
    h1, h2, h3, h4 = heads
    p1, p2, p3 = prompts
    return NetworkConfig(
        width=_shape(state, _FIRST, 4)[0],
        blocks=(b1, b2, b3, b4),
        refinement_blocks=counts["refinement"],
        heads=(h1, h2, h3, h4),
        expansion=_expansion(hidden),
        prompts=p1[1],
        prompt_widths=(p1[2], p2[2], p3[2]),
        prompt_sizes=(p1[3], p2[3], p3[3]),
    )


def _shape(state: State, key: str, rank: int) -> tuple[int, ...]:
    if key not in state:
        raise MirlError(f"{key} is missing; expected all tensors of a PromptIR network; is the file complete?")
    shape = tuple(state[key].shape)
    if len(shape) != rank or 0 in shape:
        raise MirlError(f"{key} has the shape {shape}, expected {rank} axes, none empty")
    return shape


def _count(state: State, stage: str) -> int:
    """Number of blocks: one more than the largest index; a gap is a missing key."""
    indices = [re.match(rf"{stage}\.(\d{{1,5}})\.", key) for key in state]
    return max((int(match[1]) + 1 for match in indices if match), default=0)


def _expansion(hidden: list[tuple[int, int]]) -> float:
    """Return the factor that gives every stage (channels, hidden) its hidden channels: the published one or the shortest."""
    for factor in _factors(max(width / channels for channels, width in hidden)):
        if all(hidden_width(channels, factor) == width for channels, width in hidden):
            return factor
    found = ", ".join(f"{width} of {channels}" for channels, width in hidden)
    raise MirlError(f"no one expansion factor gives the hidden channels of its feed-forwards ({found}); expected the same")


def _factors(least: float) -> Iterator[float]:
    yield NetworkConfig.expansion
    for digits in range(13):
        yield ceil(least * 10**digits - 1e-9) / 10**digits


def _check_names(state: State, expected: set[str]) -> None:
    if missing := sorted(expected - set(state)):
        raise MirlError(f"{len(missing)} tensors of the network are missing, such as {missing[0]}; is the file complete?")
    if unknown := sorted(set(state) - expected):
        raise MirlError(
            f"{len(unknown)} tensors are none of PromptIR's, such as {unknown[0]:.80}; expected the published network, "
            "with as many decoder blocks as encoder blocks at each level"
        )


def _converted(parameter: Parameter, value: NDArray[np.float32]) -> NDArray[np.float32]:
    key, expected = published_name(parameter.name), published_shape(parameter)
    if tuple(value.shape) != expected:
        raise MirlError(f"{key} has the shape {tuple(value.shape)}, expected {expected} as the others have it")
    if bad := int(np.count_nonzero(~np.isfinite(value))):
        raise MirlError(f"{key} has {bad} values that are not finite; expected trained weights")
    if parameter.kind == "prompt":
        value = value[0].transpose(0, 2, 3, 1)
    return np.array(value.reshape(parameter.shape), np.float32, order="C")
