"""The declaration of FedNAS, with fields of the supernet, the local step and alpha's optimiser."""

from fednas_jax.algorithms.declared import Declared, Finds, Values
from fednas_jax.fields import words
from fednas_jax.fields.field import (
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
from fednas_jax.runtime.errors import UserError

FIELDS = (
    Field("client.train_fraction", 0.5, FLOAT, between(0, 1, "()"),
          "Share of a client's examples, without the held-out ones, in the train part, which "
          "trains the weights; the rest, the validation part, trains alpha. A local epoch is one "
          "pass over the train part; the validation part is read beside it: once near 0.5, only in "
          "part below, repeatedly above",
          also=("train_portion", "train_split", "search_split")),
    Field("supernet.init_channels", 16, INT, channels,
          "Number of channels C of the first cell",
          after="network.",
          also=("channels", "width", "supernet_C")),
    Field("supernet.layers", 8, INT, at_least(3, 1000),
          "Number of cells L; those at L//3 and 2L//3 are reduction cells",
          also=("supernet_L", "num_layers", "n_layers", "depth", "cells", "num_cells")),
    Field("supernet.scan_cells", True, FLAG, anything,
          "Whether to compile each run of equal cells once, as a loop over cells; compiles faster, "
          "runs a little slower", False),
    Field("supernet.scan_sources", True, FLAG, anything,
          "Whether to compile the edges between nodes as a loop; false: compiling takes half as "
          "long again, and a run up to a tenth less time", False),
    Field("supernet.remat", False, FLAG, anything,
          "Whether to recompute each cell in the backward pass; takes less memory and more time",
          False,
          also=("checkpointing", "gradient_checkpointing", "rematerialize")),
    Field("supernet.dtype", "float32", TEXT, one_of("float32", "bfloat16", also=words.DTYPES),
          "Data type of the feature maps inside the cells; weights, alphas, statistics and sums "
          "stay in float32",
          also=("dtype", "precision", "fp16", "bf16", "amp", "half", "mixed_precision")),
    Field("search.order", "joint", TEXT, one_of("joint", "weights_first", "alpha_first"),
          "Order of the two updates in a local step; joint: both from the same weights and alphas, "
          "as in Eq. 4; weights_first: as in Algorithm 1; alpha_first: as in the authors' code",
          after="supernet.",
          also=("order", "search_order")),
    Field("search.lambda_train", 1.0, FLOAT, at_least(0),
          "Weight of the training loss in the gradient of alpha (Eq. 4)",
          also=("lambda_train_regularizer", "lambda_train")),
    Field("search.lambda_valid", 1.0, FLOAT, at_least(0),
          "Weight of the validation loss in the gradient of alpha (Eq. 4)",
          also=("lambda_valid_regularizer", "lambda_val", "lambda_valid")),
    Field("arch_optimizer.learning_rate", 3e-4, FLOAT, at_least(0),
          "Learning rate of alpha, which is constant",
          after="optimizer.",
          also=("arch_lr", "alpha_lr", "arch_learning_rate", "alpha_learning_rate")),
    Field("arch_optimizer.beta1", 0.5, FLOAT, between(0, 1),
          "Coefficient beta1 of Adam, for alpha"),
    Field("arch_optimizer.beta2", 0.999, FLOAT, between(0, 1),
          "Coefficient beta2 of Adam, for alpha"),
    Field("arch_optimizer.weight_decay", 1e-3, FLOAT, at_least(0),
          "Factor of alpha that is added to its gradient (coupled weight decay); 0: none",
          also=("arch_wd", "alpha_wd", "arch_weight_decay")),
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
    also=tuple((word, "fednas") for word in ("nas", "darts", "milenas", "search", "fed_nas")),
)
