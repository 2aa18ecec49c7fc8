"""`model.json`, the description of a checkpoint's model: enough to build it and to predict with it.

Every checkpoint has one, so that the model is usable without its run, its data and its config file.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from fednas_jax.data import image_axes
from fednas_jax.data.datasets import Dataset
from fednas_jax.data.task import prepared
from fednas_jax.fields.field import Config
from fednas_jax.runtime.errors import UserError
from fednas_jax.runtime.files import check_format, plain
from fednas_jax.runtime.user_code import is_reference, load

FORMAT = 1
"""Number of the file's format; raised whenever older code could not build the model from it."""

FILE = "model.json"

COLLECTIONS = ("params", "batch_stats", "arch")
"""The parts of a server state that are variables of the model."""

APART = "genotype"
"""A field of some networks that is not in `config.network`. In the file it is beside `network`;
null for networks without it."""

_RAW_LABELS = "labels"
"""A part of `data` in the file: the labels in the data, where they are not 0, 1, ..."""

_CLIENT_NAMES = "client_names"
"""A part of `data` in the file: the names of the clients, where the data name them."""

_DATA = ("name", "test_path", "test_fraction", "max_test_examples")


class Preprocessing(NamedTuple):
    """The images that a model takes; for a data set with its own task, the inputs.

    Attributes:
      image_shape: (H, W, C); for other inputs, the shape of one as the network reads it.
      dtype: "uint8" or "float32", the type of raw images; for other inputs, their type as the
        network reads them.
      mean: the mean of each channel, in units of `augment.to_unit`; () for other inputs, which are
        not normalised.
      std: the standard deviation of each channel, in the same units; () for other inputs.
    """

    image_shape: tuple[int, ...]
    dtype: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def check(self, images: Any) -> np.ndarray:
        """Raw images as the model takes them, [N, H, W, C].

        Args:
          images: [N, H, W, C]; [N, H, W] is possible for one channel.

        Raises:
          UserError: they are of another shape or type.
        """
        if not self.mean:
            return self._check_inputs(images)
        height, width, channels = self.image_shape
        try:
            given = np.asarray(images)
        except ValueError as error:  # lists of unequal lengths
            raise UserError(
                f"images: not an array; one of shape [N, {height}, {width}, {channels}] is needed"
            ) from error
        images = given[..., None] if given.ndim == 3 and channels == 1 else given
        if images.ndim != 4 or images.shape[1:] != self.image_shape:
            hint = image_axes.hint(given.shape, self.image_shape)
            raise UserError(
                f"images: shape {list(given.shape)}; [N, {height}, {width}, {channels}] is needed, "
                f"since this model was trained on such images{hint}"
            )
        right = images.dtype == np.uint8 if self.dtype == "uint8" else images.dtype.kind == "f"
        if not right:
            raise UserError(
                f"images: {images.dtype}; {self.dtype} is needed, since this model was trained on "
                "such images"
            )
        return images.astype(self.dtype, copy=False)

    def _check_inputs(self, inputs: Any) -> np.ndarray:
        """Inputs other than images, in the type that the network reads."""
        given = np.asarray(inputs)
        if given.shape[1:] != self.image_shape or given.dtype.kind != np.dtype(self.dtype).kind:
            raise UserError(
                f"inputs: {given.dtype} of shape {list(given.shape)}; {self.dtype} of shape "
                f"[N, {', '.join(map(str, self.image_shape))}] is needed, since this model was "
                "trained on such inputs"
            )
        return given.astype(self.dtype, copy=False)


class Description(NamedTuple):
    """A model without its arrays.

    Attributes:
      network: its `name` and its other fields, in JSON's types; `networks.build` builds it.
      class_names: the class of each logit.
      preprocessing: shape, type and normalisation of raw images.
      data: the data that it was trained on: fields of `config.dataset`, the seed by which the test
        set was split off, and `cut_by` if the test set was split off by the `client` column.
        Earlier versions did not record `cut_by`.
      code: `path` and `sha256` of the file of a user's own network; else empty.
      raw_labels: the label of each class in a user's own file, where the labels there are not
        0, 1, ...; else ().
      client_names: the name in the data of each of the run's clients 0, 1, ..., as in
        `partition.json`; () where the data do not name them, and of earlier versions.
    """

    network: dict[str, Any]
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    data: dict[str, Any]
    code: Mapping[str, str] = MappingProxyType({})
    raw_labels: tuple[int, ...] = ()
    client_names: tuple[str, ...] = ()


def describe(network: dict[str, Any], config: Config, dataset: Dataset) -> Description:
    """The description of a network that a config trains on a data set, without names of clients.

    Args:
      network: as in `Description`.
      config: the run's config.
      dataset: the run's data set.
    """
    data = {field: config["dataset"][field] for field in _DATA} | {"seed": config["seed"]}
    if dataset.cut_by != "class" and dataset.train.client is not None:
        data["cut_by"] = dataset.cut_by
    code: Mapping[str, str] = {}
    if is_reference(network["name"]):
        code = load(network["name"], "config.network.name").source._asdict()
    taken = _preprocessing(dataset)
    return Description(network, dataset.class_names, taken, data, code, dataset.raw_labels)


def _preprocessing(dataset: Dataset) -> Preprocessing:
    if dataset.task is None:
        images = dataset.train.images
        return Preprocessing(images.shape[1:], str(images.dtype), dataset.mean, dataset.std)
    inputs = prepared(dataset.task)
    if not hasattr(inputs, "shape"):
        raise UserError(
            f"config.dataset.name: {dataset.name!r} prepares its inputs as a "
            f"{type(inputs).__name__}; one array is needed, since model.json can only describe one"
        )
    return Preprocessing(tuple(inputs.shape[1:]), str(inputs.dtype), (), ())


def to_json(description: Description) -> dict[str, Any]:
    """The description as JSON values."""
    network = plain(description.network)
    more = {_RAW_LABELS: description.raw_labels, _CLIENT_NAMES: description.client_names}
    its = {name: list(values) for name, values in more.items() if values}
    return {
        "format": FORMAT,
        "network": {name: value for name, value in network.items() if name != APART},
        APART: network.get(APART),
        "class_names": list(description.class_names),
        **plain(description.preprocessing._asdict()),
        "data": plain(description.data | its),
        **({"code": dict(description.code)} if description.code else {}),
    }


def from_json(value: Any, source: str) -> Description:
    """Reads a description.

    Args:
      value: as `to_json` of this version or an earlier one returns it.
      source: the name of the value in an error.

    Raises:
      UserError: it is not a description, or of a later version.
    """
    if not isinstance(value, dict) or "format" not in value:
        raise UserError(f"{source}: not the description of a model; one is needed")
    check_format(value["format"], FORMAT, source)
    try:
        mean, std = tuple(map(float, value["mean"])), tuple(map(float, value["std"]))
        shape = tuple(map(int, value["image_shape"]))
        if mean and len(shape) != 3:
            raise ValueError(f"image_shape {list(shape)}")
        data = dict(value["data"])
        labels = tuple(map(int, data.pop(_RAW_LABELS, ())))
        clients = tuple(map(str, data.pop(_CLIENT_NAMES, ())))
        apart = {} if value[APART] is None else {APART: value[APART]}
        return Description(
            {"name": value["network"]["name"], **value["network"], **apart},
            tuple(map(str, value["class_names"])),
            Preprocessing(shape, str(np.dtype(value["dtype"])), mean, std),
            data,
            {str(name): str(text) for name, text in value.get("code", {}).items()},
            labels,
            clients,
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{source}: not the description of a model ({type(error).__name__}: {reason}); "
            "one is needed"
        ) from error
