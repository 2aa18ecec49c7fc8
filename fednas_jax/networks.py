"""All networks by name: built from a config, their weights and multiply-adds counted.

Every one takes images [B, H, W, C] float and `train`, and returns logits [B, num_classes]. Its
collections are `params` and, with batch normalisation, `batch_stats`; what it draws comes from the
key `dropout`.
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from fednas_jax import extension, user_code
from fednas_jax.config import Config
from fednas_jax.errors import UserError, suggest
from fednas_jax.nn.cnn import CNN
from fednas_jax.nn.densenet import DenseNet
from fednas_jax.nn.mlp import MLP
from fednas_jax.nn.network import Network
from fednas_jax.nn.pfl_cnn import PFLCNN
from fednas_jax.nn.resnet import ResNet
from fednas_jax.search import genotype as genotypes
from fednas_jax.search.genotype import Genotype

ImageShape = tuple[int, int, int]
"""H, W, C."""

_FIELD = "config.network.name"


def from_config(config: Config, image_shape: ImageShape, num_classes: int) -> nn.Module:
    """The network that `config.network`, and `config.genotype`, describe.

    Args:
      config: of a run.
      image_shape: (H, W, C) of an image.
      num_classes: logits.

    Raises:
      UserError: it is not for images of this size, or there is no such genotype.
    """
    return build(config["network"], image_shape, num_classes, genotype_of(config))


def genotype_of(config: Config) -> Genotype | None:
    """What `config.network` is built from; None of a network made by hand.

    Raises:
      UserError: there is no such genotype.
    """
    by_genotype = config["network"]["name"] == "genotype"
    return genotypes.load(config["genotype"]) if by_genotype else None


def build(
    fields: Mapping[str, Any],
    image_shape: ImageShape,
    num_classes: int,
    genotype: Genotype | None = None,
) -> nn.Module:
    """A network by its fields.

    Args:
      fields: its `name`, and those of `config.network` that it reads.
      image_shape: (H, W, C) of an image.
      num_classes: logits.
      genotype: of the network named "genotype".

    Raises:
      UserError: there is no such network, or it is not for images of this size.
    """
    options = dict(fields)
    name = options.pop("name")
    if user_code.is_reference(name):
        return _brought(name, image_shape, num_classes, options)
    if name not in _KINDS:
        raise UserError(f"config.network.name: {name!r} is no network{suggest(name, _KINDS)}")
    kind = _KINDS[name]
    height, width, _ = image_shape
    if min(height, width) < kind.least or height % kind.multiple or width % kind.multiple:
        divided = f" that {kind.multiple} divides" if kind.multiple > 1 else ""
        raise UserError(
            f"config.network.name: {name!r} is not for images of {height} x {width}; sides of at "
            f"least {kind.least}{divided} are needed, or another network"
        )
    if name == "genotype":
        options["genotype"] = genotype
    return kind.build(num_classes=num_classes, **options)


def is_large(name: str) -> bool:
    """Whether the program of a network is one to compile with `compilation`'s quick options."""
    return name in _KINDS and _KINDS[name].large


def _brought(
    name: str, image_shape: ImageShape, num_classes: int, options: Mapping[str, Any]
) -> nn.Module:
    """A network of a user's own: any linen module, or a function that makes one.

    Raises:
      UserError: it is something else, or does not make logits of images.
    """
    make, source = extension.unwrapped(name, _FIELD)
    needed = (
        "a linen module, or a function that returns one, is needed: num_classes -> a module from "
        "images [B, H, W, C] and `train` to logits [B, num_classes]"
    )
    if not callable(make):
        raise UserError(f"{_FIELD}: {name} is of type {type(make).__name__}; {needed}")
    try:
        network = make(num_classes=num_classes, **options)
        if not isinstance(network, nn.Module):
            raise TypeError(f"it returns a {type(network).__name__}")
        image, variables = _shapes(network, image_shape)
        logits = jax.eval_shape(lambda v, x: network.apply(v, x, train=False), variables, image)
    except Exception as error:  # of whatever type: it is not our code
        raise user_code.failed(f"{_FIELD}: {name}", source.path, error, needed) from error
    shape = getattr(logits, "shape", None)
    if shape != (1, num_classes):
        got = "no array" if shape is None else f"shape {list(shape)}"
        raise UserError(
            f"{_FIELD}: {name} makes {got} of one image of {list(image_shape)}, where "
            f"[1, {num_classes}] is needed"
        )
    return network


def parameter_count(network: nn.Module, image_shape: ImageShape) -> int:
    """Learnt weights, worked out from shapes: nothing is computed or compiled.

    Args:
      network: any of this file.
      image_shape: (H, W, C) of an image.
    """
    _, variables = _shapes(network, image_shape)
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))


def multiply_adds(network: nn.Module, image_shape: ImageShape) -> int:
    """Multiply-adds of the convolutions and linear layers for one image, in prediction.

    As the layers define them, each kernel once for every pixel of its output: taps that fall on
    padding count, as is usual, and shortcuts that an implementation takes do not.

    Args:
      network: any of this file.
      image_shape: (H, W, C) of an image.
    """
    if isinstance(network, Network):
        network = network.clone(scan_cells=False)  # each cell in its own place
    image, variables = _shapes(network, image_shape)
    pixels: dict[tuple[str, ...], int] = {}

    def look(run: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        layer: Any = context.module
        result = run(*args, **kwargs)
        if context.method_name == "__call__" and hasattr(layer, "pixels"):
            pixels[layer.path] = layer.pixels(*args)
        elif isinstance(layer, nn.Dense | nn.Conv):  # of a user's own network, or the last layer
            pixels[layer.path] = math.prod(result.shape[1:-1])
        return result

    with nn.intercept_methods(look):
        jax.eval_shape(lambda v, x: network.apply(v, x, train=False), variables, image)
    total = 0
    for path, count in pixels.items():
        layer = variables["params"]
        for name in path:
            layer = layer[name]
        # Layers of a loop are met once, but their kernels lie stacked.
        total += math.prod(layer["kernel"].shape) * count
    return total


def _shapes(network: nn.Module, image_shape: ImageShape) -> tuple[Any, Any]:
    """One image and the network's variables, as shapes."""
    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    return image, jax.eval_shape(lambda k, x: network.init(k, x, train=False), key, image)


class _Kind(NamedTuple):
    """How a network is built, and for which images."""

    build: Callable[..., nn.Module]
    least: int = 1
    """Pixels of a side."""
    multiple: int = 1
    """Of which a side must be one."""
    large: bool = False
    """Whether its program is so large that one waits for the compiler."""


def _resnet(blocks: int, bottleneck: bool = False) -> _Kind:
    return _Kind(functools.partial(ResNet, blocks=blocks, bottleneck=bottleneck))


_KINDS = {
    "cnn": _Kind(CNN, 4, 4),
    "2nn": _Kind(MLP),
    "pfl_cnn": _Kind(PFLCNN, 6, 2),
    "resnet20": _resnet(3),
    "resnet32": _resnet(5),
    "resnet56": _resnet(9),
    "resnet56_fedml": _resnet(6, bottleneck=True),
    "densenet201": _Kind(
        functools.partial(DenseNet, blocks=(6, 12, 48, 32), growth=32, large_images=True),
        least=32,
        large=True,
    ),
    "densenet_small": _Kind(
        functools.partial(DenseNet, blocks=(6, 6, 6), growth=12, large_images=False), 4
    ),
    "genotype": _Kind(Network, 8, large=True),
}
