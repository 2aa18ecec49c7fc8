"""The DARTS search supernet written out plainly: the specification the fast one is tested against.

One function for each kind of module, called once for each edge, exactly as PyTorch would run it:
NCHW, OIHW weights, `lax` convolutions and window reductions. It shares no code with the package,
so a mistake made there cannot repeat itself here. Run it eagerly: compiled whole it takes minutes
even at 8 channels and 3 cells. In float64 (x64 enabled, parameters and images in float64) it agrees
with PyTorch to rounding.

Sources: Liu et al., DARTS (arXiv:1806.09055), section 2.1 and appendix A; He et al., FedNAS
(arXiv:2004.08546), section 3; PyTorch's documentation of Conv2d, BatchNorm2d and the pools.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.plain.parameters import (
    EDGES,
    NODES,
    PRIMITIVES,
    Array,
    Tree,
    count_batch_norms,
    count_parameters,
    edge_stride,
    init,
    init_batch_stats,
    is_reduction,
)

__all__ = [
    "EDGES",
    "PRIMITIVES",
    "apply",
    "average_pool",
    "batch_norm",
    "cell",
    "convolution",
    "count_batch_norms",
    "count_parameters",
    "dilated_convolution",
    "factorized_reduce",
    "init",
    "init_batch_stats",
    "max_pool",
    "mixed_operation",
    "primitive",
    "relu_conv_bn",
    "separable_convolution",
]

EPSILON = 1e-5
RUNNING_DECAY = 0.9  # PyTorch's momentum of 0.1 is the share of the new value

# x is [B, C, H, W] throughout; a module with a BatchNorm returns (y, its new statistics).


def convolution(
    x: Array, weight: Array, *, stride: int = 1, dilation: int = 1, groups: int = 1
) -> Array:
    """Conv2d without bias, padded by dilation * (k - 1) / 2: the output has ceil(size / stride)."""
    padding = dilation * (weight.shape[-1] - 1) // 2
    return lax.conv_general_dilated(
        x,
        weight,
        window_strides=(stride, stride),
        padding=[(padding, padding)] * 2,
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NCHW", "OIHW", "NCHW"),
        feature_group_count=groups,
        precision=lax.Precision.HIGHEST,
    )


def batch_norm(x: Array, stats: Mapping[str, Array], train: bool) -> tuple[Array, dict[str, Array]]:
    """BatchNorm2d without affine parameters.

    In training the batch's own mean and biased variance normalise; the running variance takes in
    the unbiased one, as PyTorch's does. Raises ValueError where a channel has a single value.
    """
    if not train:
        return _normalize(x, stats["mean"], stats["var"]), dict(stats)
    count = x.shape[0] * x.shape[2] * x.shape[3]
    if count == 1:
        raise ValueError("BatchNorm in training needs more than one value a channel")
    mean = jnp.mean(x, axis=(0, 2, 3))
    var = jnp.mean((x - mean[None, :, None, None]) ** 2, axis=(0, 2, 3))
    unbiased = var * (count / (count - 1))
    new_stats = {
        "mean": RUNNING_DECAY * stats["mean"] + (1 - RUNNING_DECAY) * mean,
        "var": RUNNING_DECAY * stats["var"] + (1 - RUNNING_DECAY) * unbiased,
    }
    return _normalize(x, mean, var), new_stats


def _normalize(x: Array, mean: Array, var: Array) -> Array:
    return (x - mean[None, :, None, None]) / jnp.sqrt(var[None, :, None, None] + EPSILON)


def max_pool(x: Array, stride: int) -> Array:
    """MaxPool2d, 3 x 3, padding 1; the padding is -inf and never wins."""
    return _windows(x, -np.inf, lax.max, stride)


def average_pool(x: Array, stride: int) -> Array:
    """AvgPool2d, 3 x 3, padding 1, count_include_pad=False: a mean over the pixels there are."""
    return _windows(x, 0.0, lax.add, stride) / _windows(jnp.ones_like(x), 0.0, lax.add, stride)


def _windows(x: Array, start: float, combine: Callable, stride: int) -> Array:
    padding = ((0, 0), (0, 0), (1, 1), (1, 1))
    first = np.asarray(start, x.dtype)
    return lax.reduce_window(x, first, combine, (1, 1, 3, 3), (1, 1, stride, stride), padding)


def relu_conv_bn(x: Array, params: Tree, stats: Tree, train: bool) -> tuple[Array, Tree]:
    """ReLU, 1 x 1 convolution, BatchNorm."""
    y, bn = batch_norm(convolution(jax.nn.relu(x), params["conv"]), stats["bn"], train)
    return y, {"bn": bn}


def factorized_reduce(x: Array, params: Tree, stats: Tree, train: bool) -> tuple[Array, Tree]:
    """ReLU, two 1 x 1 convolutions of stride 2, the second a pixel down and right; BatchNorm.

    An odd height or width first gets one row or column of zeros at its end, so that both halves
    have ceil(size / 2) pixels (the original, for even sizes only, would fail to concatenate them).
    """
    padding = ((0, 0), (0, 0), (0, x.shape[2] % 2), (0, x.shape[3] % 2))
    x = jnp.pad(jax.nn.relu(x), padding)
    first = convolution(x[:, :, ::2, ::2], params["conv1"])
    second = convolution(x[:, :, 1::2, 1::2], params["conv2"])
    y, bn = batch_norm(jnp.concatenate([first, second], axis=1), stats["bn"], train)
    return y, {"bn": bn}


def separable_convolution(
    x: Array, params: Tree, stats: Tree, stride: int, train: bool
) -> tuple[Array, Tree]:
    """Twice: ReLU, depthwise, pointwise, BatchNorm. The first depthwise has the stride."""
    channels = x.shape[1]
    x = convolution(jax.nn.relu(x), params["depthwise1"], stride=stride, groups=channels)
    x, bn1 = batch_norm(convolution(x, params["pointwise1"]), stats["bn1"], train)
    x = convolution(jax.nn.relu(x), params["depthwise2"], groups=channels)
    x, bn2 = batch_norm(convolution(x, params["pointwise2"]), stats["bn2"], train)
    return x, {"bn1": bn1, "bn2": bn2}


def dilated_convolution(
    x: Array, params: Tree, stats: Tree, stride: int, train: bool
) -> tuple[Array, Tree]:
    """ReLU, depthwise with dilation 2, pointwise, BatchNorm."""
    groups = x.shape[1]
    x = convolution(jax.nn.relu(x), params["depthwise"], stride=stride, dilation=2, groups=groups)
    x, bn = batch_norm(convolution(x, params["pointwise"]), stats["bn"], train)
    return x, {"bn": bn}


def primitive(
    name: str, x: Array, params: Tree, stats: Tree, stride: int, train: bool
) -> tuple[Array, Tree]:
    """One operation of the mixed operation.

    Args:
      name: one of PRIMITIVES.
      x: [B, C, H, W].
      params: its weights, empty or None where it has none.
      stats: its running statistics, empty or None where it has no BatchNorm.
      stride: 1 or 2.
      train: whether BatchNorm takes the batch's statistics.

    Returns:
      (y [B, C, ceil(H / stride), ceil(W / stride)], new statistics).
    """
    if name == "none":
        return jnp.zeros_like(x[:, :, ::stride, ::stride]), {}
    if name in ("max_pool_3x3", "avg_pool_3x3"):
        pool = max_pool if name == "max_pool_3x3" else average_pool
        y, bn = batch_norm(pool(x, stride), stats["bn"], train)
        return y, {"bn": bn}
    if name == "skip_connect":
        return (x, {}) if stride == 1 else factorized_reduce(x, params, stats, train)
    if name.startswith("sep_conv"):
        return separable_convolution(x, params, stats, stride, train)
    if name.startswith("dil_conv"):
        return dilated_convolution(x, params, stats, stride, train)
    raise ValueError(f"no primitive {name!r}")


def mixed_operation(
    x: Array, weights: Array, params: Tree, stats: Tree, stride: int, train: bool
) -> tuple[Array, Tree]:
    """Sum of all primitives by `weights` [8], the softmax of an edge's alphas (DARTS, Eq. 2)."""
    total: Any = 0.0
    new_stats = {}
    for index, name in enumerate(PRIMITIVES):
        y, new = primitive(name, x, params.get(name), stats.get(name), stride, train)
        total = total + weights[index] * y
        if new:
            new_stats[name] = new
    return total, new_stats


