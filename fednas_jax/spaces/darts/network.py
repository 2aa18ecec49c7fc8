"""The discrete network that a genotype describes (DARTS: Liu et al., 2019, arXiv 1806.09055)."""

import itertools
import math
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from fednas_jax.nn.kernels.convolution import to_maps
from fednas_jax.nn.layers import Conv, Norm, Style, dense, mean_pixel
from fednas_jax.spaces.darts.cell_loop import loop_over_cells
from fednas_jax.spaces.darts.operations import (
    FactorizedReduce,
    Kernel,
    Operation,
    ReLUConvNorm,
    drop_path,
)

_STEM_MULTIPLIER = 3


class Architecture(Protocol):
    """What a network needs of a genotype: pairs (operation, source state), two for each node."""

    @property
    def normal(self) -> tuple[tuple[str, int], ...]: ...
    @property
    def normal_concat(self) -> tuple[int, ...]: ...
    @property
    def reduce(self) -> tuple[tuple[str, int], ...]: ...
    @property
    def reduce_concat(self) -> tuple[int, ...]: ...


class Cell(nn.Module):
    """One cell: two inputs, projected to `channels`, and four nodes of two operations each.

    Attributes:
      pairs: 8 pairs (operation, source state), two for each node.
      concat: the states whose concatenated channels are the output.
      channels: number of channels of every state.
      reduction: whether the operations on the inputs have stride 2.
      reduction_before: whether the previous cell halved the size, so that input 0 must be halved.
      style: settings of the layers.
    """

    pairs: tuple[tuple[str, int], ...]
    concat: tuple[int, ...]
    channels: int
    reduction: bool
    reduction_before: bool
    style: Style

    @nn.compact
    def __call__(
        self,
        before_last: jax.Array,
        last: jax.Array,
        drop_path_rate: jax.Array | float,
        key: jax.Array | None,
        *,
        train: bool,
        preprocessed: bool = False,
    ) -> jax.Array:
        """Computes the cell's output.

        Args:
          before_last, last: inputs [C, H, W * B].
          drop_path_rate: probability that an example loses an operation's output.
          key: random key of the drop path; None for no drop path.
          train: as in `Network`.
          preprocessed: whether the inputs already have `channels` channels and one size.

        Returns:
          [channels * len(concat), H', W' * B]
        """
        states = [before_last, last]
        if not preprocessed:
            second = ReLUConvNorm(self.style, self.channels, name="preprocess1")
            states = [
                self.preprocess0(name="preprocess0")(before_last, train=train),
                second(last, train=train),
            ]
        paths: list[jax.Array] = []
        for index, (operation, source) in enumerate(self.pairs):
            stride = 2 if self.reduction and source < 2 else 1
            module = Operation(self.style, operation, stride, name=f"operation{index}")
            path = module(states[source], train=train)
            identity = operation == "skip_connect" and stride == 1
            if key is not None and not identity:
                own = jax.random.fold_in(key, index)
                path = drop_path(own, path, drop_path_rate, self.style.batch)
            paths.append(path)
            if index % 2:
                # Without a barrier XLA recomputes the sum and its random masks in each consumer.
                states.append(lax.optimization_barrier(paths[-2] + paths[-1]))
        return lax.optimization_barrier(jnp.concatenate([states[i] for i in self.concat]))

    def preprocess0(self, **options: Any) -> nn.Module:
        """The module that projects the older input to `channels`; `options` go to Flax."""
        kind = FactorizedReduce if self.reduction_before else ReLUConvNorm
        return kind(self.style, self.channels, **options)


