"""Checkpoints of others: the published layout at its full size and small, against a plain forward; bad files."""

import argparse
import io
import json
import math
import os
import pickle
import zipfile
from collections.abc import Callable
from copy import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from mirl.cli import main
from mirl.errors import MirlError
from mirl.lottery.verify import verify
from mirl.network.checkpoint import import_checkpoint, read_checkpoint
from mirl.network.foreign import UNUSED
from mirl.network.promptir import network_of
from mirl.recipe import NetworkConfig, paper
from mirl.ticket import read_ticket, write_ticket

State = dict[str, Tensor]
SMALL = NetworkConfig(
    width=8, blocks=(1, 2, 1, 2), refinement_blocks=1, heads=(1, 2, 4, 2), expansion=2.66, prompts=3,
    prompt_widths=(8, 16, 8), prompt_sizes=(6, 4, 5),
)  # fmt: skip


# The published layout, from the papers and the key names of the checkpoints; nothing here is of mirl.network.


def published(config: NetworkConfig = SMALL, seed: int = 0) -> State:
    """A state dict of PromptIR with random weights, layers that it never uses included."""
    random = torch.Generator().manual_seed(seed)
    state: State = {}
    w, heads, blocks = config.width, config.heads, config.blocks
    p1, p2, p3 = config.prompt_widths

    def conv(name: str, outputs: int, inputs: int, size: int) -> None:
        bound = 1 / math.sqrt(inputs * size * size)
        state[f"{name}.weight"] = (torch.rand(outputs, inputs, size, size, generator=random) * 2 - 1) * bound

    def block(name: str, channels: int, count: int) -> None:
        hidden = int(channels * config.expansion)
        for norm in ("norm1", "norm2"):
            state[f"{name}.{norm}.body.weight"] = 1 + 0.2 * torch.randn(channels, generator=random)
            state[f"{name}.{norm}.body.bias"] = 0.2 * torch.randn(channels, generator=random)
        state[f"{name}.attn.temperature"] = 1 + torch.rand(count, 1, 1, generator=random)
        conv(f"{name}.attn.qkv", 3 * channels, channels, 1)
        conv(f"{name}.attn.qkv_dwconv", 3 * channels, 1, 3)
        conv(f"{name}.attn.project_out", channels, channels, 1)
        conv(f"{name}.ffn.project_in", 2 * hidden, channels, 1)
        conv(f"{name}.ffn.dwconv", 2 * hidden, 1, 3)
        conv(f"{name}.ffn.project_out", channels, hidden, 1)

    def stage(name: str, channels: int, count: int, many: int) -> None:
        for index in range(many):
            block(f"{name}.{index}", channels, count)

    def prompt(level: int, channels: int, width: int, size: int) -> None:
        state[f"prompt{level}.prompt_param"] = torch.rand(1, config.prompts, width, size, size, generator=random)
        state[f"prompt{level}.linear_layer.weight"] = torch.randn(config.prompts, channels, generator=random)
        state[f"prompt{level}.linear_layer.bias"] = torch.randn(config.prompts, generator=random)
        conv(f"prompt{level}.conv3x3", width, width, 3)

    conv("patch_embed.proj", w, 3, 3)
    prompt(1, 2 * w, p1, config.prompt_sizes[0])
    prompt(2, 4 * w, p2, config.prompt_sizes[1])
    prompt(3, 8 * w, p3, config.prompt_sizes[2])
    conv("chnl_reduce1", 64, 64, 1)
    conv("chnl_reduce2", 128, 128, 1)
    conv("chnl_reduce3", 256, 320, 1)
    conv("reduce_noise_channel_1", w, w + 64, 1)
    stage("encoder_level1", w, heads[0], blocks[0])
    conv("down1_2.body.0", w // 2, w, 3)
    conv("reduce_noise_channel_2", 2 * w, 2 * w + 128, 1)
    stage("encoder_level2", 2 * w, heads[1], blocks[1])
    conv("down2_3.body.0", w, 2 * w, 3)
    conv("reduce_noise_channel_3", 4 * w, 4 * w + 256, 1)
    stage("encoder_level3", 4 * w, heads[2], blocks[2])
    conv("down3_4.body.0", 2 * w, 4 * w, 3)
    stage("latent", 8 * w, heads[3], blocks[3])
    block("noise_level3", 8 * w + p3, heads[2])
    conv("reduce_noise_level3", 4 * w, 8 * w + p3, 1)
    conv("up4_3.body.0", 8 * w, 4 * w, 3)
    conv("reduce_chan_level3", 4 * w, 6 * w, 1)
    stage("decoder_level3", 4 * w, heads[2], blocks[2])
    block("noise_level2", 4 * w + p2, heads[2])
    conv("reduce_noise_level2", 4 * w, 4 * w + p2, 1)
    conv("up3_2.body.0", 8 * w, 4 * w, 3)
    conv("reduce_chan_level2", 2 * w, 4 * w, 1)
    stage("decoder_level2", 2 * w, heads[1], blocks[1])
    block("noise_level1", 2 * w + p1, heads[2])
    conv("reduce_noise_level1", 2 * w, 2 * w + p1, 1)
    conv("up2_1.body.0", 4 * w, 2 * w, 3)
    stage("decoder_level1", 2 * w, heads[0], blocks[0])
    stage("refinement", 2 * w, heads[0], config.refinement_blocks)
    conv("output", 3, 2 * w, 3)
    return state


def forward(state: State, image: Tensor) -> Tensor:
    """PromptIR in the order of operations of the papers, (b, c, h, w) throughout; `image` a multiple of 8 on each side."""

    def norm(x: Tensor, name: str) -> Tensor:
        rows = x.flatten(2).transpose(1, 2)
        mean, variance = rows.mean(-1, keepdim=True), rows.var(-1, keepdim=True, unbiased=False)
        rows = (rows - mean) / torch.sqrt(variance + 1e-5) * state[f"{name}.weight"] + state[f"{name}.bias"]
        return rows.transpose(1, 2).reshape(x.shape)

    def conv(x: Tensor, name: str, groups: int = 1) -> Tensor:
        weight = state[f"{name}.weight"]
        return F.conv2d(x, weight, padding=weight.shape[-1] // 2, groups=groups)

    def depthwise(x: Tensor, name: str) -> Tensor:
        return conv(x, name, groups=x.shape[1])

    def attention(x: Tensor, name: str) -> Tensor:
        b, c, h, w = x.shape
        temperature = state[f"{name}.temperature"]
        heads = temperature.shape[0]
        q, k, v = depthwise(conv(x, f"{name}.qkv"), f"{name}.qkv_dwconv").chunk(3, dim=1)
        q, k, v = (part.reshape(b, heads, c // heads, h * w) for part in (q, k, v))
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        shares = (q @ k.transpose(-2, -1) * temperature).softmax(dim=-1)
        return conv((shares @ v).reshape(b, c, h, w), f"{name}.project_out")

    def feed_forward(x: Tensor, name: str) -> Tensor:
        first, second = depthwise(conv(x, f"{name}.project_in"), f"{name}.dwconv").chunk(2, dim=1)
        return conv(F.gelu(first) * second, f"{name}.project_out")

    def block(x: Tensor, name: str) -> Tensor:
        x = x + attention(norm(x, f"{name}.norm1.body"), f"{name}.attn")
        return x + feed_forward(norm(x, f"{name}.norm2.body"), f"{name}.ffn")

    def stage(x: Tensor, name: str) -> Tensor:
        index = 0
        while f"{name}.{index}.attn.temperature" in state:
            x = block(x, f"{name}.{index}")
            index += 1
        return x

    def prompted(x: Tensor, level: int) -> Tensor:
        name = f"prompt{level}"
        shares = F.linear(x.mean(dim=(-2, -1)), state[f"{name}.linear_layer.weight"], state[f"{name}.linear_layer.bias"])
        prompt = (shares.softmax(dim=1)[:, :, None, None, None] * state[f"{name}.prompt_param"]).sum(dim=1)
        prompt = conv(F.interpolate(prompt, x.shape[-2:], mode="bilinear"), f"{name}.conv3x3")
        x = block(torch.cat([x, prompt], 1), f"noise_level{level}")
        return conv(x, f"reduce_noise_level{level}")

    x1 = stage(conv(image, "patch_embed.proj"), "encoder_level1")
    x2 = stage(F.pixel_unshuffle(conv(x1, "down1_2.body.0"), 2), "encoder_level2")
    x3 = stage(F.pixel_unshuffle(conv(x2, "down2_3.body.0"), 2), "encoder_level3")
    x = stage(F.pixel_unshuffle(conv(x3, "down3_4.body.0"), 2), "latent")
    x = F.pixel_shuffle(conv(prompted(x, 3), "up4_3.body.0"), 2)
    x = stage(conv(torch.cat([x, x3], 1), "reduce_chan_level3"), "decoder_level3")
    x = F.pixel_shuffle(conv(prompted(x, 2), "up3_2.body.0"), 2)
    x = stage(conv(torch.cat([x, x2], 1), "reduce_chan_level2"), "decoder_level2")
    x = F.pixel_shuffle(conv(prompted(x, 1), "up2_1.body.0"), 2)
    x = stage(torch.cat([x, x1], 1), "decoder_level1")
    return conv(stage(x, "refinement"), "output") + image


def pruned(state: State, keep: float) -> State:
    """As MIR-L prunes layer by layer: tensors with `weight` in the name lose their smallest values, prompts keep all."""
    result = dict(state)
    for name in (name for name in state if "weight" in name):
        size = state[name].abs()
        result[name] = torch.where(size <= size.flatten().kthvalue(int((1 - keep) * size.numel())).values, 0, state[name])
    return result


def saved(content: object, path: Path) -> Path:
    torch.save(content, path)
    return path


def difference(path: Path, state: State, size: tuple[int, int] = (32, 40)) -> float:
    image = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted = forward(state, image)
        assert float((wanted - image).abs().max()) > 0.1  # the network does something
        return float((network_of(import_checkpoint(path).ticket)(image) - wanted).abs().max())


# what must come out


def test_the_published_network_imports_at_full_size_and_gives_the_same_image(tmp_path: Path):
    state = published(paper().network)
    counts = {
        "weight": sum(v.numel() for n, v in state.items() if "weight" in n),
        "bias": sum(v.numel() for n, v in state.items() if "bias" in n),
        "prompt": sum(v.numel() for n, v in state.items() if "prompt_param" in n),
        "temperature": sum(v.numel() for n, v in state.items() if "temperature" in n),
    }
    assert counts == {"weight": 33_199_064, "bias": 17_359, "prompt": 2_375_680, "temperature": 160}
    assert sum(v.numel() for v in state.values()) == 35_592_263
    path = saved({"state_dict": {f"net.{n}": v for n, v in state.items()}, "epoch": 119}, tmp_path / "epoch.ckpt")
    imported = import_checkpoint(path)
    assert imported.ticket.network == paper().network
    assert imported.ticket.total == 35_592_263 - 215_296
    assert sum(imported.unused.values()) == 215_296
    assert imported.unused == UNUSED
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted = forward(state, image)
        assert float((wanted - image).abs().max()) > 0.1
        assert float((network_of(imported.ticket)(image) - wanted).abs().max()) < 1e-5


@pytest.mark.parametrize("size", [(8, 8), (32, 40), (64, 24)])
def test_the_image_is_the_same_at_any_multiple_of_8(size: tuple[int, int], tmp_path: Path):
    state = published()
    assert difference(saved(state, tmp_path / "plain.pth"), state, size) < 1e-5


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        replace(SMALL, width=6, heads=(3, 1, 2, 4), expansion=2.0),
        replace(SMALL, blocks=(2, 1, 3, 1), refinement_blocks=3, expansion=1.37),
        replace(SMALL, prompts=1, prompt_widths=(4, 8, 12), prompt_sizes=(1, 8, 3)),
    ],
)
def test_the_network_is_read_off_the_shapes(config: NetworkConfig, tmp_path: Path):
    state = published(config)
    path = saved(state, tmp_path / "plain.pth")
    found = import_checkpoint(path).ticket.network
    assert replace(found, expansion=config.expansion) == config
    assert difference(path, state) < 1e-5


def test_every_container_gives_the_same_ticket(tmp_path: Path):
    state, tickets = published(), []
    lightning = {f"net.{n}": v for n, v in state.items()} | {"loss_fn.window": torch.ones(3)}
    tickets.append(import_checkpoint(saved(state, tmp_path / "plain.pt")))
    tickets.append(import_checkpoint(saved({"state_dict": lightning, "epoch": 3, "lr": {}}, tmp_path / "epoch.ckpt")))
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    tickets.append(import_checkpoint(tmp_path / "old.pth"))
    tickets.append(import_checkpoint(saved({f"module.net.{n}": v for n, v in state.items()}, tmp_path / "ddp.pth")))
    save_file(state, tmp_path / "safe.safetensors")
    tickets.append(import_checkpoint(tmp_path / "safe.safetensors"))
    first = tickets[0].ticket
    for other in tickets[1:]:
        assert all(np.array_equal(other.ticket.weights[n], w) for n, w in first.weights.items())
    assert tickets[1].outside == {"loss_fn.window": 3}
    assert tickets[1].ticket.provenance["imported"]["epoch"] == 3
    assert tickets[1].ticket.provenance["imported"]["outside_the_network"] == ["loss_fn.window"]


def test_a_sparse_checkpoint_comes_in_sparse_and_stays_the_same_network(tmp_path: Path):
    state = pruned(published(), keep=0.2)
    path = saved({"state_dict": {f"net.{n}": v for n, v in state.items()}}, tmp_path / "level15.ckpt")
    imported = import_checkpoint(path)
    ticket = imported.ticket
    used = {n: v for n, v in state.items() if n not in UNUSED}
    biases = sum(int((v == 0).sum()) for n, v in used.items() if n.endswith("bias"))
    assert ticket.kept == sum(int(v.count_nonzero()) for v in used.values()) + biases
    assert 0.2 < ticket.density < 0.4
    assert "prompt1.values" not in ticket.masks
    assert set(imported.unused) == set(UNUSED)
    assert difference(path, state) < 1e-5


def test_zeros_of_norm_scales_and_prompts_become_masks_too(tmp_path: Path):
    state = published()
    state["latent.0.norm1.body.weight"][:2] = 0
    state["prompt2.prompt_param"][:, :, ::2] = -0.0
    path = saved(state, tmp_path / "plain.pth")
    imported = import_checkpoint(path)
    assert (~imported.ticket.masks["latent.0.norm1.weight"]).sum() == 2
    mask = imported.ticket.masks["prompt2.values"]
    assert np.count_nonzero(mask) == mask.size // 2
    assert not np.signbit(imported.ticket.weights["prompt2.values"][~mask]).any()
    assert difference(path, state) < 1e-5


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", ["plain.pth", "plain.safetensors"])
def test_other_precisions_are_taken(kind: torch.dtype, name: str, tmp_path: Path):
    state = {n: v.to(kind) for n, v in published().items()}
    if name.endswith("safetensors"):
        save_file(state, tmp_path / name)
    else:
        saved(state, tmp_path / name)
    assert difference(tmp_path / name, {n: v.float() for n, v in state.items()}) < 1e-5


def test_the_imported_ticket_passes_the_audit_and_comes_back_from_its_file(tmp_path: Path):
    ticket = import_checkpoint(saved(pruned(published(), keep=0.3), tmp_path / "plain.pth")).ticket
    write_ticket(ticket, tmp_path / "t.mirl", "float32")
    assert verify(tmp_path / "t.mirl").ok
    back = read_ticket(tmp_path / "t.mirl")
    assert all(np.array_equal(back.weights[n], w) for n, w in ticket.weights.items())
    origin = back.provenance["imported"]
    assert (origin["file"], origin["layout"]) == ("plain.pth", "PromptIR")
    assert origin["unused_layers"]["chnl_reduce3.weight"] == 320 * 256


def test_the_command_says_what_was_kept_dropped_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    state = {f"net.{n}": v for n, v in pruned(published(), keep=0.3).items()} | {"loss_fn.window": torch.ones(3)}
    path = saved({"state_dict": state}, tmp_path / "level.ckpt")
    assert main(["import", str(path), "-o", str(tmp_path / "t.mirl")]) == 0
    kept, dropped, left = capsys.readouterr().out.splitlines()
    ticket = read_ticket(tmp_path / "t.mirl")
    assert f"{ticket.kept:,} of {ticket.total:,} parameters kept" in kept
    unused = sum(state[f"net.{name}"].numel() for name in UNUSED)
    assert dropped.startswith(f"dropped: {unused:,} weights that the network never uses, in chnl_reduce1, ")
    assert left.endswith("1 tensors that are not the network's, such as loss_fn.window")
    assert np.array_equal(ticket.weights["output.weight"], state["net.output.weight"].numpy())


# what must be refused, in one line


def refusal(path: Path) -> str:
    with pytest.raises(MirlError) as caught:
        import_checkpoint(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert len(message) < 500
    return message


@pytest.mark.parametrize("drop", ["output.weight", "latent.1.attn.qkv.weight", "prompt2.linear_layer.bias",
                                  "decoder_level2.1.ffn.dwconv.weight", "noise_level1.attn.temperature",
                                  "encoder_level1.0.ffn.project_in.weight"])  # fmt: skip
def test_a_missing_tensor_is_named(drop: str, tmp_path: Path):
    state = published()
    del state[drop]
    message = refusal(saved(state, tmp_path / "plain.pth"))
    assert "missing" in message
    assert drop in message


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("output.weight", (3, 15, 3, 3)),
        ("noise_level2.attn.temperature", (2, 1, 1)),  # published: the heads of level 3
        ("decoder_level1.0.attn.temperature", (2, 1, 1)),
        ("up3_2.body.0.weight", (64, 32, 1, 1)),
        ("latent.0.norm1.body.weight", (8, 8)),
        ("prompt1.conv3x3.weight", ()),
    ],
)
def test_a_wrong_shape_is_named(name: str, shape: tuple[int, ...], tmp_path: Path):
    message = refusal(saved(published() | {name: torch.ones(shape)}, tmp_path / "plain.pth"))
    assert f"{name} has the shape {shape}" in message
    assert "expected" in message


def test_what_our_network_cannot_express_is_said(tmp_path: Path):
    state = published()

    def message(changed: State) -> str:
        return refusal(saved(changed, tmp_path / "plain.pth"))

    assert "without prompts" in message({n: v for n, v in state.items() if not n.startswith("prompt")})
    assert "BiasFree" in message({n: v for n, v in state.items() if not n.endswith("body.bias")})
    assert "bias on a convolution" in message(state | {"latent.0.attn.qkv.bias": torch.ones(192)})
    assert "none of PromptIR's, such as gate.weight" in message(state | {"gate.weight": torch.ones(2)})
    extra = {n.replace("level1.0", "level1.1"): v for n, v in state.items() if n.startswith("decoder_level1.0")}
    assert "as many decoder blocks" in message(state | extra)
    assert "expansion" in message(state | {"latent.0.ffn.project_in.weight": torch.ones(200, 64, 1, 1)})
    assert "each square" in message(state | {"prompt1.prompt_param": torch.ones(1, 3, 8, 6, 5)})
    assert "same number" in message(state | {"prompt1.prompt_param": torch.ones(1, 2, 8, 6, 6)})
    assert "several networks" in message({f"{p}.{n}": v for n, v in state.items() for p in ("a", "b")})


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_that_are_no_numbers_are_refused(value: float, tmp_path: Path):
    state = published()
    state["encoder_level2.0.ffn.dwconv.weight"][0, 0, 1, 1] = value
    assert "encoder_level2.0.ffn.dwconv.weight has 1 values that are not finite" in refusal(saved(state, tmp_path / "a.pth"))


class Hostile:
    """Pickles as a call of os.system."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {self.mark}",)


def test_code_in_a_pickle_is_never_run(tmp_path: Path):
    mark, hostile = tmp_path / "hacked", Hostile(tmp_path / "hacked")
    assert "posix.system" in refusal(saved({"state_dict": published() | {"x": hostile}}, tmp_path / "a.ckpt"))
    (tmp_path / "b.pth").write_bytes(pickle.dumps(hostile, protocol=2))
    refusal(tmp_path / "b.pth")
    (tmp_path / "c.pth").write_bytes(pickle.dumps(hostile))
    refusal(tmp_path / "c.pth")
    assert not mark.exists()


def test_other_objects_and_other_files_are_refused(tmp_path: Path):
    def of(content: object) -> str:
        return refusal(saved(content, tmp_path / "a.ckpt"))

    with_arguments = {"state_dict": published(), "hyper_parameters": argparse.Namespace(dim=48)}
    assert "argparse.Namespace" in of(with_arguments)
    assert "save its weights alone" in of(with_arguments)
    assert "holds a list" in of([torch.ones(3)])
    assert "no state dict: found epoch" in of({"epoch": 3})
    assert "no state dict" in of({"state_dict": {}})
    assert "no state dict" in of({"state_dict": {"net.x": 3}})
    assert "no PromptIR network" in of({"conv.weight": torch.ones(3)})
    assert "floating point" in of(published() | {"output.weight": torch.ones(3, 16, 3, 3, dtype=torch.int64)})
    assert "floating point" in of(published() | {"output.weight": torch.ones(3, 16, 3, 3, device="meta")})
    assert "floating point" in of(published() | {"output.weight": torch.ones(3, 16, 3, 3).to_sparse()})
    for name in ("none.pth", "none.safetensors", "."):
        assert "no such file" in refusal(tmp_path / name)


def test_a_few_bytes_cannot_ask_for_much_memory(tmp_path: Path):
    state = published()
    state["prompt1.prompt_param"] = torch.ones(1).expand(1, 3, 8, 100_000, 100_000)
    assert "more than the" in refusal(saved(state, tmp_path / "a.pth"))
    packed = tmp_path / "b.pth"
    with zipfile.ZipFile(saved(published(), tmp_path / "c.pth")) as source, zipfile.ZipFile(packed, "w", 8) as target:
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    assert "compressed" in refusal(packed)
    block = {n.replace("latent.0", "latent.99999"): v for n, v in published().items() if n.startswith("latent.0")}
    assert "between 1 and 4096" in refusal(saved(published() | block, tmp_path / "d.pth"))


@pytest.mark.parametrize("name", ["a.pth", "old.pth", "a.safetensors"])
def test_a_damaged_file_is_refused_wherever_it_ends(name: str, tmp_path: Path):
    content, state = io.BytesIO(), published()
    if name == "a.safetensors":
        save_file(state, tmp_path / name)
    else:
        torch.save(state, content, _use_new_zipfile_serialization=name != "old.pth")
        (tmp_path / name).write_bytes(content.getvalue())
    whole = (tmp_path / name).read_bytes()
    for end in (0, 1, 7, 8, 9, 64, 1000, len(whole) // 2, len(whole) - 1000, len(whole) - 10, len(whole) - 1):
        (tmp_path / name).write_bytes(whole[:end])
        refusal(tmp_path / name)
    for noise in (b"hello world, this is no checkpoint" * 9, os.urandom(3000), json.dumps({"a": 1}).encode()):
        (tmp_path / name).write_bytes(noise)
        refusal(tmp_path / name)


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_a_flipped_byte_anywhere_in_the_directory_is_refused_or_does_no_harm(flip: int, tmp_path: Path):
    path, values = tmp_path / "a.pth", torch.arange(64.0)
    whole = saved({"a": values, "b": torch.ones(3)}, path).read_bytes()
    with zipfile.ZipFile(path) as archive:
        start, names = archive.start_dir, [entry.filename for entry in archive.infolist()]
    refused = 0
    for at in range(start, len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ flip]) + whole[at + 1 :])
        try:
            state = read_checkpoint(path).state
            assert {name: value.shape for name, value in state.items()} == {"a": (64,), "b": (3,)}
        except MirlError:
            refused += 1
    assert refused > sum(map(len, names))  # a name that was changed is not found; and much else


def rewritten(source: Path, target: Path, change: Callable[[zipfile.ZipFile, zipfile.ZipInfo, bytes], None]) -> Path:
    """Copy a file of torch.save entry by entry, each as `change` writes it."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.infolist():
            change(new, entry, old.read(entry))
    return target


def test_entries_that_share_their_bytes_are_refused_before_they_are_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = saved({f"w{i}": torch.ones(1000) for i in range(50)}, tmp_path / "a.pth")
    first: list[zipfile.ZipInfo] = []

    def share(new: zipfile.ZipFile, entry: zipfile.ZipInfo, content: bytes) -> None:
        if "/data/" not in entry.filename or not first:
            new.writestr(entry.filename, content)
            first.extend([new.filelist[-1]] if "/data/" in entry.filename else [])
        else:
            twin = copy(first[0])
            twin.filename = entry.filename
            new.filelist.append(twin)

    bomb = rewritten(source, tmp_path / "bomb.pth", share)
    assert bomb.stat().st_size < source.stat().st_size / 5
    assert len(torch.load(bomb, weights_only=True)) == 50  # torch itself takes it
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("loaded"))
    assert "entries claim" in refusal(bomb)


