"""What a checkpoint says of its model: `model.json`, enough to build it and to predict with it.

Written into every checkpoint, so that a model outlives its run, its data and its config file.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from fednas_jax.data.datasets import Dataset
from fednas_jax.data.task import prepared
from fednas_jax.fields.field import Config
from fednas_jax.runtime.errors import UserError
from fednas_jax.runtime.files import check_format, plain
from fednas_jax.runtime.user_code import is_reference, load

FORMAT = 1
"""Raised whenever older code could not build the model from the file."""

FILE = "model.json"

COLLECTIONS = ("params", "batch_stats", "arch")
"""The parts of a server state that a model computes with."""

APART = "genotype"
"""A field of some networks that is none of `config.network`; in the file it stands beside the
others, null where there is none."""

_DATA = ("name", "test_path", "test_fraction", "max_test_examples")


class Preprocessing(NamedTuple):
    """What images are to a model; of a data set with a task of its own, what inputs are.

    Attributes:
      image_shape: (H, W, C); of other inputs the shape of one, as the network reads it.
      dtype: "uint8" or "float32", of raw images; of other inputs theirs, as the network reads them.
      mean: of each channel, in units of `augment.to_unit`; () of other inputs, which are not
        normalised.
      std: of each channel, likewise.
    """

    image_shape: tuple[int, ...]
    dtype: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def check(self, images: Any) -> np.ndarray:
        """Raw images as the model takes them, [N, H, W, C].

        Args:
          images: [N, H, W, C], or [N, H, W] where there is one channel.

        Raises:
          UserError: they are of another shape or type.
        """
        if not self.mean:
            return self._check_inputs(images)
        height, width, channels = self.image_shape
        try:
            given = np.asarray(images)
        except ValueError as error:  # lists of unlike lengths
            raise UserError(
                f"images: not an array; one of shape [N, {height}, {width}, {channels}] is needed"
            ) from error
        images = given[..., None] if given.ndim == 3 and channels == 1 else given
        if images.ndim != 4 or images.shape[1:] != self.image_shape:
            raise UserError(
                f"images: shape {list(given.shape)}; [N, {height}, {width}, {channels}] is what "
                "this model was trained on, and needed"
            )
        right = images.dtype == np.uint8 if self.dtype == "uint8" else images.dtype.kind == "f"
        if not right:
            raise UserError(
                f"images: {images.dtype}; {self.dtype}, as this model was trained on, is needed"
            )
        return images.astype(self.dtype, copy=False)

    def _check_inputs(self, inputs: Any) -> np.ndarray:
        """What is no image, as the network reads it."""
        given = np.asarray(inputs)
        if given.shape[1:] != self.image_shape or given.dtype.kind != np.dtype(self.dtype).kind:
            raise UserError(
                f"inputs: {given.dtype} of shape {list(given.shape)}; {self.dtype} of shape "
                f"[N, {', '.join(map(str, self.image_shape))}] is what this model was trained on, "
                "and needed"
            )
        return given.astype(self.dtype, copy=False)


class Description(NamedTuple):
    """A model without its numbers.

    Attributes:
      network: its `name` and its other fields, as JSON holds them: `networks.build` builds it.
      class_names: of each logit.
      preprocessing: of raw images.
      data: what it was trained on: fields of `config.dataset`, and the seed that cut the test set;
        `cut_by` where a `client` column decided on the test set; not so in earlier versions.
      code: of a network of a user's own, `path` and `sha256` of its file; else empty.
    """

    network: dict[str, Any]
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    data: dict[str, Any]
    code: Mapping[str, str] = MappingProxyType({})


def describe(network: dict[str, Any], config: Config, dataset: Dataset) -> Description:
    """Of the network that a config trains on a data set.

    Args:
      network: as in `Description`.
      config: of the run.
      dataset: what it learns from.
    """
    data = {field: config["dataset"][field] for field in _DATA} | {"seed": config["seed"]}
    if dataset.cut_by != "class" and dataset.train.client is not None:
        data["cut_by"] = dataset.cut_by
    code: Mapping[str, str] = {}
    if is_reference(network["name"]):
        code = load(network["name"], "config.network.name").source._asdict()
    return Description(network, dataset.class_names, _preprocessing(dataset), data, code)


def _preprocessing(dataset: Dataset) -> Preprocessing:
    if dataset.task is None:
        images = dataset.train.images
        return Preprocessing(images.shape[1:], str(images.dtype), dataset.mean, dataset.std)
    inputs = prepared(dataset.task)
    if not hasattr(inputs, "shape"):
        raise UserError(
            f"config.dataset.name: {dataset.name!r} prepares its inputs as a "
            f"{type(inputs).__name__}; one array is needed, as model.json describes one"
        )
    return Preprocessing(tuple(inputs.shape[1:]), str(inputs.dtype), (), ())


def to_json(description: Description) -> dict[str, Any]:
    """The description as JSON values."""
    network = plain(description.network)
    return {
        "format": FORMAT,
        "network": {name: value for name, value in network.items() if name != APART},
        APART: network.get(APART),
        "class_names": list(description.class_names),
        **plain(description.preprocessing._asdict()),
        "data": plain(description.data),
        **({"code": dict(description.code)} if description.code else {}),
    }


def from_json(value: Any, source: str) -> Description:
    """Reads a description back.

    Args:
      value: as `to_json` gave it, in this version or an earlier one.
      source: what to call it in an error.

    Raises:
      UserError: it is none, or of a later version.
    """
    if not isinstance(value, dict) or "format" not in value:
        raise UserError(f"{source}: not the description of a model; one is needed")
    check_format(value["format"], FORMAT, source)
    try:
        mean, std = tuple(map(float, value["mean"])), tuple(map(float, value["std"]))
        shape = tuple(map(int, value["image_shape"]))
        if mean and len(shape) != 3:
            raise ValueError(f"image_shape {list(shape)}")
        apart = {} if value[APART] is None else {APART: value[APART]}
        return Description(
            {"name": value["network"]["name"], **value["network"], **apart},
            tuple(map(str, value["class_names"])),
            Preprocessing(shape, str(np.dtype(value["dtype"])), mean, std),
            dict(value["data"]),
            {str(name): str(text) for name, text in value.get("code", {}).items()},
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{source}: not the description of a model ({type(error).__name__}: {reason}); "
            "one is needed"
        ) from error
