"""Selects the labelled examples that `evaluate` scores: none that the model has learnt from."""

import contextlib
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from fednas_jax import config as schema
from fednas_jax.checkpoints.model import BATCH, Model
from fednas_jax.data import datasets, image_axes, learnt, own, sources
from fednas_jax.data import labels as own_labels
from fednas_jax.data.datasets import Dataset, Split
from fednas_jax.data.fingerprints import sha256
from fednas_jax.data.learnt import Learnt
from fednas_jax.experiment import assembly, provenance, scored_labels
from fednas_jax.report import confusion
from fednas_jax.report.confusion import Confusion
from fednas_jax.runtime import layout, settings, user_code
from fednas_jax.runtime.errors import UserError, warn
from fednas_jax.runtime.files import read_json

if TYPE_CHECKING:
    from fednas_jax.data.task import Task


class Scored(NamedTuple):
    """Examples to score.

    Attributes:
      images: [N, H, W, C], raw; of a data set with a task of its own, raw inputs [N, ...].
      labels: [N], numbers of the model's classes; of a data set with a task of its own, the targets
        [N, ...].
      source: description of their source.
      left_out: number of further images that were left out because the model has learnt from them;
        None if unknown.
      task: of a data set with a task of its own; else None.
      clients: [N] text, the name of the client that each example is from; None where the data do
        not say it.
    """

    images: np.ndarray
    labels: np.ndarray
    source: str
    left_out: int | None
    task: "Task | None" = None
    clients: np.ndarray | None = None


class Measured(NamedTuple):
    """Scores of a model on examples.

    Attributes:
      loss: mean over what is scored: examples, or their units, such as tokens.
      accuracy: share of these that are predicted correctly.
      units: how many they are.
      matrix: confusion matrix; None where examples do not have one class each.
      correct: [N] bool, whether each example is predicted correctly; None where `matrix` is None.
    """

    loss: float
    accuracy: float
    units: int
    matrix: Confusion | None
    correct: np.ndarray | None = None


@settings.fixed()
def measure(model: Model, examples: Scored) -> Measured:
    """Scores a model: inputs are prepared, and outputs scored, as the data set's task says.

    Args:
      model: the model to evaluate.
      examples: of `choose`.

    Raises:
      UserError: the task scores nothing of these examples.
    """
    task = examples.task
    if task is None:
        logits = model.logits(examples.images)
        found = confusion.measure(logits, examples.labels)
        right = logits.argmax(axis=1) == examples.labels
        return Measured(found.loss, found.accuracy, len(examples.labels), found, right)
    targets = examples.labels
    if targets.dtype.kind in "iu":
        targets = targets.astype(np.int32)  # as the run has them
    prepare, score = jax.jit(task.prepare), jax.jit(task.score)
    outputs, sums = [], np.zeros(3)
    for start in range(0, len(targets), BATCH):
        batch = slice(start, start + BATCH)
        outputs.append(model.logits(np.asarray(prepare(examples.images[batch]))))
        scores = jax.device_get(score(outputs[-1], targets[batch]))
        sums += [np.sum(part, dtype=np.float64) for part in scores]
    loss, correct, units = sums.tolist()
    if not units:
        raise UserError(
            f"{examples.source}: its task scores nothing of {len(targets)} examples; at least one "
            "unit, such as a token, is needed"
        )
    together = np.concatenate(outputs)
    matrix = _matrix(model, together, targets)
    hits = None if matrix is None else together.argmax(axis=1) == targets
    return Measured(loss / units, correct / units, int(units), matrix, hits)


def of_clients(examples: Scored, found: Measured) -> list[dict[str, Any]]:
    """The accuracy of each client on its examples among those that are scored.

    Args:
      examples: of `choose`.
      found: of `measure`.

    Returns:
      `name`, `examples` and `accuracy` of each client, in the order in which runs number them;
      empty where the data do not name clients, or examples do not have one class each.
    """
    if examples.clients is None or found.correct is None:
        return []
    names, which, sizes = np.unique(examples.clients, return_inverse=True, return_counts=True)
    scores = np.bincount(which, weights=found.correct) / sizes
    entries = [
        {"name": name, "examples": size, "accuracy": score}
        for name, size, score in zip(names.tolist(), sizes.tolist(), scores.tolist(), strict=True)
    ]
    if all(name.removeprefix("-").isdecimal() for name in names.tolist()):
        entries.sort(key=lambda entry: int(entry["name"]))
    return entries


def _matrix(model: Model, outputs: np.ndarray, targets: np.ndarray) -> Confusion | None:
    """The confusion matrix; None where outputs are not one logit a class, or targets no classes."""
    classes = len(model.class_names)
    is_class = targets.ndim == 1 and targets.dtype.kind in "iu" and outputs.shape[1:] == (classes,)
    if not is_class or targets.min() < 0 or targets.max() >= classes:
        return None
    return confusion.measure(outputs, targets)


