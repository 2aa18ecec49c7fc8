"""What a checkpoint says of its model: `model.json`, enough to build it and to predict with it.

Written into every checkpoint, so that a model outlives its run, its data and its config file.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from fednas_jax.config import Config
from fednas_jax.data.datasets import Dataset
from fednas_jax.errors import UserError
from fednas_jax.files import check_format, plain
from fednas_jax.search import genotype as genotypes
from fednas_jax.search.genotype import Genotype
from fednas_jax.user_code import is_reference, load

FORMAT = 1
"""Raised whenever older code could not build the model from the file."""

FILE = "model.json"

SUPERNET = "supernet"
"""The network's name where the model is a supernet."""

COLLECTIONS = ("params", "batch_stats", "arch")
"""The parts of a server state that a model computes with."""

_DATA = ("name", "test_path", "test_fraction", "max_test_examples")


class Preprocessing(NamedTuple):
    """What images are to a model.

    Attributes:
      image_shape: (H, W, C).
      dtype: "uint8" or "float32", of raw images.
      mean: of each channel, in units of `augment.to_unit`.
      std: of each channel, likewise.
    """

    image_shape: tuple[int, int, int]
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


class Description(NamedTuple):
    """A model without its numbers.

    Attributes:
      network: its `name`, `SUPERNET` or one of `config.network.name`, and its other fields.
      genotype: what the network was built from; None of one made by hand, and of a supernet.
      class_names: of each logit.
      preprocessing: of raw images.
      data: what it was trained on: fields of `config.dataset`, and the seed that cut the test set;
        `cut_by` where a `client` column decided on the test set; not so in earlier versions.
      code: of a network of a user's own, `path` and `sha256` of its file; else empty.
    """

    network: dict[str, Any]
    genotype: Genotype | None
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    data: dict[str, Any]
    code: Mapping[str, str] = MappingProxyType({})


def describe(
    network: dict[str, Any], genotype: Genotype | None, config: Config, dataset: Dataset
) -> Description:
    """Of the network that a config trains on a data set.

    Args:
      network: as in `Description`.
      genotype: likewise.
      config: of the run.
      dataset: what it learns from.
    """
    images = dataset.train.images
    height, width, channels = images.shape[1:]
    shape, dtype = (height, width, channels), str(images.dtype)
    data = {field: config["dataset"][field] for field in _DATA} | {"seed": config["seed"]}
    if dataset.cut_by != "class" and dataset.train.client is not None:
        data["cut_by"] = dataset.cut_by
    preprocessing = Preprocessing(shape, dtype, dataset.mean, dataset.std)
    code: Mapping[str, str] = {}
    if is_reference(network["name"]):
        code = load(network["name"], "config.network.name").source._asdict()
    return Description(network, genotype, dataset.class_names, preprocessing, data, code)


def to_json(description: Description) -> dict[str, Any]:
    """The description as JSON values."""
    genotype = description.genotype
    return {
        "format": FORMAT,
        "network": plain(description.network),
        "genotype": None if genotype is None else genotypes.to_json(genotype),
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
        height, width, channels = value["image_shape"]
        mean, std = tuple(map(float, value["mean"])), tuple(map(float, value["std"]))
        shape = (int(height), int(width), int(channels))
        genotype = value["genotype"]
        return Description(
            {"name": value["network"]["name"], **value["network"]},
            None if genotype is None else genotypes.from_json(genotype, f"{source}: genotype"),
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