@pytest.mark.parametrize(
    ("behind", "told"),
    [(0, "damaged"), (150_000, "a claims 400000 bytes, which no entry of the file has"), (100_000, None)],
)
def test_no_tensor_is_read_from_beyond_the_file(behind: int, told: str | None, tmp_path: Path):
    """The pickle says how large a tensor is; torch.load without a map takes what lies in memory behind a shorter entry."""

    def shorten(new: zipfile.ZipFile, entry: zipfile.ZipInfo, content: bytes) -> None:
        new.writestr(entry.filename, content[:400] if entry.filename.endswith("/data/0") else content)

    state = {"a": torch.ones(100_000), "b": torch.full((behind,), 2.0)}
    path = rewritten(saved(state, tmp_path / "a.pth"), tmp_path / "short.pth", shorten)
    if told:
        assert told in refusal(path)
    else:  # as large as the other entry, so that sizes do not tell: what it gets is what the file has behind its own
        assert read_checkpoint(path).state["a"].tobytes() in path.read_bytes()


def test_the_tensors_are_their_own_whatever_becomes_of_the_file(tmp_path: Path):
    path = saved({"a": torch.arange(1000.0)}, tmp_path / "a.pth")
    state = read_checkpoint(path).state
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
    assert np.array_equal(state["a"], np.arange(1000))


def test_what_only_looks_like_an_archive_is_refused(tmp_path: Path):
    whole = saved({"a": torch.ones(3)}, tmp_path / "a.pth").read_bytes()
    for name, content in {"cut": whole[:-30], "start": b"PK\x03\x04", "comment": whole + b"PK\x05\x06"}.items():
        (tmp_path / name).write_bytes(content)
        assert "no checkpoint, or a damaged one" in refusal(tmp_path / name)
