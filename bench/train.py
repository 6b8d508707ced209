"""Patches a second: our formulation of the network against a plain one, interleaved, and the data stream alone.

    python bench/train.py [--recipe small] [--batch 8] [--rounds 7] [--device cpu] [--json results/train_speed.json]

The plain formulation is the same network with the same weights the way a paper's equations read: NCHW features, LayerNorm
from mean, var and sqrt in eager operations, 1x1 convolutions as convolutions, q and k normalised before the product. Both
run under the allocator setting that keeps large blocks. On CUDA ours is compiled and in bf16, the plain one is eager fp32
and bf16.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mirl.data.patches import load_training_data
from mirl.engine.memory import keep_large_blocks
from mirl.lottery.setting import usable_precision
from mirl.network.promptir import SCALE, PromptIR, initialise
from mirl.recipe import named_recipe


class PlainPromptIR(nn.Module):
    """The network in plain NCHW eager operations, on the parameters of a PromptIR."""

    def __init__(self, network: PromptIR):
        super().__init__()
        self.network = network

    def norm(self, x: Tensor, layer: nn.LayerNorm) -> Tensor:
        b, c, h, w = x.shape
        x = x.flatten(2).transpose(1, 2)
        mean, var = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
        x = (x - mean) / torch.sqrt(var + 1e-5) * layer.weight + layer.bias
        return x.transpose(1, 2).reshape(b, c, h, w)

    def block(self, x: Tensor, block: nn.Module) -> Tensor:
        b, c, h, w = x.shape
        attention, feed = block.attention, block.feed_forward
        heads = attention.heads
        y = self.point(self.norm(x, block.norm1), attention.qkv)
        y = F.conv2d(y, attention.qkv_depthwise.weight, padding=1, groups=3 * c)
        q, k, v = (part.reshape(b, heads, c // heads, h * w) for part in y.chunk(3, dim=1))
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        shares = (q @ k.transpose(-2, -1) * attention.temperature[:, None, None]).softmax(dim=-1)
        x = x + self.point((shares @ v).reshape(b, c, h, w), attention.project)
        y = self.point(self.norm(x, block.norm2), feed.expand)
        a, g = F.conv2d(y, feed.depthwise.weight, padding=1, groups=y.shape[1]).chunk(2, dim=1)
        return x + self.point(F.gelu(a) * g, feed.project)

    def point(self, x: Tensor, layer: nn.Linear) -> Tensor:
        return F.conv2d(x, layer.weight[..., None, None])

    def stage(self, x: Tensor, name: str) -> Tensor:
        for block in getattr(self.network, name):
            x = self.block(x, block)
        return x

    def conv(self, x: Tensor, name: str) -> Tensor:
        return F.conv2d(x, getattr(self.network, name).weight, padding=1)

    def decode(self, x: Tensor, level: int) -> Tensor:
        prompt = getattr(self.network, f"prompt{level}")
        shares = prompt.select(x.mean((2, 3))).softmax(-1)
        values = prompt.values.permute(0, 3, 1, 2).unsqueeze(0)
        mixed = (shares[:, :, None, None, None] * values).sum(1)
        mixed = F.interpolate(mixed, x.shape[2:], mode="bilinear")
        x = torch.cat([x, F.conv2d(mixed, prompt.conv.weight, padding=1)], 1)
        x = self.point(self.stage(x, f"mix{level}"), getattr(self.network, f"reduce{level}"))
        return F.pixel_shuffle(self.conv(x, f"up{level}"), 2)

    def forward(self, image: Tensor) -> Tensor:
        assert image.shape[-1] % SCALE == image.shape[-2] % SCALE == 0
        x1 = self.stage(self.conv(image, "embed"), "encoder1")
        x2 = self.stage(F.pixel_unshuffle(self.conv(x1, "down1"), 2), "encoder2")
        x3 = self.stage(F.pixel_unshuffle(self.conv(x2, "down2"), 2), "encoder3")
        x = self.stage(F.pixel_unshuffle(self.conv(x3, "down3"), 2), "latent")
        x = self.stage(self.point(torch.cat([self.decode(x, 3), x3], 1), self.network.fuse3), "decoder3")
        x = self.stage(self.point(torch.cat([self.decode(x, 2), x2], 1), self.network.fuse2), "decoder2")
        x = self.stage(torch.cat([self.decode(x, 1), x1], 1), "decoder1")
        return image + self.conv(self.stage(x, "refinement"), "output")


def make_step(forward: Callable[[Tensor], Tensor], network: nn.Module, device: str, bf16: bool) -> Callable:
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, foreach=True)

    def step(degraded: Tensor, clean: Tensor) -> None:
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            restored = forward(degraded)
        (restored - clean).abs().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="small")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--patch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    keep_large_blocks()
    recipe, cuda = named_recipe(options.recipe), options.device == "cuda"
    steps, largest_difference = {}, 0.0
    for bf16 in (False, True):
        for formulation in ("plain", "ours"):
            network = PromptIR(recipe.network)
            initialise(network, torch.Generator().manual_seed(0))
            network.to(options.device)
            forward: Callable[[Tensor], Tensor] = PlainPromptIR(network) if formulation == "plain" else network
            if formulation == "plain" and not bf16:
                probe = torch.rand(1, 3, 64, 64, device=options.device)
                with torch.no_grad():
                    largest_difference = float((network(probe) - forward(probe)).abs().max())
            if cuda and formulation == "ours":
                forward = torch.compile(forward)  # type: ignore[assignment]
            steps[formulation, "bf16" if bf16 else "fp32"] = make_step(forward, network, options.device, bf16)
    stream = load_training_data(None, recipe.tasks, options.patch, 0, options.device)
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in (*steps, ("data stream", "fp32"))}
    for round_index in range(options.rounds + 2):
        for key, step in steps.items():
            start = time.perf_counter()
            batch = stream.batch(round_index, options.batch)
            middle = time.perf_counter()
            step(batch.degraded, batch.clean)
            if round_index >= 2:  # two warm-up rounds
                seconds[key].append(time.perf_counter() - middle)
                seconds["data stream", "fp32"].append(middle - start)
    median = {key: statistics.median(times) for key, times in seconds.items()}
    patches = options.batch * (options.patch / 64) ** 2  # of 64x64 pixels, or as much area
    own = {"32-true": "fp32", "bf16-mixed": "bf16"}[usable_precision(recipe.train.precision, options.device)]
    rows = [
        {
            "formulation": name, "precision": precision, "patches_per_second": patches / median[name, precision],
            "median_ms": 1e3 * median[name, precision], "min_ms": 1e3 * min(seconds[name, precision]),
            "max_ms": 1e3 * max(seconds[name, precision]),
        }
        for name, precision in median
    ]  # fmt: skip
    result = {
        "command": f"python bench/train.py --recipe {options.recipe} --batch {options.batch} --patch {options.patch} "
        f"--rounds {options.rounds} --device {options.device}",
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads" if not cuda else torch.cuda.get_device_name(),
        "torch": torch.__version__, "batch": options.batch, "patch": options.patch, "rounds": options.rounds,
        "largest_difference_fp32": largest_difference, "rows": rows,
        "speedup_fp32": median["plain", "fp32"] / median["ours", "fp32"],
        "speedup_bf16": median["plain", "bf16"] / median["ours", "bf16"],
        "speedup_bf16_over_plain_fp32": median["plain", "fp32"] / median["ours", "bf16"],
        "data_over_training": median["ours", own] / median["data stream", "fp32"],
    }  # fmt: skip
    for row in rows:
        print(f"{row['formulation']:12} {row['precision']}  {row['patches_per_second']:9.1f} patches/s  "
              f"{row['median_ms']:8.1f} ms a step ({row['min_ms']:.1f} to {row['max_ms']:.1f})")  # fmt: skip
    print(f"ours over plain: {result['speedup_fp32']:.2f}x fp32, {result['speedup_bf16']:.2f}x bf16; "
          f"data stream {result['data_over_training']:.0f}x what training consumes; "
          f"largest difference {largest_difference:.1e}")  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
