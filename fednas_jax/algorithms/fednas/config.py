"""What FedNAS declares: the supernet, the local search step, the optimiser of alpha."""

from fednas_jax.algorithms.declared import Declared, Finds, Values
from fednas_jax.errors import UserError
from fednas_jax.fields import (
    FLAG,
    FLOAT,
    INT,
    TEXT,
    Field,
    anything,
    at_least,
    between,
    channels,
    one_of,
)

FIELDS = (
    Field("client.train_fraction", 0.5, FLOAT, between(0, 1, "()"),
          "train part: of the others, what trains the weights; the rest, the validation part, "
          "trains alpha. A local epoch is one pass over the train part, and the validation part is "
          "walked along with it: passed fully near 0.5, only in part below, repeatedly above"),
    Field("supernet.init_channels", 16, INT, channels, "channels C of the first cell",
          after="network."),
    Field("supernet.layers", 8, INT, at_least(3, 1000), "cells L; those at L//3 and 2L//3 reduce"),
    Field("supernet.scan_cells", True, FLAG, anything,
          "compile a run of equal cells once: compiles faster, runs a little slower", False),
    Field("supernet.scan_sources", True, FLAG, anything,
          "likewise inside a cell; false: compiles half as long again, runs up to a tenth "
          "faster", False),
    Field("supernet.remat", False, FLAG, anything,
          "recompute each cell in the backward pass: less memory, more time", False),
    Field("supernet.dtype", "float32", TEXT, one_of("float32", "bfloat16"),
          "of the maps inside the cells; weights, alphas, statistics and sums stay in float32"),
    Field("search.order", "joint", TEXT, one_of("joint", "weights_first", "alpha_first"),
          "of the two updates in a local step: at the same weights, as Algorithm 1 says, or as the "
          "authors' code does",
          after="supernet."),
    Field("search.lambda_train", 1.0, FLOAT, at_least(0),
          "weight of the train loss in alpha's gradient (Eq. 4)"),
    Field("search.lambda_valid", 1.0, FLOAT, at_least(0),
          "weight of the valid loss in alpha's gradient (Eq. 4)"),
    Field("arch_optimizer.learning_rate", 3e-4, FLOAT, at_least(0), "of alpha, constant",
          after="optimizer."),
    Field("arch_optimizer.beta1", 0.5, FLOAT, between(0, 1), "of Adam"),
    Field("arch_optimizer.beta2", 0.999, FLOAT, between(0, 1), "of Adam"),
    Field("arch_optimizer.weight_decay", 1e-3, FLOAT, at_least(0), "added to the gradient"),
)  # fmt: skip


def _check(values: Values) -> None:
    if not values["batch_size"]:
        raise UserError(
            "config.batch_size: 0 is not usable where config.algorithm is 'fednas'; at least 1 is "
            "needed"
        )


DECLARED = Declared(
    name="fednas",
    title="FedNAS",
    room="fednas_jax.algorithms.fednas.room",
    fields=FIELDS,
    check=_check,
    finds=Finds("genotype", "genotypes/best.json"),
)