def choose(model: Model, *, dataset: str = "", data_dir: str = "", npz: str = "") -> Scored:
    """The examples to score, from the arguments of a command.

    Args:
      model: the model to evaluate.
      dataset: name of a data set or path of a user's own data whose test set is scored; "" for the
        test set of the model's run.
      data_dir: folder of published data sets, or "".
      npz: path of a user's own data whose examples are all scored, or "".

    Raises:
      UserError: the data do not exist, do not fit the model, have changed since the run, or contain
        only images that the model has learnt from.
    """
    known = model.learnt or provenance.of_checkpoint(model.path)
    if (asked := npz or dataset) and not model.preprocessing.mean:
        raise UserError(
            f"{asked}: the model of {model.path} reads inputs that the task of its data set "
            f"{model.description.data['name']} prepares, which other data do not have; neither "
            "--dataset nor --npz is needed"
        )
    if npz:
        given = own.read_examples(npz, "--npz")
        labels = scored_labels.of_file(model, given, npz)
        (clients,), names = own_labels.clients(given.client)
        images = image_axes.grey_as(given.images, model.preprocessing.image_shape, npz)
        split = Split(images, labels, clients)
        return _not_learnt_from(model, known, split, names, npz)
    if not dataset:
        found = _own(model, known, data_dir)
    elif (whole := _if_the_runs(model, known, dataset, data_dir)) is not None:
        found = whole
    else:
        cut = {}
        if known is None and sources.is_own(dataset):  # it may be a copy of the run's file
            cut = {
                name: _options(model, known)[name] for name in ("test_fraction", "seed", "cut_by")
            }
        other = datasets.load(dataset, data_dir=data_dir or None, **cut)
        other = datasets.grey_as(other, model.preprocessing.image_shape)
        is_cut = "seed" in datasets.choice_of_test_set(dataset)
        return _of_other(model, known, other, cut=is_cut)
    return _of_the_runs(model, known, found)


def _own(model: Model, known: Learnt | None, data_dir: str) -> Dataset:
    """The data of the model's run, with the run's test set and limits.

    Raises:
      UserError: the data have changed.
    """
    options = _options(model, known)
    _check_there(model, options)
    if user_code.is_reference(options["name"]):
        found = _made_again(model, options["cut_by"])
    else:
        found = datasets.load(**options, data_dir=data_dir or None)
    _check_unchanged(model, known, found)
    return found


def _check_there(model: Model, options: Mapping[str, Any]) -> None:
    """Refuses to score the run's test set if one of its files is missing, and says what to give."""
    name, test = str(options["name"]), str(options["test_path"] or "")
    where = {test: "--npz=PATH"} if test else {}
    if sources.is_own(name):
        where = {name: "--dataset=PATH"} | where
    for path, option in where.items():
        if _is_missing(path):
            raise UserError(
                f"{path}: with data of the run of {model.path}, is missing; the file is needed "
                f"there, or at another place given by {option}, where its content is compared"
            )


def _is_missing(path: str) -> bool:
    return not os.path.exists(sources.real(path))


def _made_again(model: Model, cut_by: str) -> Dataset:
    """The data set that a user's function has made for the run, by the config of the run.

    Raises:
      UserError: the checkpoint does not lie in the folder of its run, or the function fails.
    """
    path = model.path.parent.parent / layout.RUN_FILE
    if not path.is_file():
        raise UserError(
            f"{path}: is missing, and says how {model.description.data['name']} makes the data; "
            "the checkpoint in its run's folder is needed, or images by --npz"
        )
    return assembly.load_dataset(schema.resolve(read_json(path)["config"]), cut_by)


def _if_the_runs(model: Model, known: Learnt | None, dataset: str, data_dir: str) -> Dataset | None:
    """The data set with the run's test set, if it is that of the run under any name; else None.

    Raises:
      UserError: it is the run's own file, which has changed.
    """
    options = _options(model, known)
    same_name = sources.real(options["name"]) == sources.real(dataset)
    same_file = same_name and sources.is_own(dataset)
    own_test_file = options["test_path"] if sources.is_own(dataset) else ""
    if own_test_file and _is_missing(own_test_file) and _is_training_file(known, dataset):
        raise UserError(
            f"{own_test_file}: the test set of the run of {model.path}, is missing; --npz=PATH of "
            "its new place is needed"
        )
    options |= {"name": dataset, "test_path": own_test_file}
    # The run's test file can only be used with the run's data.
    may_not_fit = own_test_file and not same_file
    with contextlib.suppress(UserError) if may_not_fit else contextlib.nullcontext():
        found = datasets.load(**options, data_dir=data_dir or None)
        if same_file or (known is None and same_name):
            _check_unchanged(model, known, found)
        elif known is None or not learnt.is_of(known, found):
            return None
        return datasets.load(**options | {"max_test_examples": 0}, data_dir=data_dir or None)
    return None


def _is_training_file(known: Learnt | None, dataset: str) -> bool:
    """Whether a user's own data are the training data of the run, which has a test file."""
    if known is None:
        return False
    train = own.read(dataset).train
    return sha256(train.images, train.labels) == known.train_sha256


