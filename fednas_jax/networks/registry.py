"""All networks by name: built from a config, their weights and multiply-adds counted.

Every one takes images [B, H, W, C] float and `train`, and returns logits [B, num_classes]. Its
collections are `params` and, with batch normalisation, `batch_stats`; what it draws comes from the
key `dropout`.
"""

import functools
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from fednas_jax.data import vision
from fednas_jax.data.task import Task, prepared
from fednas_jax.fields import extension, words
from fednas_jax.fields.field import Config
from fednas_jax.networks.cnn import CNN
from fednas_jax.networks.densenet import DenseNet
from fednas_jax.networks.mlp import MLP
from fednas_jax.networks.pfl_cnn import PFLCNN
from fednas_jax.networks.resnet import ResNet
from fednas_jax.runtime import beside, user_code
from fednas_jax.runtime.errors import UserError, one_line, suggest
from fednas_jax.spaces.darts import networks as darts
from fednas_jax.spaces.darts.genotype import Genotype
from fednas_jax.spaces.darts.network import Network
from fednas_jax.spaces.darts.supernet import Supernet

ImageShape = tuple[int, ...]
"""H, W, C."""

_FIELD = "config.network.name"


def from_config(config: Config, task: Task, num_classes: int) -> nn.Module:
    """The network that `fields_of` describes.

    Args:
      config: of a run.
      task: what the data set asks for.
      num_classes: logits.

    Raises:
      UserError: it is not for such inputs, or not for images of this size, or there is no such
        genotype.
    """
    name = config["network"]["name"]
    if user_code.is_reference(name):
        options = {field: x for field, x in config["network"].items() if field != "name"}
        return _brought(name, task, num_classes, options)
    return build(fields_of(config), vision.image_shape(task, f"{_FIELD}: {name!r}"), num_classes)


def fields_of(config: Config) -> dict[str, Any]:
    """The network that `config.network` and, where it is a genotype's, `config.genotype` describe.

    Returns:
      Its fields, as JSON holds them: all that `build` needs to build it again anywhere.

    Raises:
      UserError: there is no such genotype.
    """
    return dict(config["network"]) | (inputs(config) if _is_searched(config) else {})


def inputs(config: Config) -> dict[str, Any]:
    """What `config.genotype` stands for, as of `Room.inputs`; None where it is not read.

    Raises:
      UserError: there is no such genotype.
    """
    return {darts.FIELD: darts.named(config) if _is_searched(config) else None}


def origins(config: Config) -> dict[str, Path | None]:
    """The run that the network of a config was found by, as of `Room.origins`."""
    return darts.origin(config) if _is_searched(config) else {}


def _is_searched(config: Config) -> bool:
    return config.get("network", {}).get("name") == darts.TRAINED


def is_supernet(fields: Mapping[str, Any]) -> bool:
    """Whether a network is searched in."""
    return fields["name"] == darts.SUPERNET


def genotype_of_model(fields: Mapping[str, Any], variables: Mapping[str, Any]) -> Genotype | None:
    """The genotype of a model, see `spaces.darts.networks.of_model`; None of one made by hand."""
    return darts.of_model(fields, variables)


def can_take_over(fields: Mapping[str, Any]) -> bool:
    """Whether a network may begin with weights of a supernet."""
    return fields["name"] == darts.TRAINED


