"""A ticket's network as an ONNX graph, built from its weights with onnx.helper: no torch.

The network of `mirl.network.promptir` (PromptIR, arXiv 2306.13090, on Restormer's blocks, arXiv 2111.09881) as dense
runtimes like it best. Features are (1, c, h, w), so that convolutions run in blocked layouts.
- Queries, keys and values, and the two halves of the feed-forward, are convolved apart: splitting channels is a copy, and a
  slow one in OpenVINO. Hidden channels are padded to a multiple of 16 for ONNX Runtime's blocked depthwise convolution.
- LayerNorm is elementary operations, for the operator wants channels last; its scale and shift are in the next convolution.
- The projection is multiplied into the attention matrix, and both are one 1x1 convolution of the values, which leaves the
  features in OpenVINO's layout.
Two places depend on the runtime, see `onnx_model`: means over channels and the product of queries and keys. With a batch,
what is of one image (attention, prompts) has the batch as its first axis, and the 1x1 convolution is a product of matrices.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from mirl.layers import stage_widths
from mirl.ticket import Ticket

Statistics = Literal["own", "sum", "use"]
Runtime = Literal["onnxruntime", "openvino"]
Array = NDArray[Any]
_OPSET = 20  # the first with Gelu
_BLOCK = 16  # channels of a block in ONNX Runtime's layout


def onnx_model(ticket: Ticket, statistics: Statistics = "own", runtime: Runtime = "onnxruntime") -> onnx.ModelProto:
    """Return the network: `image` (1, 3, h, w) to `restored` of the same shape, not clipped; h and w multiples of 8.

    With "sum" what the network sums over the whole image are further outputs, with "use" they are further inputs, named
    alike, that stand in for the image's own: for each block BLOCK.gram and BLOCK.squares, for each prompt PROMPT.features.
    Every runtime takes every graph; `runtime` is the one that it is fastest in.
    """
    graph = _Graph(ticket, statistics, runtime)
    graph.network()
    shared = [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)) for name, shape in graph.shared.items()]
    return graph.model(1, shared if statistics == "use" else [], shared if statistics == "sum" else [])


def batched_model(ticket: Ticket) -> onnx.ModelProto:
    """Return the network: `image` (batch, 3, height, width), any sizes of at least 1, to `restored` of the same shape.

    Not clipped. Padding is in the graph: edges are reflected up to multiples of 8, and the result is cut back.
    """
    graph = _Graph(ticket, "own", "onnxruntime", batched=True)
    padded = "image"
    for axis in (2, 3):
        padded = graph.add("Gather", [padded, graph.reflected(axis)], axis=axis)
    whole = graph.add("Add", [padded, graph.change(padded)])
    cut = [whole, graph.integers(0, 0), graph.add("Shape", ["image"], start=2), graph.integers(2, 3)]
    graph.nodes.append(helper.make_node("Slice", cut, ["restored"], name="restored"))
    return graph.model("batch")


class _Graph:
    """Nodes and constants so far; every method adds some and returns the name of its result.

    `batched` takes any number of images; with statistics "own" alone.
    """

    def __init__(self, ticket: Ticket, statistics: Statistics, runtime: Runtime, batched: bool = False):
        self.batched, self.lead = batched, [0] if batched else []  # in a shape, 0 is "as it was"
        self.weights, self.config, self.statistics, self.runtime = ticket.weights, ticket.network, statistics, runtime
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self.shared: dict[str, tuple[int, ...]] = {}

    def model(self, batch: int | str, inputs: Sequence[Any] = (), outputs: Sequence[Any] = ()) -> onnx.ModelProto:
        """The nodes as a model from `image` to `restored`, with further inputs or outputs."""
        sizes: list[Any] = [batch, 3, "height", "width"]
        image, restored = (helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes) for name in ("image", "restored"))
        constants = list(self.constants.values())
        built = helper.make_graph(self.nodes, "promptir", [image, *inputs], [restored, *outputs], constants)
        return helper.make_model(built, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=10)

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

    def number(self, value: float) -> str:
        return self.constant(np.array(value, np.float32))

    def conv(self, x: str, weight: Array, groups: int = 1, bias: Array | None = None) -> str:
        size = weight.shape[-1]
        inputs = [x, self.constant(weight)] + ([] if bias is None else [self.constant(bias)])
        return self.add("Conv", inputs, kernel_shape=[size, size], pads=[size // 2] * 4, group=groups)

    def pointwise(self, x: str, weight: Array, bias: Array | None = None) -> str:
        return self.conv(x, weight[:, :, None, None], bias=bias)

    def normalise(self, x: str, channels: int) -> str:
        """LayerNorm without scale and shift, the variance from differences: E[x^2] - E[x]^2 may be negative."""
        apart = self.runtime == "onnxruntime"
        features = self.add("Reshape", [x, self.integers(*self.lead, channels, -1)]) if apart else x
        centred = self.add("Sub", [features, self.channel_mean(features, channels)])
        variance = self.channel_mean(self.add("Mul", [centred, centred]), channels)
        deviation = self.add("Sqrt", [self.add("Add", [variance, self.number(1e-5)])])
        normal = self.add("Mul", [centred, self.add("Reciprocal", [deviation])])
        return self.add("Reshape", [normal, self.add("Shape", [x])]) if apart else normal

    def channel_mean(self, x: str, channels: int) -> str:
        """Mean of (..., c, n) for ONNX Runtime, five times faster there as a product, else of (b, c, h, w)."""
        if self.runtime == "onnxruntime":
            return self.add("MatMul", [self.constant(np.full((1, channels), 1 / channels, np.float32)), x])
        return self.add("ReduceMean", [x, self.integers(1)], keepdims=1)

    def share(self, name: str, shape: tuple[int, ...], compute: Callable[[], str]) -> str:
        """Compute a sum over pixels, and give it to the caller if wanted; or take it from there."""
        if self.statistics == "own":
            return compute()
        self.shared[name] = shape
        if self.statistics == "sum":
            self.nodes.append(helper.make_node("Identity", [compute()], [name], name=name))
        return name

    def expanded(self, x: str, norm: str, weight: Array, depthwise: Array) -> str:
        """1x1 then depthwise 3x3 on normalised features, the norm's scale and shift inside the 1x1."""
        gain, shift = self.weights[f"{norm}.weight"], self.weights[f"{norm}.bias"]
        return self.conv(self.pointwise(x, weight * gain, weight @ shift), depthwise, groups=len(depthwise))

    def attention(self, x: str, name: str, channels: int, heads: int) -> str:
        width, place = channels // heads, f"{name}.attention"
        normal = self.normalise(x, channels)
        weights = np.split(self.weights[f"{place}.qkv.weight"], 3)
        filters = np.split(self.weights[f"{place}.qkv_depthwise.weight"], 3)

        def part(index: int) -> str:
            return self.expanded(normal, f"{name}.norm1", weights[index], filters[index])

        query_key = [part(0), part(1)] if self.statistics != "use" else []
        gram = self.share(f"{name}.gram", (heads, width, width), lambda: self.gram(query_key, heads, width))
        both = self.share(f"{name}.squares", (heads, width, 2), lambda: self.squares(query_key, heads, width))
        of_q = self.add("Slice", [both, self.integers(0), self.integers(1), self.integers(-1)])
        of_k = self.add("Slice", [both, self.integers(1), self.integers(2), self.integers(-1)])
        product = self.add("Mul", [of_q, self.turn(of_k, 0, 2, 1)])
        lengths = self.add("Sqrt", [self.add("Max", [product, self.number(1e-24)])])
        heat = self.constant(self.weights[f"{place}.temperature"].reshape(heads, 1, 1))
        matrix = self.add("Softmax", [self.add("Mul", [self.add("Div", [gram, lengths]), heat])], axis=-1)
        project = self.weights[f"{place}.project.weight"].reshape(channels, heads, width).transpose(1, 0, 2)
        mix = self.turn(self.add("MatMul", [self.constant(project), matrix]), 1, 0, 2)
        if self.batched:
            value = part(2)
            flat = self.add("Reshape", [value, self.integers(0, channels, -1)])
            mixed = self.add("MatMul", [self.add("Reshape", [mix, self.integers(0, channels, channels)]), flat])
            return self.add("Add", [x, self.add("Reshape", [mixed, self.add("Shape", [value])])])
        filter_of_image = self.add("Reshape", [mix, self.integers(channels, channels, 1, 1)])
        return self.add("Add", [x, self.add("Conv", [part(2), filter_of_image], kernel_shape=[1, 1])])

    def turn(self, x: str, *order: int) -> str:
        """Transpose the axes behind the batch."""
        first = len(self.lead)
        return self.add("Transpose", [x], perm=[*range(first), *(first + axis for axis in order)])

    def gram(self, query_key: Sequence[str], heads: int, width: int) -> str:
        """q kT of every head, (heads, width, width). OpenVINO keeps channels last: there one head is read as it lies."""
        if heads == 1 and self.runtime == "openvino" and not self.batched:
            last = [self.add("Transpose", [part], perm=[0, 2, 3, 1]) for part in query_key]
            q, k = (self.add("Reshape", [part, self.integers(1, -1, width)]) for part in last)
            return self.add("MatMul", [self.add("Transpose", [q], perm=[0, 2, 1]), k])
        q, k = (self.add("Reshape", [part, self.integers(*self.lead, heads, width, -1)]) for part in query_key)
        return self.add("MatMul", [q, self.turn(k, 0, 2, 1)])

    def squares(self, query_key: Sequence[str], heads: int, width: int) -> str:
        """Squared lengths of q and k, (heads, width, 2); ReduceSumSquare is slower than a product and a sum."""
        sums = [self.add("ReduceSum", [self.add("Mul", [x, x]), self.integers(2, 3)], keepdims=0) for x in query_key]
        columns = [self.add("Reshape", [x, self.integers(*self.lead, heads, width, 1)]) for x in sums]
        return self.add("Concat", columns, axis=-1)

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

    def down(self, x: str, name: str) -> str:
        """Convolve, then pixel-unshuffle in torch's order of channels: c, row, column (SpaceToDepth puts c last)."""
        weight = self.weights[f"{name}.weight"]
        channels = len(weight)
        x = self.conv(x, weight)
        half = self.add("SpaceToDepth", [x], blocksize=2)
        apart = self.add("Reshape", [half, self.integers(*self.lead, 4, channels, -1)])
        return self.add("Reshape", [self.turn(apart, 1, 0, 2), self.add("Shape", [half])])

    def up(self, x: str, name: str) -> str:
        return self.add("DepthToSpace", [self.conv(x, self.weights[f"{name}.weight"])], blocksize=2, mode="CRD")

    def prompted(self, x: str, level: int) -> str:
        """The features and their prompt, one after the other (PromptIR, equations 2 and 3)."""
        name = f"prompt{level}"
        values = self.weights[f"{name}.values"]
        prompts, size, _, width = values.shape
        select, bias = self.weights[f"{name}.select.weight"], self.weights[f"{name}.select.bias"]
        shape = (1, select.shape[1])
        mean = self.share(f"{name}.features", shape, lambda: self.add("ReduceMean", [x, self.integers(2, 3)], keepdims=0))
        scores = self.add("Gemm", [mean, self.constant(select), self.constant(bias)], transB=1)
        flat = self.constant(values.transpose(0, 3, 1, 2).reshape(prompts, -1))
        mixed = self.add("MatMul", [self.add("Softmax", [scores], axis=-1), flat])
        images = self.add("Shape", [x], end=1) if self.batched else self.integers(1)
        prompt = self.add("Reshape", [mixed, self.integers(-1 if self.batched else 1, width, size, size)])
        wanted = self.add("Concat", [images, self.integers(width), self.add("Shape", [x], start=2)], axis=0)
        resized = self.add("Resize", [prompt, "", "", wanted], mode="linear", coordinate_transformation_mode="half_pixel")
        return self.add("Concat", [x, self.conv(resized, self.weights[f"{name}.conv.weight"])], axis=1)

    def reflected(self, axis: int) -> str:
        """Where each row or column of the padded image comes from: 0 1 2 1 0 1 2 1 for three of them."""
        size = self.add("Squeeze", [self.add("Shape", ["image"], start=axis, end=axis + 1)])
        none, one, two, eight = (self.constant(np.array(value, np.int64)) for value in (0, 1, 2, 8))
        padded = self.add("Add", [size, self.add("Mod", [self.add("Neg", [size]), eight])])
        period = self.add("Max", [self.add("Mul", [self.add("Sub", [size, one]), two]), one])
        place = self.add("Mod", [self.add("Range", [none, padded, one]), period])
        return self.add("Min", [place, self.add("Sub", [period, place])])

    def network(self) -> None:
        """Add the whole network, from `image` to `restored`."""
        self.nodes.append(helper.make_node("Add", ["image", self.change("image")], ["restored"], name="restored"))

    def change(self, image: str) -> str:
        """Add all of the network but its last sum: what it adds to `image`."""
        x1 = self.stage("encoder1", self.conv(image, self.weights["embed.weight"]))
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
        return self.conv(self.stage("refinement", x), self.weights["output.weight"])


def _padded(weight: Array, rows: int) -> Array:
    return np.concatenate([weight, np.zeros((rows, *weight.shape[1:]), np.float32)]) if rows else weight
