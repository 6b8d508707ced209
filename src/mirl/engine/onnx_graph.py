"""A ticket's network as an ONNX graph, built from its weights with onnx.helper: no torch.

The network of `mirl.network.promptir` (PromptIR, arXiv 2306.13090, on Restormer's blocks, arXiv 2111.09881) as dense
runtimes like it best: features (1, c, h, w), so that convolutions run on ONNX Runtime's blocked layout; queries, keys
and values, and the two halves of the feed-forward, convolved apart, with hidden channels padded to a multiple of 16;
LayerNorm's scale and shift folded into the next convolution; the projection folded into the attention matrix. Of five
formulations tried, this one and one with LayerNorm as convolutions were fastest in ONNX Runtime, by a fifth.
"""

from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from mirl.layers import stage_widths
from mirl.ticket import Ticket

Statistics = Literal["own", "sum", "use"]
Array = NDArray[Any]
_OPSET = 20  # the first with Gelu
_BLOCK = 16  # channels of a block in ONNX Runtime's layout


def onnx_model(ticket: Ticket, statistics: Statistics = "own") -> onnx.ModelProto:
    """Return the network: `image` (1, 3, h, w) to `restored` of the same shape, not clipped; h and w multiples of 8.

    With "sum" what the network sums over the whole image are further outputs, with "use" they are further inputs, named
    alike, that stand in for the image's own: for each block BLOCK.gram and BLOCK.squares, for each prompt PROMPT.features.
    """
    graph = _Graph(ticket, statistics)
    graph.network()
    sizes: list[Any] = [1, 3, "height", "width"]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, sizes)
    restored = helper.make_tensor_value_info("restored", TensorProto.FLOAT, sizes)
    shared = [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)) for name, shape in graph.shared.items()]
    built = helper.make_graph(
        graph.nodes,
        "promptir",
        [image, *(shared if statistics == "use" else [])],
        [restored, *(shared if statistics == "sum" else [])],
        list(graph.constants.values()),
    )
    return helper.make_model(built, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=10)


