"""Starts a training from the weights of a checkpoint (`config.warm_start`)."""

from collections.abc import Mapping
from typing import Any

import jax

from fednas_jax.checkpoints import checkpoint
from fednas_jax.checkpoints.model import Model, restore
from fednas_jax.checkpoints.model_file import APART, Description
from fednas_jax.config import default
from fednas_jax.data import class_names, learnt, text
from fednas_jax.data.datasets import Dataset, choice_of_test_set
from fednas_jax.experiment import provenance
from fednas_jax.federated.algorithm import Algorithm
from fednas_jax.networks import registry as networks
from fednas_jax.runtime import layout
from fednas_jax.runtime.errors import UserError, listed, warn
from fednas_jax.runtime.paths import expand
from fednas_jax.spaces.darts.inherit import merged

_SIZES = ("init_channels", "layers")
_COLLECTIONS = ("params", "batch_stats")
_MAY_DIFFER = ("auxiliary",)
"""Fields in which two networks may differ, since they do not change the weights in common."""


def source(folder: str) -> Model:
    """The model to start from.

    Args:
      folder: the folder of a run or a checkpoint.

    Raises:
      UserError: there is no such checkpoint.
    """
    try:
        return restore(folder)
    except UserError as error:
        raise UserError(f"config.warm_start: {error}") from error


def digest(folder: str) -> str:
    """The SHA-256 of the checksums of a checkpoint's files, the same for any copy of it.

    Args:
      folder: as for `source`.

    Raises:
      UserError: there is no such checkpoint.
    """
    try:
        path = checkpoint.locate(layout.last(expand(folder, "config.warm_start")))
    except UserError as error:
        raise UserError(f"config.warm_start: {error}") from error
    return checkpoint.digest(path)


def begin_with(algorithm: Algorithm, model: Model, run: Description, dataset: Dataset) -> Algorithm:
    """The algorithm with a first state from a checkpoint.

    Warns if it cannot be checked that the model has the run's classes, or that it has not learnt
    from the run's test images.

    Args:
      algorithm: its state has to have the field `params`, and `batch_stats` if there are some.
      model: a model of the same network; or, for a network of a genotype, of a supernet with the
        same number of channels and cells.
      run: describes the network and the data of the run.
      dataset: the run's data set.

    Raises:
      UserError: the model is of another network, has the same classes in another order, or has
        learnt from images that the run tests on.
    """
    _check_unseen(model, run)
    _check_test_images(model, dataset)
    if model.is_supernet:
        taken = _from_supernet(model, run)
    else:
        _check_same(model, run)
        taken = model.variables

    def init(key: jax.Array) -> Any:
        state = algorithm.init(key)
        own = {name: getattr(state, name, {}) for name in _COLLECTIONS}
        # A network with GroupNorm has no batch statistics, and takes none from the checkpoint.
        begun = {name: merged(tree, taken.get(name, {})) for name, tree in own.items() if tree}
        return state._replace(**begun)

    try:
        jax.eval_shape(init, jax.random.key(0))
    except ValueError as error:
        raise UserError(
            f"config.warm_start: {model.path} is of another network: {error}; a checkpoint of the "
            "same network, or of a supernet with as many classes, is needed"
        ) from error
    _check_classes(model, dataset)
    return algorithm._replace(init=init)


def _check_test_images(model: Model, dataset: Dataset) -> None:
    """Refuses a model that has learnt from images on which the run is tested."""
    there = model.learnt or provenance.of_checkpoint(model.path)
    if there is None:
        warn(
            f"config.warm_start: {model.path} has no record of the images that its model has "
            "learnt from; whether this run's test images are among them cannot be checked"
        )
    elif known := learnt.tested_here(there, dataset):
        raise UserError(
            f"config.warm_start: {model.path} has learnt from {known} of this run's "
            f"{len(dataset.test.labels)} test images; a model that has not is needed, or other "
            "test images (config.dataset.test_path)"
        )


def _check_classes(model: Model, dataset: Dataset) -> None:
    """Refuses a model whose outputs stand for this run's classes in another order."""
    there, here = text.cleaned(model.class_names), dataset.class_names
    if there == here:
        return
    if (name := class_names.moved(there, here)) and (dataset.named or dataset.raw_labels):
        raise UserError(
            f"config.warm_start: class {here.index(name)} of this run, {name!r}, is class "
            f"{there.index(name)} of {model.path}; the same order of classes is needed"
        )
    warn(
        f"config.warm_start: {model.path} has other class names "
        f"({listed(there)}) than this run ({listed(here)}); its classes "
        "are matched to those of this run by number"
    )


def _check_unseen(model: Model, run: Description) -> None:
    """Refuses a model of the same data from which another test set was split off."""
    there, here = _test_choice(model.description.data), _test_choice(run.data)
    if "seed" not in here or there["dataset.name"] != here["dataset.name"]:
        return
    for field in {**here, **there}:
        was, now = there.get(field), here.get(field)
        if was != now:
            raise UserError(
                f"config.warm_start: {model.path} has learnt from this run's test images, since "
                f"its own test set was split off differently: {field} {was!r} there, {now!r} here; "
                "the same is needed"
            )


def _test_choice(data: Mapping[str, Any]) -> dict[str, Any]:
    names = ("name", "test_path", "test_fraction", "seed")
    cut_by = data.get("cut_by", "class")
    return choice_of_test_set(**{name: data[name] for name in names}, cut_by=cut_by)


def _check_same(model: Model, run: Description) -> None:
    """Refuses another network, even if the shapes of all its arrays are the same."""
    there, here, absent = model.description.network, run.network, default().network
    for name in [name for name in {**here, **there} if name != APART]:
        # A checkpoint lacks fields that were added after it was written.
        was, now = (fields.get(name, absent.get(name)) for fields in (there, here))
        if was != now and name not in _MAY_DIFFER:
            raise _other(model, name, was, now)
    if there.get(APART) != here.get(APART):
        raise UserError(
            f"config.warm_start: {model.path} is of another genotype than config.genotype; a "
            "checkpoint of the same genotype, or of a supernet, is needed"
        )


def _from_supernet(model: Model, run: Description) -> Mapping[str, Any]:
    if not networks.can_take_over(run.network):
        raise UserError(
            f"config.warm_start: {model.path} is of a supernet; config.network.name 'genotype' is "
            "needed, or a checkpoint of the same network"
        )
    for name in _SIZES:
        there, here = model.description.network[name], run.network[name]
        if there != here:
            raise _other(model, name, there, here)
    return networks.taken_over(model.variables, run.network)


def _other(model: Model, name: str, there: Any, here: Any) -> UserError:
    return UserError(
        f"config.warm_start: {model.path} has {name} {there}; config.network.{name} is {here}, "
        "and the same is needed"
    )
