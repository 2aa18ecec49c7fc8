"""A search and the training of what it finds, as one config: two runs, one after the other.

The config file puts a second config into the first:

    config.then_train = train_config

The search runs in `<workdir>/search`. Then the network of its best genotype is trained in
`<workdir>/train`. Each is a run like any other, and is resumed if it was interrupted.

Both learn from the same data. A field of `_SHARED` that is set for the search is also set for the
training. Another test set is refused, since the search might have learnt from a part of it.
"""

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import ml_collections

from fednas_jax import config as schema
from fednas_jax.algorithms import registry, stage_types, unknown_fields
from fednas_jax.algorithms.schema import THEN_TRAIN
from fednas_jax.algorithms.stage_types import Folders, RoundsStage
from fednas_jax.data.datasets import choice_of_test_set
from fednas_jax.runtime import start
from fednas_jax.runtime.errors import UserError
from fednas_jax.runtime.files import read_json
from fednas_jax.runtime.layout import SEARCH_FOLDER, SUMMARY_FILE, TRAIN_FOLDER

if TYPE_CHECKING:
    from fednas_jax.federated.ranks.communicator import Communicator

FROM_SEARCH = "search"
"""Value of `then_train.warm_start`: the training starts from the weights of the search."""

_SHARED = ("seed", "dataset", "partition")
_SIZES = ("init_channels", "layers")


class Stages(NamedTuple):
    """The configs of the one or two runs that a command runs."""

    first: ml_collections.FrozenConfigDict
    """The resolved config of the only run, or of the search."""
    train: ml_collections.FrozenConfigDict | None
    """The config of the training, resolved except for what the search will find; None if there is
    only one run."""


def resolve(config: ml_collections.ConfigDict, overrides: Mapping[str, str]) -> Stages:
    """Resolves and checks both configs, as `config.resolve` does with one.

    Args:
      config: as the config file returns it.
      overrides: fields to set; the names of those of the second stage begin with `then_train.`.

    Raises:
      UserError: as `config.resolve`; or the first config is not a search, or the second does not
        train what the search finds, or tests on other images.
    """
    fields = dict(config.items())
    then = fields.pop(THEN_TRAIN, None)
    prefix = f"{THEN_TRAIN}."
    later = {n.removeprefix(prefix): v for n, v in overrides.items() if n.startswith(prefix)}
    if then is None:
        for name in (n for n in overrides if n.split(".")[0] == THEN_TRAIN):
            raise UserError(
                f"config.{name}: no such field, since the config has one stage; a config "
                f"with config.{THEN_TRAIN} is needed, such as configs/digits_search_train.py"
            )
        return Stages(schema.resolve(config, overrides), None)
    unknown_fields.refuse_of_training(overrides)
    now = {n: v for n, v in overrides.items() if not n.startswith(prefix)}
    first = schema.resolve(ml_collections.ConfigDict(fields, type_safe=False), now)
    finds = registry.find(first["algorithm"]).finds
    if finds is None:
        raise UserError(
            f"config.algorithm: {first['algorithm']!r} does not search, so there is nothing for "
            f"config.then_train to train; {_finders()} is needed, or no config.then_train"
        )
    of_data = schema.fields_of_data(first, {})
    shared = {n: v for n, v in now.items() if n.split(".")[0] in _SHARED or n in of_data}
    train = _resolve_train(then, {**shared, **later}, finds.field)
    _check_together(first, train)
    return Stages(first, train)


def _finders() -> str:
    return " or ".join(repr(d.name) for d in registry.ALGORITHMS if d.finds is not None)


@contextlib.contextmanager
def _of_the_training() -> Iterator[None]:
    """Names fields in errors as a user sets those of the second stage: `config.then_train.X`."""
    try:
        yield
    except UserError as error:
        name = f"config.{THEN_TRAIN}."
        raise UserError(re.sub(r"(?<![\w./])config\.", name, str(error))) from error


def _resolve_train(
    config: Any, overrides: Mapping[str, str], field: str
) -> ml_collections.FrozenConfigDict:
    """The training's config; `field` is its field that names the result of the search."""
    with _of_the_training():
        train = schema.resolve(config, overrides)
    if field not in train:
        raise UserError(
            f"config.{THEN_TRAIN}: does not train the {field} that the search finds; an algorithm "
            f"that trains networks, such as 'fedavg', and network.name {field!r} are needed"
        )
    if train[field] != schema.default()[field]:
        raise UserError(
            f"config.{THEN_TRAIN}.{field}: {train[field]!r} is not used, since the {field} that "
            "the search finds is trained; remove the field"
        )
    return train


