"""Makes users' own data sets and partitions, and checks them before anything is computed."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fednas_jax.data import class_names, datasets, image_axes, own, partition_file, text
from fednas_jax.data import labels as own_labels
from fednas_jax.data.datasets import Dataset, Split
from fednas_jax.data.own import Labelled
from fednas_jax.data.partition_file import Partition
from fednas_jax.data.task import Task
from fednas_jax.fields import extension
from fednas_jax.runtime.errors import UserError

_DATASET = extension.Kind(
    Dataset, "a fednas_jax.data.datasets.Dataset, or a function(config) that returns one,"
)
_PARTITION = extension.Kind(
    (list, tuple, np.ndarray),
    "a function(config, dataset) that returns a list of index arrays, one a client,",
)
_DATASET_FIELD, _PARTITION_FIELD = "config.dataset.name", "config.partition.name"


def dataset(config: Mapping[str, Any], cut_by: str) -> Dataset:
    """The data set that `config.dataset.name` refers to, with the limits of `config.dataset`.

    Args:
      config: the resolved config.
      cut_by: as for `datasets.load`; used for the limits.

    Raises:
      UserError: it cannot be made, or it does not fit its task.
    """
    options = config["dataset"]
    reference = options["name"]
    if options["test_path"]:
        raise UserError(
            f"config.dataset.test_path: '{options['test_path']}' is only for data that are named "
            f"by their path; empty is needed, since {reference} has its own test set"
        )
    found = extension.made(reference, _DATASET_FIELD, _DATASET, config)
    checked = _checked(found, f"{_DATASET_FIELD}: {reference}")
    return datasets.limited(
        checked,
        options["max_train_examples"],
        options["max_test_examples"],
        config["seed"],
        cut_by,
    )


def partition(config: Mapping[str, Any], data: Dataset) -> Partition:
    """The partition that `config.partition.name` refers to.

    Args:
      config: the resolved config.
      data: the run's data set.

    Raises:
      UserError: it cannot be made, it has indices outside of the data, two clients hold the same
        example, or no client has an example.
    """
    reference = config["partition"]["name"]
    found = extension.made(reference, _PARTITION_FIELD, _PARTITION, config, data)
    of = f"{_PARTITION_FIELD}: {reference}"
    given = found.clients if isinstance(found, Partition) else found
    made = Partition(tuple(_indices(indices, k, of) for k, indices in enumerate(given)))
    if not any(len(indices) for indices in made.clients):
        raise UserError(f"{of}: no client has an example; {_PARTITION.needed}")
    partition_file.check(made, len(data.train.labels), every=False, source=of)
    return Partition(tuple(indices.astype(np.int32) for indices in made.clients))


def _indices(given: Any, client: int, of: str) -> np.ndarray:
    try:
        indices = np.asarray(given)
    except ValueError:  # lists of unequal lengths
        indices = np.zeros((1, 1))
    if not indices.size:  # an empty list is float64
        indices = indices.astype(np.int64)
    if indices.ndim != 1 or indices.dtype.kind not in "iu":
        raise UserError(
            f"{of}: client {client} has {indices.dtype} of rank {indices.ndim}, not integers of "
            f"rank 1; {_PARTITION.needed}"
        )
    return indices.astype(np.int64)


def _with_task(data: Dataset, task: Task, of: str) -> Dataset:
    """A data set with its own task, after a check that they fit."""
    for name, part in (("train", data.train), ("test", data.test)):
        if len(part.labels) != len(part.images) or len(part.truth) != len(part.images):
            raise UserError(
                f"{of}: its {name} part has {len(part.images)} inputs, {len(part.labels)} labels "
                f"and {len(part.truth)} targets; equal numbers are needed"
            )
        for what, array, like in (
            ("inputs", part.images, task.example),
            ("targets", part.truth, task.target),
        ):
            shape = getattr(like, "shape", None)
            if not isinstance(array, np.ndarray) or shape != array.shape[1:]:
                found = (
                    f"shape {list(array.shape)}" if isinstance(array, np.ndarray) else "no array"
                )
                raise UserError(
                    f"{of}: the {what} of its {name} part have {found}; one array [N, "
                    f"{', '.join(map(str, shape or ('...',)))}] is needed, as in its task"
                )
    if not len(data.train.images):
        raise UserError(f"{of}: it has no example to train on; at least one is needed")
    return data


def _checked(data: Dataset, of: str) -> Dataset:
    """A user's data set, checked and in the types that runs compute with.

    Raises:
      UserError: it is not a data set of images although it has no task, or its parts do not fit.
    """
    if data.task is not None:
        return _with_task(data, data.task, of)
    arrays: dict[str, Any] = {}
    for prefix, part in (("", data.train), ("test_", data.test)):
        arrays |= {f"{prefix}images": part.images, f"{prefix}labels": part.labels}
        arrays |= {} if part.client is None else {f"{prefix}client": part.client}
    arrays = {name: np.asarray(array) for name, array in arrays.items()}
    train, test = own.checked(arrays, "", of), own.checked(arrays, "test_", of)
    of_images = f"{of}: 'test_images'"
    test = test._replace(images=image_axes.grey_as(test.images, train.images.shape[1:], of_images))
    own.check_test(test.images, train.images, of_images)
    channels = train.images.shape[-1]
    for name, size in (("class_names", data.num_classes), ("mean", channels), ("std", channels)):
        values = getattr(data, name)
        if not isinstance(values, tuple | list) or len(values) != size:
            what = "class" if name == "class_names" else "channel of the images"
            raise UserError(
                f"{of}: {name} is {values!r}; a tuple of {size}, one for each {what}, is needed"
            )
    names = text.class_names(data.class_names, f"{of}: class_names")
    of_train, of_test = (
        _numbers(part, names, f"{of}: '{prefix}labels'")
        for prefix, part in (("", train), ("test_", test))
    )
    (of_clients, of_test_clients), client_names = _clients(data, train, test, of)
    return data._replace(
        train=Split(train.images, of_train, of_clients),
        test=Split(test.images, of_test, of_test_clients),
        class_names=names,
        client_names=client_names,
        mean=tuple(map(float, data.mean)),
        std=tuple(map(float, data.std)),
    )


def _numbers(part: Labelled, names: tuple[str, ...], where: str) -> np.ndarray:
    """[N] int32: labels as numbers of the classes of a user's data set."""
    labels = part.labels
    if labels.dtype.kind == "U":
        return class_names.numbers(labels, names, where, "the class_names")
    if labels.min() < 0 or labels.max() >= len(names):
        wrong = labels.min() if labels.min() < 0 else labels.max()
        raise UserError(
            f"{where} has {wrong}; 0 to {len(names) - 1} are needed, since num_classes is "
            f"{len(names)}"
        )
    return labels.astype(np.int32)


def _clients(
    data: Dataset, train: Labelled, test: Labelled, of: str
) -> tuple[list[np.ndarray | None], tuple[str, ...]]:
    """The clients of training and test examples as numbers, and the name of each number."""
    numbers, found = own_labels.clients(train.client, test.client)
    if found or not data.client_names:
        return numbers, found
    names = text.cleaned(data.client_names)
    for column in numbers:
        if column is not None and (column.min() < 0 or column.max() >= len(names)):
            raise UserError(
                f"{of}: 'client' has {column.min()}..{column.max()}; 0 to {len(names) - 1} are "
                f"needed, since client_names has {len(names)} names"
            )
    return numbers, names
