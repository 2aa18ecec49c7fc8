"""The DARTS supernet in PyTorch: a module for each edge and primitive, NCHW.

As the originals have it: convolutions without bias, BatchNorms without affine parameters in the
cells, an affine one in the stem, a BatchNorm behind each pool. An odd map is padded by zeros before
it is halved, where the originals, made for even ones, would fail.
"""

import itertools
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.pytorch.space import EDGES, NODES, PRIMITIVES, STEM_MULTIPLIER, reductions


def _norm(channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels, affine=False)


def _depthwise(channels: int, kernel: int, stride: int = 1, dilation: int = 1) -> nn.Module:
    padding = dilation * (kernel // 2)
    return nn.Conv2d(
        channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False
    )


def _pointwise(inputs: int, outputs: int, stride: int = 1) -> nn.Module:
    return nn.Conv2d(inputs, outputs, 1, stride, bias=False)


class ReluConvNorm(nn.Module):
    """ReLU, 1 x 1 convolution, BatchNorm."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv = _pointwise(inputs, outputs)
        self.norm = _norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(F.relu(x)))


class FactorizedReduce(nn.Module):
    """ReLU, two 1 x 1 convolutions of stride 2, one of them a pixel down and right; BatchNorm."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv1 = _pointwise(inputs, outputs // 2, stride=2)
        self.conv2 = _pointwise(inputs, outputs // 2, stride=2)
        self.norm = _norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x)
        odd_rows, odd_columns = x.shape[2] % 2, x.shape[3] % 2
        if odd_rows or odd_columns:
            x = F.pad(x, (0, odd_columns, 0, odd_rows))
        return self.norm(torch.cat([self.conv1(x), self.conv2(x[:, :, 1:, 1:])], dim=1))


class Pool(nn.Module):
    """3 x 3 pool, BatchNorm; the average is over the pixels there are."""

    def __init__(self, kind: str, channels: int, stride: int):
        super().__init__()
        self.pool = (
            nn.MaxPool2d(3, stride, padding=1)
            if kind == "max"
            else nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)
        )
        self.norm = _norm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.pool(x))


class SeparableConvolution(nn.Module):
    """Twice: ReLU, depthwise, pointwise, BatchNorm."""

    def __init__(self, channels: int, kernel: int, stride: int):
        super().__init__()
        self.depthwise1 = _depthwise(channels, kernel, stride)
        self.pointwise1 = _pointwise(channels, channels)
        self.norm1 = _norm(channels)
        self.depthwise2 = _depthwise(channels, kernel)
        self.pointwise2 = _pointwise(channels, channels)
        self.norm2 = _norm(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(self.pointwise1(self.depthwise1(F.relu(x))))
        return self.norm2(self.pointwise2(self.depthwise2(F.relu(x))))


class DilatedConvolution(nn.Module):
    """ReLU, depthwise with dilation 2, pointwise, BatchNorm."""

    def __init__(self, channels: int, kernel: int, stride: int):
        super().__init__()
        self.depthwise = _depthwise(channels, kernel, stride, dilation=2)
        self.pointwise = _pointwise(channels, channels)
        self.norm = _norm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.pointwise(self.depthwise(F.relu(x))))


class Zero(nn.Module):
    """`none`: no connection."""

    def __init__(self, stride: int):
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, :: self.stride, :: self.stride] * 0.0


def primitive(name: str, channels: int, stride: int) -> nn.Module:
    """The module of one of `PRIMITIVES`."""
    kind, _, size = name.rpartition("_")
    match kind:
        case "sep_conv":
            return SeparableConvolution(channels, int(size[0]), stride)
        case "dil_conv":
            return DilatedConvolution(channels, int(size[0]), stride)
        case "max_pool" | "avg_pool":
            return Pool(kind[:3], channels, stride)
    if name == "none":
        return Zero(stride)
    return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels)


class MixedOperation(nn.Module):
    """All primitives on one edge, summed by their shares."""

    def __init__(self, channels: int, stride: int):
        super().__init__()
        self.operations = nn.ModuleDict(
            {name: primitive(name, channels, stride) for name in PRIMITIVES}
        )

    def forward(self, x: Tensor, shares: Tensor) -> Tensor:
        pairs = zip(shares, self.operations.values(), strict=True)
        return sum(share * operation(x) for share, operation in pairs)


class Cell(nn.Module):
    """Two inputs, four nodes, a mixed operation on each edge."""

    def __init__(
        self, inputs: tuple[int, int], channels: int, *, reduction: bool, after_reduction: bool
    ):
        super().__init__()
        self.reduction = reduction
        before = FactorizedReduce if after_reduction else ReluConvNorm
        self.preprocess0 = before(inputs[0], channels)
        self.preprocess1 = ReluConvNorm(inputs[1], channels)
        self.edges = nn.ModuleList(
            MixedOperation(channels, 2 if reduction and state < 2 else 1) for _, state in EDGES
        )

    def forward(self, older: Tensor, newer: Tensor, shares: Tensor) -> Tensor:
        states = [self.preprocess0(older), self.preprocess1(newer)]
        edges = zip(self.edges, shares, strict=True)
        for node in range(NODES):
            incoming = zip(states, itertools.islice(edges, node + 2), strict=True)
            states.append(sum(edge(state, share) for state, (edge, share) in incoming))
        return torch.cat(states[2:], dim=1)


class Supernet(nn.Module):
    """The network; `alphas` are parameters too, `weights()` are all the others."""

    def __init__(self, num_classes: int, init_channels: int, layers: int, in_channels: int = 3):
        super().__init__()
        stem = STEM_MULTIPLIER * init_channels
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, stem, 3, padding=1, bias=False), nn.BatchNorm2d(stem)
        )
        inputs, channels, after_reduction = (stem, stem), init_channels, False
        self.cells = nn.ModuleList()
        for layer in range(layers):
            reduction = layer in reductions(layers)
            channels *= 1 + reduction
            self.cells.append(
                Cell(inputs, channels, reduction=reduction, after_reduction=after_reduction)
            )
            inputs, after_reduction = (inputs[1], NODES * channels), reduction
        self.classifier = nn.Linear(inputs[1], num_classes)
        self.alphas = nn.ParameterDict(
            {
                kind: nn.Parameter(1e-3 * torch.randn(len(EDGES), len(PRIMITIVES)))
                for kind in ("normal", "reduce")
            }
        )

    def weights(self) -> Iterator[nn.Parameter]:
        """The parameters w, without the alphas."""
        return (p for name, p in self.named_parameters() if not name.startswith("alphas."))

    def count_weights(self) -> int:
        """How many numbers `weights` are."""
        return sum(weight.numel() for weight in self.weights())

    def forward(self, images: Tensor) -> Tensor:
        """images: [B, C_in, H, W]. Returns logits, [B, num_classes]."""
        shares = {kind: F.softmax(alpha, dim=-1) for kind, alpha in self.alphas.items()}
        older = newer = self.stem(images)
        for cell in self.cells:
            kind = "reduce" if cell.reduction else "normal"
            older, newer = newer, cell(older, newer, shares[kind])
        return self.classifier(newer.mean(dim=(2, 3)))