def _check_unchanged(model: Model, known: Learnt | None, found: Dataset) -> None:
    """Refuses data that have changed since the run."""
    if known is not None:
        changed = not learnt.is_of(known, found)
    else:
        changed = provenance.data_have_changed(model.path)
    if changed or found.class_names != scored_labels.classes(model).names:
        raise UserError(
            f"{found.name}: the data have changed since the run of {model.path} began, or another "
            "test set is split off from them; the original data, or other data given by --dataset "
            "or --npz, are needed"
        )
    if known is None:
        _warn_unknown(model)


def _of_the_runs(model: Model, known: Learnt | None, found: Dataset) -> Scored:
    """The run's own test set, without images that its earlier runs have learnt from."""
    images, source = found.test.images, f"the test set of {found.name}"
    if found.task is None:
        labels = scored_labels.of_the_runs(model, found, found.test)
    else:
        labels = found.test.truth
    split = Split(images, labels, found.test.client)
    if known is None:
        everything = np.ones(len(images), bool)
        return _kept(model, split, found.client_names, source, everything)._replace(task=found.task)
    _warn_incomplete(model, known)
    seen = learnt.begun_with(known, images)
    if seen.any():
        warn(
            f"{source}: {seen.sum()} of {len(seen)} images are left out: earlier runs, whose "
            f"weights or genotype the run of {model.path} uses, have learnt from them"
        )
    return _kept(model, split, found.client_names, source, ~seen)._replace(task=found.task)


def _of_other(model: Model, known: Learnt | None, other: Dataset, *, cut: bool) -> Scored:
    """The test set of data other than the run's.

    Args:
      model: the model to evaluate.
      known: record of the examples that it has learnt from.
      other: the data.
      cut: whether the test set is split off from the data. If so, and the model has learnt from
        some of it, all examples that the model has not learnt from are returned instead.
    """
    test, source = other.test, f"the test set of {other.name}"
    if cut and known is not None and learnt.contains(known, test.images).any():
        test, source = _both(other), other.name
    split = test._replace(labels=scored_labels.of_other(model, other, test))
    return _not_learnt_from(model, known, split, other.client_names, source)


def _both(data: Dataset) -> Split:
    parts = data.train, data.test
    images, labels = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    clients = [part.client for part in parts if part.client is not None]
    return Split(images, labels, np.concatenate(clients) if len(clients) == len(parts) else None)


def _not_learnt_from(
    model: Model, known: Learnt | None, split: Split, client_names: tuple[str, ...], source: str
) -> Scored:
    """The examples that the model has not learnt from."""
    if known is None:
        _warn_unknown(model)
        everything = np.ones(len(split.labels), bool)
        return _kept(model, split, client_names, source, everything)._replace(left_out=None)
    _warn_incomplete(model, known)
    free = learnt.may_be_scored(known, split.images, split.labels)
    return _kept(model, split, client_names, source, free)


def _kept(
    model: Model, split: Split, client_names: tuple[str, ...], source: str, kept: np.ndarray
) -> Scored:
    """The examples selected by `kept` [N]; refuses an empty selection."""
    if not kept.any():
        raise UserError(
            f"{source}: the run of {model.path} has learnt or selected its best round from all "
            f"{len(split.labels)} images; others are needed"
        )
    clients = None if split.client is None else split.client[kept]
    if clients is not None:
        clients = np.array(client_names)[clients] if client_names else clients.astype(str)
    left_out = int((~kept).sum())
    return Scored(split.images[kept], split.labels[kept], source, left_out, clients=clients)


def _warn_incomplete(model: Model, known: Learnt) -> None:
    if not known.complete:
        warn(
            f"{model.path}: its run uses weights or a genotype of a run without a record of its "
            "images; whether it has learnt from images that are scored cannot be checked"
        )


def _warn_unknown(model: Model) -> None:
    warn(
        f"{model.path} has no record of the images that its model has learnt from; whether they "
        "are among those that are scored cannot be checked"
    )


def _options(model: Model, known: Learnt | None) -> dict[str, Any]:
    """The arguments of `datasets.load` for the data of the run."""
    earlier = {"cut_by": "class"}  # the rule of earlier versions, which did not record it
    options = dict(known.settings if known is not None else earlier | model.description.data)
    return options | _places_now(model, options)


def _places_now(model: Model, options: Mapping[str, Any]) -> dict[str, Any]:
    """Where the run has read its own files last, if they are not where the checkpoint has them."""
    try:
        there = read_json(model.path.parent.parent / layout.RUN_FILE)["config"]["dataset"]
    except (UserError, KeyError, TypeError):
        return {}
    own = sources.is_own(str(options["name"])) and isinstance(there, dict)
    names = [name for name in ("name", "test_path") if own and options[name]]
    return {name: there[name] for name in names if there.get(name) and _is_missing(options[name])}