class AuxiliaryHead(nn.Module):
    """DARTS's auxiliary classifier for CIFAR, on the output of the last reduction cell.

    DARTS averages 8 x 8 pixels to 2 x 2 (windows of 5, stride 3). Here the windows grow and shrink
    with the map, so that any size of at least 2 x 2 becomes 2 x 2 and the weights stay the same.
    """

    num_classes: int
    style: Style

    @nn.compact
    def __call__(self, maps: jax.Array, *, train: bool) -> jax.Array:
        """[C, H, W * B] -> [B, num_classes]."""
        batch = self.style.batch
        pixels = jax.nn.relu(maps).reshape(*maps.shape[:2], -1, batch)
        sizes = pixels.shape[1:3]
        strides = [max(size * 3 // 8, 1) for size in sizes]
        height, width = (size - stride for size, stride in zip(sizes, strides, strict=True))
        corners = [
            pixels[:, top : top + height, left : left + width].mean((1, 2))
            for top in (0, strides[0])
            for left in (0, strides[1])
        ]
        x = jnp.stack(corners, axis=1).reshape(len(maps), 2, 2 * batch)
        x = Conv(128, 1, batch, name="conv0")(x)
        x = jax.nn.relu(Norm(self.style, name="norm0")(x, train=train))
        kernel = Kernel((2, 2, 128, 768), name="conv1")(1)
        # The kernel covers the whole map: one product over all pixels' channels.
        x = x.reshape(128, 4, batch).swapaxes(0, 1).reshape(512, batch)
        x = (kernel.reshape(512, 768).T @ x)[:, None]
        x = jax.nn.relu(Norm(self.style, name="norm1")(x, train=train))
        return dense(self.num_classes, 768, name="classifier")(mean_pixel(x, batch))


class Network(nn.Module):
    """The network of a genotype: stem, `layers` cells, global average pool, linear layer.

    The cells at layers // 3 and 2 * layers // 3 halve the size and double the channels. Variables:
    `params` and `batch_stats`, initialised by PyTorch's defaults.

    Attributes:
      genotype: the cells.
      num_classes: outputs.
      init_channels: number of channels of the first cells' states (DARTS: 36; FedNAS: 16).
      layers: number of cells (DARTS: 20; FedNAS: 8).
      auxiliary: whether training also returns the logits of the auxiliary head.
      normalization: "batch" or "group".
      scan_cells: whether to compile neighbouring equal cells once and loop over them. The paths of
        their variables do not change; results are equal up to rounding.
    """

    genotype: Architecture
    num_classes: int
    init_channels: int = 16
    layers: int = 8
    auxiliary: bool = False
    normalization: str = "batch"
    scan_cells: bool = True

    @nn.compact
    def __call__(
        self,
        images: jax.Array,
        *,
        train: bool,
        drop_path_rate: jax.Array | float = 0.0,
        key: jax.Array | None = None,
    ) -> jax.Array | tuple[jax.Array, jax.Array]:
        """Classifies images.

        Args:
          images: [B, H, W, C], float, normalised; H and W at least 8, any C.
          train: whether to normalise by batch statistics instead of running ones, and to use drop
            path and the auxiliary head.
          drop_path_rate: probability, in [0, 1), that an example loses an operation's output; may
            be traced. Identities are never dropped.
          key: random key of the drop path; None for no drop path.

        Returns:
          Logits [B, num_classes]; in training with `auxiliary` a pair of such arrays, the second
          from the auxiliary head.

        Raises:
          ValueError: in training, the rate is not 0.0 and there is no key.
        """
        static_rate = drop_path_rate if isinstance(drop_path_rate, int | float) else math.nan
        if train and key is None and static_rate != 0.0:
            raise ValueError("drop_path_rate: needs a random key")
        drop_key = key if train and static_rate != 0.0 else None
        style = Style(len(images), self.normalization)
        stem = Conv(_STEM_MULTIPLIER * self.init_channels, 3, style.batch, name="stem_conv")
        last = Norm(style, name="stem_norm")(stem(to_maps(images)), train=train)
        states = (last, last)
        with_head = self.auxiliary and (train or self.is_initializing())
        loops = self.scan_cells and not self.is_initializing()
        for run in self._runs() if loops else [[index] for index in range(self.layers)]:
            states = self._apply_run(run, style, states, drop_path_rate, drop_key, train=train)
            if with_head and run[-1] == self._reductions[1]:
                head = AuxiliaryHead(self.num_classes, style, name="auxiliary_head")
                auxiliary_logits = head(states[1], train=train)
        features = mean_pixel(states[1], style.batch)
        logits = dense(self.num_classes, features.shape[1], name="classifier")(features)
        return (logits, auxiliary_logits) if with_head and train else logits

    @property
    def _reductions(self) -> tuple[int, int]:
        return self.layers // 3, 2 * self.layers // 3

    def _runs(self) -> list[list[int]]:
        """The numbers of all cells, in runs: neighbouring normal cells are one loop."""
        reductions = sorted({*self._reductions})
        runs = [[place] for place in reductions]
        ends = itertools.pairwise([-1, *reductions, self.layers])
        runs += [list(range(before + 1, after)) for before, after in ends]
        return sorted(run for run in runs if run)

    def _place(self, index: int) -> tuple[bool, bool]:
        """Whether a cell is a reduction, and whether the one before it is."""
        return index in self._reductions, index - 1 in self._reductions

    def _channels(self, index: int) -> int:
        return self.init_channels * 2 ** sum(place <= index for place in set(self._reductions))

    def _concat(self, index: int) -> tuple[int, ...]:
        reduction, _ = self._place(index)
        return self.genotype.reduce_concat if reduction else self.genotype.normal_concat

    def _apply_run(
        self,
        run: list[int],
        style: Style,
        states: tuple[jax.Array, jax.Array],
        rate: jax.Array | float,
        key: jax.Array | None,
        *,
        train: bool,
    ) -> tuple[jax.Array, jax.Array]:
        """Applies a run of cells; returns the outputs of the last two, which the next cell
        reads."""
        cell = self._cell(run[0], style)
        keys = [None if key is None else jax.random.fold_in(key, index) for index in run]
        if len(run) == 1:
            return states[1], cell(*states, rate, keys[0], train=train)
        alone = cell.clone(parent=None)
        names = [f"cell{index}" for index in run]
        states, statistics = loop_over_cells(
            alone,
            alone.preprocess0(parent=None),
            ReLUConvNorm(style, cell.channels, parent=None),
            [{kind: tree[n] for kind, tree in self.variables.items() if n in tree} for n in names],
            states,
            cell.channels * len(cell.concat),
            rate,
            keys,
            train=train,
        )
        if train and self.is_mutable_collection("batch_stats"):
            for name, seen in zip(names, statistics, strict=True):
                if seen:
                    self.put_variable("batch_stats", name, seen)
        return states

    def _cell(self, index: int, style: Style) -> Cell:
        reduction, reduction_before = self._place(index)
        return Cell(
            self.genotype.reduce if reduction else self.genotype.normal,
            self._concat(index),
            self._channels(index),
            reduction,
            reduction_before,
            style,
            name=f"cell{index}",
        )