def taken_over(supernet: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What a network begins with of a supernet's variables, by collection.

    Args:
      supernet: its variables.
      fields: of the network, of which `can_take_over` is true.
    """
    return darts.taken_over(supernet, fields)


def build(
    fields: Mapping[str, Any],
    image_shape: ImageShape,
    num_classes: int,
    genotype: Genotype | None = None,
) -> nn.Module:
    """A network by its fields.

    Args:
      fields: its `name`, and those that it reads, as of `fields_of` or of a room's `network`.
      image_shape: (H, W, C) of an image.
      num_classes: logits.
      genotype: of the network named "genotype", where `fields` does not hold it.

    Raises:
      UserError: there is no such network, or it is not for images of this size.
      TypeError: it has no such field.
    """
    options = dict(fields) | darts.given(genotype)
    name = options.pop("name")
    if user_code.is_reference(name):
        return _made(name, num_classes, options)
    if name not in _KINDS:
        hint = suggest(name, _KINDS, words.NETWORKS)
        raise UserError(f"config.network.name: {name!r} is no network{hint}")
    kind = _KINDS[name]
    if len(image_shape) != 3:
        raise UserError(
            f"config.network.name: {name!r} is for images [H, W, C], not for inputs of "
            f"{list(image_shape)}; a network of your own is needed"
        )
    height, width, _ = image_shape
    if min(height, width) < kind.least or height % kind.multiple or width % kind.multiple:
        divided = f" that {kind.multiple} divides" if kind.multiple > 1 else ""
        raise UserError(
            f"config.network.name: {name!r} is not for images of {height} x {width}; sides of at "
            f"least {kind.least}{divided} are needed, or another network"
        )
    return kind.build(num_classes=num_classes, **options)


def is_large(name: str) -> bool:
    """Whether the program of a network is one to compile with `compilation`'s quick options."""
    return name in _KINDS and _KINDS[name].large


_NEEDED = (
    "a linen module, or a function that returns one, is needed: num_classes -> a module from "
    "inputs [B, ...] and `train` to logits [B, num_classes], or whatever the task scores"
)


def _made(name: str, num_classes: int, options: Mapping[str, Any]) -> nn.Module:
    """A network of a user's own: any linen module, or a function that makes one."""
    make, source = extension.unwrapped(name, _FIELD)
    if not callable(make):
        raise UserError(f"{_FIELD}: {name} is of type {type(make).__name__}; {_NEEDED}")
    try:
        with beside.importable(source.path):
            network = make(num_classes=num_classes, **options)
        if not isinstance(network, nn.Module):
            raise TypeError(f"it returns a {type(network).__name__}")
    except Exception as error:  # of whatever type: it is not our code
        raise _fails(name, error) from error
    return network


def _brought(name: str, task: Task, num_classes: int, options: Mapping[str, Any]) -> nn.Module:
    """A network of a user's own that fits a task.

    Raises:
      UserError: it is something else, or does not take the task's inputs, or makes something else
        of them than the task scores.
    """
    network, inputs = _made(name, num_classes, options), prepared(task)
    target = jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape), x.dtype), task.target)
    try:
        variables = _variables(network, inputs)
        outputs = jax.eval_shape(lambda v, x: network.apply(v, x, train=False), variables, inputs)
    except Exception as error:  # of whatever type: it is not our code
        raise _fails(name, error) from error
    shape = getattr(outputs, "shape", None)
    got = "no array" if shape is None else f"shape {list(shape)}"
    what = " and ".join(str(list(leaf.shape)) for leaf in jax.tree.leaves(inputs))
    if isinstance(target, jax.ShapeDtypeStruct) and target.shape == (1,):
        if shape != (1, num_classes):
            raise UserError(
                f"{_FIELD}: {name} makes {got} of inputs of {what}, where [1, {num_classes}] is "
                "needed"
            )
        return network
    try:
        jax.eval_shape(task.score, outputs, target)
    except Exception as error:  # of whatever type: it is not our code
        raise UserError(
            f"{_FIELD}: {name} makes {got} of inputs of {what}, which the task cannot score "
            f"({type(error).__name__}: {one_line(error)}); {_NEEDED}"
        ) from error
    return network


def _fails(name: str, error: Exception) -> UserError:
    _, source = extension.unwrapped(name, _FIELD)
    return user_code.failed(f"{_FIELD}: {name}", source.path, error, _NEEDED)


def parameter_count(network: nn.Module, image_shape: ImageShape) -> int:
    """Learnt weights, worked out from shapes: nothing is computed or compiled.

    Those of an auxiliary head count, if the network is trained with one; counts in papers leave
    them out, such as the 3.3 million of DARTS_V2 (C = 36, L = 20; with the head 3.83 million).

    Args:
      network: any of this file.
      image_shape: (H, W, C) of an image.
    """
    _, variables = _shapes(network, image_shape)
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))


def auxiliary_count(network: nn.Module, image_shape: ImageShape) -> int:
    """The part of `parameter_count` in an auxiliary head, which prediction does not use.

    Args:
      network: any of this file.
      image_shape: (H, W, C) of an image.
    """
    if not isinstance(network, Network) or not network.auxiliary:
        return 0
    without = network.clone(auxiliary=False)
    return parameter_count(network, image_shape) - parameter_count(without, image_shape)


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
    return image, _variables(network, image)


def _variables(network: nn.Module, inputs: Any) -> Any:
    """The network's variables, as shapes, of inputs as shapes."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    return jax.eval_shape(lambda k, x: network.init(k, x, train=False), key, inputs)


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
    darts.TRAINED: _Kind(darts.build, 8, large=True),
    darts.SUPERNET: _Kind(Supernet, large=True),
}
"""All but the supernet are what `config.network.name` may be."""
