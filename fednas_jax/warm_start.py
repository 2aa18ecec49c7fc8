"""The weights that a training begins with, out of a checkpoint (`config.warm_start`)."""

from collections.abc import Mapping
from typing import Any

import jax

from fednas_jax.errors import UserError
from fednas_jax.federated.round import Algorithm
from fednas_jax.model import Model, restore
from fednas_jax.search.genotype import Genotype
from fednas_jax.search.inherit import inherit, merged

_SIZES = ("init_channels", "layers")
_COLLECTIONS = ("params", "batch_stats")


def begin_with(
    algorithm: Algorithm, folder: str, network: Mapping[str, Any], genotype: Genotype | None
) -> Algorithm:
    """The algorithm, with a first state out of a checkpoint.

    Args:
      algorithm: whose state has `params` and `batch_stats`.
      folder: of a run or a checkpoint: of the same network, or of the supernet that the genotype
        is from, or any supernet of as many channels and cells.
      network: `config.network`.
      genotype: of the network; None of one made by hand.

    Raises:
      UserError: there is no such checkpoint, or it is of something else.
    """
    try:
        model = restore(folder)
    except UserError as error:
        raise UserError(f"config.warm_start: {error}") from error
    taken = _from_supernet(model, network, genotype) if model.is_supernet else model.variables

    def init(key: jax.Array) -> Any:
        state = algorithm.init(key)
        own = {name: getattr(state, name) for name in _COLLECTIONS}
        # A network that normalises by groups has no statistics, and takes none.
        begun = {name: merged(tree, taken.get(name, {})) for name, tree in own.items() if tree}
        return state._replace(**begun)

    try:
        jax.eval_shape(init, jax.random.key(0))
    except ValueError as error:
        raise UserError(
            f"config.warm_start: {model.path} is of another network: {error}; one of the same, or "
            "a supernet of as many classes, is needed"
        ) from error
    return algorithm._replace(init=init)


def _from_supernet(
    model: Model, network: Mapping[str, Any], genotype: Genotype | None
) -> Mapping[str, Any]:
    if genotype is None:
        raise UserError(
            f"config.warm_start: {model.path} is of a supernet; config.network.name 'genotype' is "
            "needed, or a checkpoint of the same network"
        )
    for name in _SIZES:
        there, here = model.description.network[name], network[name]
        if there != here:
            raise UserError(
                f"config.warm_start: {model.path} has {name} {there}; config.network.{name} is "
                f"{here}, and the same is needed"
            )
    return inherit(model.variables, genotype)