def cell(
    s0: Array, s1: Array, weights: Array, params: Tree, stats: Tree, reduction: bool, train: bool
) -> tuple[Array, Tree]:
    """Two inputs in, the four nodes side by side out. weights: [14, 8], softmax taken."""
    preprocess0 = factorized_reduce if "conv1" in params["preprocess0"] else relu_conv_bn
    s0, new0 = preprocess0(s0, params["preprocess0"], stats["preprocess0"], train)
    s1, new1 = relu_conv_bn(s1, params["preprocess1"], stats["preprocess1"], train)
    states = [s0, s1]
    new_edges = []
    for node in range(NODES):
        total: Any = 0.0
        for edge, (target, source) in enumerate(EDGES):
            if target != node:
                continue
            stride = edge_stride(reduction, source)
            edge_params, edge_stats = params["edges"][edge], stats["edges"][edge]
            y, new = mixed_operation(
                states[source], weights[edge], edge_params, edge_stats, stride, train
            )
            total = total + y
            new_edges.append(new)
        states.append(total)
    new_stats = {"preprocess0": new0, "preprocess1": new1, "edges": new_edges}
    return jnp.concatenate(states[2:], axis=1), new_stats


def apply(
    params: Tree, alphas: Mapping[str, Array], batch_stats: Tree, images: Array, *, train: bool
) -> tuple[Array, dict[str, Any]]:
    """The supernet's logits.

    Args:
      params: from `init`.
      alphas: {"normal", "reduce"}, each [14, 8] over (EDGES, PRIMITIVES), before the softmax.
      batch_stats: from `init_batch_stats`.
      images: [B, H, W, C], normalised.
      train: normalise by the batch's statistics and take them in, or by the running ones.

    Returns:
      (logits [B, classes], batch_stats after this pass; unchanged unless `train`).
    """
    normal = jax.nn.softmax(alphas["normal"], axis=-1)
    reduce = jax.nn.softmax(alphas["reduce"], axis=-1)
    stem = params["stem"]
    x = convolution(jnp.transpose(images, (0, 3, 1, 2)), stem["conv"])
    x, stem_bn = batch_norm(x, batch_stats["stem"]["bn"], train)
    x = x * stem["bn_scale"][None, :, None, None] + stem["bn_bias"][None, :, None, None]
    s0 = s1 = x
    layers = len(params["cells"])
    new_cells = []
    for index in range(layers):
        reduction = is_reduction(index, layers)
        weights = reduce if reduction else normal
        cell_params, cell_stats = params["cells"][index], batch_stats["cells"][index]
        y, new = cell(s0, s1, weights, cell_params, cell_stats, reduction, train)
        s0, s1 = s1, y
        new_cells.append(new)
    features = jnp.mean(s1, axis=(2, 3))
    head = params["classifier"]
    logits = jnp.dot(features, head["weight"].T, precision=lax.Precision.HIGHEST) + head["bias"]
    return logits, {"stem": {"bn": stem_bn}, "cells": new_cells}