def _check_together(search: schema.Config, train: schema.Config) -> None:
    """Refuses two configs that cannot be run one after the other."""
    there, here = _test_choice(search), _test_choice(train)
    own = schema.fields_of_data(search, {})
    there |= {name: value for name, value in schema.flat(search).items() if name in own}
    here |= {name: value for name, value in schema.flat(train).items() if name in own}
    for field in {**here, **there}:
        was, now = there.get(field), here.get(field)
        if was != now:
            raise UserError(
                f"config.{THEN_TRAIN}.{field}: {now!r} is not the search's, {was!r}; the same is "
                "needed, so that the search does not learn from images that the training tests on"
            )
    if train.get("warm_start") == FROM_SEARCH:
        for name in _SIZES:
            size = train.get("network", {}).get(name)
            needed = search.get("supernet", {}).get(name, size)
            if size != needed:
                raise UserError(
                    f"config.{THEN_TRAIN}.network.{name}: {size} is not that of the supernet, but "
                    f"config.{THEN_TRAIN}.warm_start takes its weights; {needed} is needed"
                )


def _test_choice(config: schema.Config) -> dict[str, Any]:
    data = {name: config["dataset"][name] for name in ("name", "test_path", "test_fraction")}
    return choice_of_test_set(**data, seed=config["seed"])


def run(stages: Stages, workdir: Path, communicator: "Communicator | None" = None) -> None:
    """Runs the stages, or what is left of them.

    Args:
      stages: as `resolve` returns them.
      workdir: the folder of the run, or of both runs; then all ranks need access to it.
      communicator: joins the ranks that share the work; None for this process alone.

    Raises:
      UserError: as `experiment.run`.
    """
    # Not above: they import jax.
    start.import_jax()
    from fednas_jax.experiment import runner, stage_runner
    from fednas_jax.federated.ranks.communicator import LOCAL

    ranks: dict[str, Any] = {} if communicator is None else {"communicator": communicator}
    if stages.train is None:
        runner.run(stages.first, workdir, **ranks)
        return
    _check_search(stages.first)
    if not _is_searched(workdir / SEARCH_FOLDER / SUMMARY_FILE, stages.first["rounds"]):
        with _of_the_training():
            _check_training(stages.train)

    def run_rounds(
        stage: RoundsStage, before: Folders, folder: Path, begun: Callable[[], None]
    ) -> dict[str, Any]:
        with _of_the_training() if stage.name == TRAIN_FOLDER else contextlib.nullcontext():
            return runner.run(stage.config(before), folder, **ranks)

    both = search_then_train(stages.first, stages.train)
    stage_runner.run(both, workdir, run_rounds, communicator or LOCAL)


def _is_searched(summary: Path, rounds: int) -> bool:
    """Whether a summary is that of a search of so many rounds, or one that cannot be read."""
    if not summary.exists():
        return False
    try:
        return read_json(summary).get("rounds", rounds) == rounds
    except (UserError, AttributeError):
        return True  # the search refuses it


def search_then_train(search: schema.Config, train: schema.Config) -> tuple[RoundsStage, ...]:
    """The stages of a search and of the training of its result; configs as in `Stages`."""

    def of_training(before: Folders) -> schema.Config:
        # Absolute paths: a recorded config must not depend on the current folder.
        finds = registry.find(search["algorithm"]).finds
        found = {finds.field: str(before[SEARCH_FOLDER] / finds.file)} if finds else {}
        if train.get("warm_start") == FROM_SEARCH:
            found["warm_start"] = str(before[SEARCH_FOLDER])
        return schema.resolve(train, found)

    return (
        RoundsStage(SEARCH_FOLDER, lambda before: search),
        RoundsStage(TRAIN_FOLDER, of_training),
    )


def _check_search(config: schema.Config) -> None:
    """Refuses a search of several stages: it would not be known which of them has the genotype."""
    name = config["algorithm"]
    stage_types.check_one(registry.room(name).stages(config), name, f"config.{THEN_TRAIN}")


def _check_training(config: ml_collections.FrozenConfigDict) -> None:
    """Checks the training's config before the search, which may take days.

    Raises:
      UserError: as `experiment.run`.
    """
    from fednas_jax.experiment import assembly, warm_start
    from fednas_jax.report import tracking
    from fednas_jax.runtime import settings

    tracking.check(config["report"])
    begins_with = config.get("warm_start", "")
    if begins_with not in ("", FROM_SEARCH):
        warm_start.source(begins_with)
    # Whether weights fit depends on what the search finds.
    own = {"warm_start": ""} if begins_with else {}
    with settings.fixed():
        assembly.prepare(schema.resolve(config, own))
