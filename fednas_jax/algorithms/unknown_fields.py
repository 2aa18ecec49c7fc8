"""Errors about fields that a config does not have, and flags that are meant as fields."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from fednas_jax.algorithms import registry, schema
from fednas_jax.algorithms.schema import THEN_TRAIN, Schema
from fednas_jax.fields import config_file, words
from fednas_jax.fields.field import Config, Field
from fednas_jax.runtime.errors import UserError

_TRAIN = "train"
"""What people type for `then_train`: the name of the training's folder."""


def refuse(name: str, known: Schema, flat: Mapping[str, Any]) -> NoReturn:
    """Refuses a field that a config does not have.

    Args:
      name: the field.
      known: the fields that there are.
      flat: the config's values by dotted name.

    Raises:
      UserError: always; it says which field was meant, if that is clear.
    """
    if name.split(".")[0] == THEN_TRAIN:
        raise UserError(
            f"config.{THEN_TRAIN}: a search and a training in one config, which only "
            "`python -m fednas_jax.main` runs; the config of one of them is needed here"
        )
    is_read = _reader(flat.get("algorithm"))
    hint = words.field_meant(name, known.fields, is_read, readers=schema.readers)
    if name in known.sections:
        inside = [other for other in known.by_name if other.startswith(f"{name}.")]
        hint = hint or f"set one of {', '.join(inside)}"
        raise UserError(f"config.{name}: is a group of fields; {hint}")
    hint = hint or "`python -m fednas_jax.config` lists the fields"
    raise UserError(f"config.{name}: no such field; {hint}")


def refuse_of_training(overrides: Mapping[str, str]) -> None:
    """Refuses fields of the training after a search that do not begin with `then_train.`.

    Args:
      overrides: fields to set, of a config with `then_train`.

    Raises:
      UserError: a field begins with `train.`, or is `then_train` itself.
    """
    if THEN_TRAIN in overrides:
        raise UserError(
            f"config.{THEN_TRAIN}: is the config of the training after the search; one of its "
            f"fields is needed, such as config.{THEN_TRAIN}.rounds"
        )
    for name in overrides:
        if name.startswith(f"{_TRAIN}."):
            hint = _of_training(name, "config.") or f"config.{THEN_TRAIN}.FIELD is needed"
            raise UserError(f"config.{name}: no such field; {hint}")


def _of_training(name: str, before: str) -> str:
    """What was meant by a field of the training after a search."""
    of = f"{before}{THEN_TRAIN}."
    fields = schema.OURS.fields
    return words.field_meant(name.partition(".")[2], fields, _trains, of)


def _trains(field: Field) -> bool:
    """Whether an algorithm that does not search reads a field."""
    return any(one.is_read(field) for one in registry.ALGORITHMS if one.finds is None)


def _reader(algorithm: Any) -> Callable[[Field], bool]:
    """Whether an algorithm reads a field; of an unknown algorithm, all are read."""
    try:
        return registry.find(str(algorithm)).is_read
    except UserError:
        return lambda field: True


def flag_meant(argv: Sequence[str]) -> Callable[[str], str]:
    """What somebody meant who typed a field without `config.`, such as `--lr`.

    Args:
      argv: all arguments of the command. If a config can be found from them, fields that its
        algorithm reads are suggested, and `train.` stands for its `then_train.`.

    Returns:
      Name of the flag, without dashes -> "did you mean --config.optimizer.learning_rate?", or what
      to do instead; "" if it is not clear.
    """

    def meant(name: str) -> str:
        config = _config(argv)
        first = name.split(".")[0]
        if "." in name and (first == THEN_TRAIN or (first == _TRAIN and THEN_TRAIN in config)):
            return _of_training(name, "--config.")
        is_read = _reader(_value(argv, "config.algorithm") or config.get("algorithm"))
        fields = schema.OURS.fields
        return words.field_meant(name, fields, is_read, "--config.", schema.readers)

    return meant


def _config(argv: Sequence[str]) -> Config:
    """The config that the arguments name; an empty one if it cannot be loaded."""
    with contextlib.suppress(UserError):
        if spec := _value(argv, "config"):
            return config_file.load(config_file.expand_variants(spec)[0])
    return {}


def _value(argv: Sequence[str], flag: str) -> str:
    """The value of a flag in arguments of which others may be wrong; "" if it is not there."""
    for argument, following in zip(argv, [*argv[1:], ""], strict=True):
        name, equals, value = argument.partition("=")
        if name == f"--{flag}":
            return value if equals else following
    return ""