class _Graph:
    """Nodes and constants so far; every method adds some and returns the name of its result."""

    def __init__(self, ticket: Ticket, statistics: Statistics):
        self.weights, self.config, self.statistics = ticket.weights, ticket.network, statistics
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self.shared: dict[str, tuple[int, ...]] = {}

    def add(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def constant(self, value: Array) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def integers(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def conv(self, x: str, weight: Array, groups: int = 1, bias: Array | None = None) -> str:
        size = weight.shape[-1]
        inputs = [x, self.constant(weight)] + ([] if bias is None else [self.constant(bias)])
        return self.add("Conv", inputs, kernel_shape=[size, size], pads=[size // 2] * 4, group=groups)

    def pointwise(self, x: str, weight: Array, bias: Array | None = None) -> str:
        return self.conv(x, weight[:, :, None, None], bias=bias)

    def normalise(self, x: str, channels: int) -> str:
        last = self.add("Transpose", [x], perm=[0, 2, 3, 1])
        ones = self.constant(np.ones(channels, np.float32))
        return self.add(
            "Transpose", [self.add("LayerNormalization", [last, ones], axis=-1, epsilon=1e-5)], perm=[0, 3, 1, 2]
        )

    def share(self, name: str, x: str, shape: tuple[int, ...]) -> str:
        """Give a sum over pixels to the caller, or take it from there."""
        if self.statistics == "own":
            return x
        self.shared[name] = shape
        if self.statistics == "sum":
            self.nodes.append(helper.make_node("Identity", [x], [name], name=name))
        return name

    def expanded(self, x: str, norm: str, weight: Array, depthwise: Array) -> str:
        """1x1 then depthwise 3x3 on normalised features, the norm's scale and shift inside the 1x1."""
        gain, shift = self.weights[f"{norm}.weight"], self.weights[f"{norm}.bias"]
        return self.conv(self.pointwise(x, weight * gain, weight @ shift), depthwise, groups=len(depthwise))

    def attention(self, x: str, name: str, channels: int, heads: int) -> str:
        width, place = channels // heads, f"{name}.attention"
        normal = self.normalise(x, channels)
        parts = zip(
            np.split(self.weights[f"{place}.qkv.weight"], 3),
            np.split(self.weights[f"{place}.qkv_depthwise.weight"], 3),
            strict=True,
        )
        q, k, v = (self.expanded(normal, f"{name}.norm1", weight, filters) for weight, filters in parts)
        split = self.integers(heads, width, -1)
        q, k = self.add("Reshape", [q, split]), self.add("Reshape", [k, split])
        gram = self.add("MatMul", [q, self.add("Transpose", [k], perm=[0, 2, 1])])
        squares = [self.add("ReduceSumSquare", [part, self.integers(2)], keepdims=1) for part in (q, k)]
        both = self.add("Concat", squares, axis=2)
        gram = self.share(f"{name}.gram", gram, (heads, width, width))
        both = self.share(f"{name}.squares", both, (heads, width, 2))
        of_q = self.add("Slice", [both, self.integers(0), self.integers(1), self.integers(2)])
        of_k = self.add("Slice", [both, self.integers(1), self.integers(2), self.integers(2)])
        product = self.add("Mul", [of_q, self.add("Transpose", [of_k], perm=[0, 2, 1])])
        lengths = self.add("Sqrt", [self.add("Max", [product, self.constant(np.array(1e-24, np.float32))])])
        heat = self.constant(self.weights[f"{place}.temperature"].reshape(heads, 1, 1))
        matrix = self.add("Softmax", [self.add("Mul", [self.add("Div", [gram, lengths]), heat])], axis=-1)
        project = self.weights[f"{place}.project.weight"].reshape(channels, heads, width).transpose(1, 0, 2)
        mix = self.add("Transpose", [self.add("MatMul", [self.constant(project), matrix])], perm=[1, 0, 2])
        mixed = self.add("MatMul", [self.add("Reshape", [mix, self.integers(channels, channels)]), self.flat(v, channels)])
        return self.add("Add", [x, self.add("Reshape", [mixed, self.add("Shape", [x])])])

    def flat(self, x: str, channels: int) -> str:
        return self.add("Reshape", [x, self.integers(channels, -1)])

    def feed_forward(self, x: str, name: str, channels: int) -> str:
        place = f"{name}.feed_forward"
        project = self.weights[f"{place}.project.weight"]
        padding = -project.shape[1] % _BLOCK
        normal = self.normalise(x, channels)
        halves = zip(
            np.split(self.weights[f"{place}.expand.weight"], 2),
            np.split(self.weights[f"{place}.depthwise.weight"], 2),
            strict=True,
        )
        gate, content = (
            self.expanded(normal, f"{name}.norm2", _padded(weight, padding), _padded(filters, padding))
            for weight, filters in halves
        )
        gated = self.add("Mul", [self.add("Gelu", [gate]), content])
        return self.add("Add", [x, self.pointwise(gated, _padded(project.T, padding).T)])

    def stage(self, name: str, x: str) -> str:
        channels, heads, count, _ = stage_widths(self.config)[name]
        for index in range(count):
            x = self.attention(x, f"{name}.{index}", channels, heads)
            x = self.feed_forward(x, f"{name}.{index}", channels)
        return x

    def size(self, x: str) -> str:
        return self.add("Slice", [self.add("Shape", [x]), self.integers(2), self.integers(4)])

    def down(self, x: str, name: str) -> str:
        """Convolve, then pixel-unshuffle in torch's order of channels: c, row, column (SpaceToDepth puts c last)."""
        weight = self.weights[f"{name}.weight"]
        channels = len(weight)
        x = self.conv(x, weight)
        half = self.add("Div", [self.size(x), self.integers(2, 2)])
        rows, columns = (self.add("Gather", [half, self.integers(i)]) for i in (0, 1))
        two = self.integers(2)
        apart = self.add("Concat", [self.integers(channels), rows, two, columns, two], axis=0)
        turned = self.add("Transpose", [self.add("Reshape", [x, apart])], perm=[0, 2, 4, 1, 3])
        return self.add("Reshape", [turned, self.add("Concat", [self.integers(1, 4 * channels), half], axis=0)])

    def up(self, x: str, name: str) -> str:
        return self.add("DepthToSpace", [self.conv(x, self.weights[f"{name}.weight"])], blocksize=2, mode="CRD")

    def prompted(self, x: str, level: int) -> str:
        """The features and their prompt, one after the other (PromptIR, equations 2 and 3)."""
        name = f"prompt{level}"
        values = self.weights[f"{name}.values"]
        prompts, size, _, width = values.shape
        select, bias = self.weights[f"{name}.select.weight"], self.weights[f"{name}.select.bias"]
        mean = self.add("ReduceMean", [x, self.integers(2, 3)], keepdims=0)
        mean = self.share(f"{name}.features", mean, (1, select.shape[1]))
        scores = self.add("Gemm", [mean, self.constant(select), self.constant(bias)], transB=1)
        flat = self.constant(values.transpose(0, 3, 1, 2).reshape(prompts, -1))
        mixed = self.add("MatMul", [self.add("Softmax", [scores], axis=-1), flat])
        prompt = self.add("Reshape", [mixed, self.integers(1, width, size, size)])
        wanted = self.add("Concat", [self.integers(1, width), self.size(x)], axis=0)
        resized = self.add("Resize", [prompt, "", "", wanted], mode="linear", coordinate_transformation_mode="half_pixel")
        return self.add("Concat", [x, self.conv(resized, self.weights[f"{name}.conv.weight"])], axis=1)

    def network(self) -> None:
        """Add the whole network, from `image` to `restored`."""
        x1 = self.stage("encoder1", self.conv("image", self.weights["embed.weight"]))
        x2 = self.stage("encoder2", self.down(x1, "down1"))
        x3 = self.stage("encoder3", self.down(x2, "down2"))
        x = self.stage("latent", self.down(x3, "down3"))
        for level, skip in ((3, x3), (2, x2), (1, x1)):
            mixed = self.stage(f"mix{level}", self.prompted(x, level))
            x = self.up(self.pointwise(mixed, self.weights[f"reduce{level}.weight"]), f"up{level}")
            x = self.add("Concat", [x, skip], axis=1)
            if level > 1:
                x = self.pointwise(x, self.weights[f"fuse{level}.weight"])
            x = self.stage(f"decoder{level}", x)
        change = self.conv(self.stage("refinement", x), self.weights["output.weight"])
        self.nodes.append(helper.make_node("Add", ["image", change], ["restored"], name="restored"))


def _padded(weight: Array, rows: int) -> Array:
    return np.concatenate([weight, np.zeros((rows, *weight.shape[1:]), np.float32)]) if rows else weight
