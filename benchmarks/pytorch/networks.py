"""The networks that a train stage compares, in eager PyTorch: a genotype's, ResNet, DenseNet.

Written from the papers, NCHW; with BatchNorms that learn a scale and a bias.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.pytorch.space import NODES, STEM_MULTIPLIER, reductions
from benchmarks.pytorch.supernet import FactorizedReduce, Pool, ReluConvNorm, primitive


class Cell(nn.Module):
    """A genotype's cell: two pairs (operation, source state) per node; no BatchNorm after a
    pool."""

    def __init__(
        self,
        pairs: list[tuple[str, int]],
        concat: list[int],
        inputs: tuple[int, int],
        channels: int,
        *,
        reduction: bool,
        after_reduction: bool,
    ):
        super().__init__()
        before = FactorizedReduce if after_reduction else ReluConvNorm
        self.preprocess0 = before(inputs[0], channels)
        self.preprocess1 = ReluConvNorm(inputs[1], channels)
        self.sources = [source for _, source in pairs]
        self.concat = concat
        self.operations = nn.ModuleList()
        for name, source in pairs:
            operation = primitive(name, channels, 2 if reduction and source < 2 else 1)
            self.operations.append(operation.pool if isinstance(operation, Pool) else operation)

    def forward(self, older: Tensor, newer: Tensor) -> Tensor:
        states = [self.preprocess0(older), self.preprocess1(newer)]
        for node in range(NODES):
            paths = [self.operations[i](states[self.sources[i]]) for i in (2 * node, 2 * node + 1)]
            states.append(paths[0] + paths[1])
        return torch.cat([states[i] for i in self.concat], dim=1)


class GenotypeNetwork(nn.Module):
    """Stem, cells, global average pool, linear layer."""

    def __init__(self, genotype: dict, num_classes: int, init_channels: int, layers: int):
        super().__init__()
        stem = STEM_MULTIPLIER * init_channels
        self.stem = nn.Sequential(nn.Conv2d(3, stem, 3, padding=1, bias=False), _norm(stem))
        inputs, channels, after_reduction = (stem, stem), init_channels, False
        self.cells = nn.ModuleList()
        for layer in range(layers):
            reduction = layer in reductions(layers)
            kind = "reduce" if reduction else "normal"
            concat = genotype[f"{kind}_concat"]
            channels *= 1 + reduction
            cell = Cell(
                genotype[kind],
                concat,
                inputs,
                channels,
                reduction=reduction,
                after_reduction=after_reduction,
            )
            self.cells.append(cell)
            inputs, after_reduction = (inputs[1], len(concat) * channels), reduction
        self.classifier = nn.Linear(inputs[1], num_classes)
        _learn_scales(self)

    def forward(self, images: Tensor) -> Tensor:
        older = newer = self.stem(images)
        for cell in self.cells:
            older, newer = newer, cell(older, newer)
        return self.classifier(newer.mean(dim=(2, 3)))


class Block(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut that pads channels with zeros."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm1, self.norm2 = _norm(outputs), _norm(outputs)
        self.stride, self.side = stride, (outputs - inputs) // 2

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        if self.side:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.side, self.side))
        return F.relu(x + y)


def resnet(num_classes: int, blocks: int) -> nn.Module:
    """He et al. 2016, Section 4.2."""
    layers = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), _norm(16), nn.ReLU()]
    inputs = 16
    for stage, outputs in enumerate((16, 32, 64)):
        for number in range(blocks):
            layers.append(Block(inputs, outputs, 2 if stage and not number else 1))
            inputs = outputs
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, num_classes)
    )


class Dense(nn.Module):
    """A layer of a dense block: what it reads, and 32 channels more."""

    def __init__(self, inputs: int, growth: int = 32):
        super().__init__()
        middle = 4 * growth
        self.norm1, self.norm2 = _norm(inputs), _norm(middle)
        self.conv1 = nn.Conv2d(inputs, middle, 1, bias=False)
        self.conv2 = nn.Conv2d(middle, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.relu(self.norm1(x)))
        return torch.cat([x, self.conv2(F.relu(self.norm2(y)))], dim=1)


def densenet201(num_classes: int) -> nn.Module:
    """Huang et al. 2017, Table 1."""
    layers = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), _norm(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    channels = 64
    for block, count in enumerate((6, 12, 48, 32)):
        if block:
            half = channels // 2
            conv = nn.Conv2d(channels, half, 1, bias=False)
            layers += [_norm(channels), nn.ReLU(), conv, nn.AvgPool2d(2)]
            channels = half
        for _ in range(count):
            layers.append(Dense(channels))
            channels += 32
    layers += [_norm(channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(channels, num_classes))


def _norm(channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels)


def _learn_scales(module: nn.Module) -> None:
    """Gives every BatchNorm in it a scale and a bias; the supernet's have none."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, _norm(child.num_features))
        else:
            _learn_scales(child)
