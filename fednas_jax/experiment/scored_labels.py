"""Labels of the examples that `evaluate` scores, as numbers of the model's classes."""

import numpy as np

from fednas_jax.checkpoints.model import Model
from fednas_jax.data import class_names, labels, text
from fednas_jax.data.datasets import Dataset, Split
from fednas_jax.data.labels import Classes
from fednas_jax.data.own import Labelled

_OWNER = "this model's classes"


def classes(model: Model) -> Classes:
    """The model's classes; names are cleaned, which earlier versions did not do."""
    return Classes(text.cleaned(model.class_names), True, model.description.raw_labels)


def of_file(model: Model, given: Labelled, source: str) -> np.ndarray:
    """Labels of a file, [N] int32.

    Args:
      model: the model to evaluate.
      given: the examples of the file.
      source: the file, for error messages.

    Raises:
      UserError: as `labels.as_of`.
    """
    names = given.class_names
    return labels.as_of(given.labels, names, classes(model), source, _OWNER, given.width)


def of_the_runs(model: Model, data: Dataset, part: Split) -> np.ndarray:
    """Labels of the data that the model has learnt from, maybe under another name; [N] int32.

    Args:
      model: the model to evaluate.
      data: the data set.
      part: the part of it whose labels are wanted.

    Raises:
      UserError: as `of_other`.
    """
    if data.class_names == classes(model).names:
        return part.labels
    return of_other(model, data, part)


def of_other(model: Model, data: Dataset, part: Split) -> np.ndarray:
    """Labels of a part of other data, [N] int32; they mean what `labels.as_of` says.

    Args:
      model: the model to evaluate.
      data: the data set. Its labels are numbers of its own classes.
      part: the part of it whose labels are wanted.

    Raises:
      UserError: as `labels.as_of`.
    """
    known = classes(model)
    if data.numbers and not (data.named and data.class_names != known.names):
        names = known.names if data.named else None
        return labels.as_of(_in_file(data, part), names, known, data.name, _OWNER)
    if not data.named:  # one-hot
        return labels.as_of(part.labels, None, known, data.name, _OWNER, data.num_classes)
    if data.numbers and not data.raw_labels:
        everything = np.concatenate([data.train.labels, data.test.labels])
        labels.check_clear(everything, data.class_names, f"{data.name}: 'labels'")
    return class_names.matched(part.labels, data.class_names, known.names, data.name, _OWNER)


def _in_file(data: Dataset, part: Split) -> np.ndarray:
    """Labels as they are in the file."""
    return np.array(data.raw_labels, np.int32)[part.labels] if data.raw_labels else part.labels
