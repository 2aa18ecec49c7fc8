"""Every field of a config: its default, what it may hold, and what it means.

The table `FIELDS` is the schema; `config.py` checks configs against it.
"""

import math
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

from fednas_jax.errors import suggest

ALGORITHMS = ("fednas", "fedavg")

_READ_ONLY_BY = {
    "client.train_fraction": "fednas",
    "genotype": "fedavg",
    "network.": "fedavg",
    "warm_start": "fedavg",
    "supernet.": "fednas",
    "search.": "fednas",
    "optimizer.schedule": "fedavg",
    "optimizer.auxiliary_weight": "fedavg",
    "optimizer.drop_path_rate": "fedavg",
    "fedprox_mu": "fedavg",
    "stragglers": "fedavg",
    "server.optimizer": "fedavg",
    "server.learning_rate": "fedavg",
    "server.momentum": "fedavg",
    "server.beta": "fedavg",
    "server.epsilon": "fedavg",
    "arch_optimizer.": "fednas",
}
"""Fields, or starts of their names, that one algorithm reads alone."""

RESNETS = ("resnet20", "resnet32", "resnet56", "resnet56_fedml")
DENSENETS = ("densenet201", "densenet_small")
NETWORKS = ("cnn", "2nn", "pfl_cnn", *RESNETS, *DENSENETS, "genotype")
"""What `network.name` may be; `networks.py` builds them."""

_FALLING = ("within_round", "across_rounds", "both")
ADAPTIVE = ("adam", "yogi")
"""Optimisers of the server whose steps are about as large as its learning rate."""
_READ_ONLY_WITH: dict[str, tuple[str, tuple[Any, ...]]] = {
    "genotype": ("network.name", ("genotype",)),
    "network.padding": ("network.name", ("cnn",)),
    "network.normalization": ("network.name", (*RESNETS, *DENSENETS, "genotype")),
    "network.init_channels": ("network.name", ("genotype",)),
    "network.layers": ("network.name", ("genotype",)),
    "network.auxiliary": ("network.name", ("genotype",)),
    "optimizer.auxiliary_weight": ("network.auxiliary", (True,)),
    "optimizer.drop_path_rate": ("network.name", ("genotype",)),
    "optimizer.learning_rate_min": ("optimizer.schedule", _FALLING),
    "server.momentum": ("server.optimizer", ("momentum",)),
    "server.beta1": ("server.optimizer", ADAPTIVE),
    "server.beta2": ("server.optimizer", ADAPTIVE),
    "server.epsilon": ("server.optimizer", ADAPTIVE),
    # Networks without batch normalisation have no statistics.
    "server.batch_stats": ("network.normalization", ("batch",)),
    "server.recalibration_fraction": ("server.batch_stats", ("recalibrated",)),
}
"""Fields that are read only where another field, which the algorithm reads, has certain values."""

Check = Callable[[Any], str]
"""Says in words what would be right, or "" where the value is right."""


class Field(NamedTuple):
    """One field of the config."""

    name: str  # dotted, as written after `config.`
    default: Any
    types: tuple[type, ...]
    check: Check
    help: str
    affects_result: bool = True  # by more than the rounding of a sum
    besides: str = ""  # a value that is not like the others, for who has written another type

    @property
    def meaning(self) -> str:
        """The help, and the names to choose from, where there are some."""
        names = getattr(self.check, "names", ())
        return f"{self.help}; one of {', '.join(names)}" if names else self.help

    @property
    def algorithms(self) -> tuple[str, ...]:
        """Those that read it."""
        of = next((a for start, a in _READ_ONLY_BY.items() if self.name.startswith(start)), None)
        return ALGORITHMS if of is None else (of,)

    @property
    def needs(self) -> tuple[str, tuple[Any, ...]] | None:
        """Another field, and the values of it with which this one is read; None: with any."""
        return _READ_ONLY_WITH.get(self.name)


def at_least(low: float, at_most: float = math.inf) -> Check:
    """The value is `low` or more, and not above `at_most`."""

    def check(value: Any) -> str:
        if value < low:
            return f"at least {low} is needed"
        return "" if value <= at_most else f"at most {at_most} is needed"

    return check


def above(low: float, at_most: float = math.inf) -> Check:
    """The value is more than `low`, and not above `at_most`."""

    def check(value: Any) -> str:
        if value <= low:
            return f"more than {low} is needed"
        return "" if value <= at_most else f"at most {at_most} is needed"

    return check


def between(low: float, high: float, ends: str = "[)") -> Check:
    """The value lies in an interval, each end included ("[", "]") or not ("(", ")")."""

    below = operator.le if ends[0] == "[" else operator.lt
    under = operator.le if ends[1] == "]" else operator.lt
    sign = {operator.le: "<=", operator.lt: "<"}

    def check(value: Any) -> str:
        if below(low, value) and under(value, high):
            return ""
        return f"{low} {sign[below]} value {sign[under]} {high} is needed"

    return check


def one_of(*names: str) -> Check:
    """The value is one of `names`."""

    def check(value: Any) -> str:
        if value in names:
            return ""
        return "one of " + ", ".join(names) + " is needed" + _nearest(value, names)

    check.names = names  # type: ignore[attr-defined]
    return check


def _nearest(value: Any, names: tuple[str, ...]) -> str:
    hint = suggest(str(value), names)
    return hint if hint.startswith("; did") else ""


def _channels(value: Any) -> str:
    if value < 2 or value % 2:
        return "an even number of at least 2 is needed"
    return "" if value <= _MANY else f"at most {_MANY} is needed"


def _chunk(value: Any) -> str:
    named = ("auto", "measured")
    right = value in named if isinstance(value, str) else 1 <= value <= _INT32_MAX
    return "" if right else "'auto', 'measured' or a whole number of at least 1 is needed"


def _filled(value: Any) -> str:
    return "" if value.strip() else "a name or a path is needed"


def _anything(value: Any) -> str:
    return ""


# Far above what is of use, and low enough that sums and products of them fit 32 bits.
_MANY = 10_000
_INT32_MAX = 2**31 - 1
_SEED = between(0, 2**32)
_INT, _FLOAT, _TEXT, _FLAG = (int,), (float,), (str,), (bool,)

FIELDS: tuple[Field, ...] = (
    Field("seed", 0, _INT, _SEED, "all randomness of a run but the partition comes from it"),
    Field("algorithm", "fednas", _TEXT, one_of(*ALGORITHMS), "what clients and server compute"),
    Field("rounds", 50, _INT, at_least(1, _INT32_MAX), "federated rounds"),
    Field("local_epochs", 5, _INT, at_least(1, _MANY),
          "passes over a client's train part; in FedAvg that is all it does not hold out"),
    Field("batch_size", 64, _INT, at_least(0, 2**20),
          "examples in a local step; 0 (fedavg, no batch normalisation): all of a client's, "
          "McMahan's B of infinity", besides="0 for all of a client's examples at once"),
    Field("clients_per_chunk", "auto", (int, str), _chunk,
          "clients computed side by side; auto: what a GPU's memory holds, one on a CPU; measured: "
          "the fastest of 1, 2, 4, ..., each compiled and timed when a run begins", False),
    Field("clients_per_round", 0, _INT, at_least(0),
          "clients drawn for a round; 0: as many as clients_fraction says"),
    Field("clients_fraction", 1.0, _FLOAT, above(0, 1),
          "part of all clients that is drawn for a round, McMahan's C, at least one of them; 1: "
          "every client takes part in every round"),
    Field("unreachable_share", 0.0, _FLOAT, between(0, 1, "[]"),
          "probability that a client drawn for a round is not reached; a round that reaches nobody "
          "changes nothing"),
    Field("stragglers_share", 0.0, _FLOAT, between(0, 1, "[]"),
          "probability that a client that is reached is too slow for all local epochs: it makes 1 "
          "to E - 1 of them, as in FedProx's experiments"),
    Field("stragglers", "keep", _TEXT, one_of("keep", "drop"),
          "what is done with what such clients, if there are any, come to"),
    Field("faults.dropout_share", 0.0, _FLOAT, between(0, 1, "[]"),
          "probability that a client breaks off during the round, after any part of its local "
          "steps"),
    Field("faults.dropouts", "lose", _TEXT, one_of("lose", "keep"),
          "what is done with what such clients, if there are any, have come to"),
    Field("faults.deadline_steps", 0, _INT, at_least(0),
          "local steps that a client of speed 1 makes before the server takes no more answers; 0: "
          "it waits"),
    Field("faults.late", "drop", _TEXT, one_of("drop", "keep"),
          "what is done with what clients have come to at the deadline, if there is one"),
    Field("faults.speed_sigma", 0.0, _FLOAT, between(0, 10, "[]"),
          "of the log-normal around 1 that a client's speed is drawn from, anew each round; it "
          "decides who is late, and who comes first"),
    Field("faults.extra_share", 0.0, _FLOAT, between(0, 100, "[]"),
          "over-selection: so many more clients are drawn for a round, as a part of those wanted, "
          "and the first to come back count"),
    Field("faults.min_clients", 0, _INT, at_least(0),
          "a round with answers of fewer clients does not count"),
    Field("faults.too_few", "skip", _TEXT, one_of("skip", "repeat"),
          "such a round changes nothing, or is begun again with other clients, up to 10 times in "
          "all"),
    Field("faults.not_finite", "stop", _TEXT, one_of("stop", "leave_out"),
          "a client whose loss or weights are not finite stops the run, or is left out of its "
          "round and named"),
    Field("fedprox_mu", 0.0, _FLOAT, at_least(0),
          "of FedProx's term, mu / 2 times the squared distance from the server's weights; or 0"),
    Field("test_every", 1, _INT, at_least(0),
          "rounds between tests on the test set; 0: only after the last round"),
    Field("held_out_every", 1, _INT, at_least(0),
          "rounds between scores on the examples that clients hold out, if they do, of which the "
          "best round is the one with the highest; 0: only after the last round"),
    Field("checkpoint_every", 1, _INT, at_least(1),
          "rounds between checkpoints; one more after the last and, where examples are held out, "
          "after each best so far", False),
    Field("checkpoints_to_keep", 2, _INT, at_least(1),
          "latest checkpoints to keep; the best is kept besides", False),
    Field("compilation_cache", "auto", _TEXT, _filled,
          "folder that keeps compiled programs from run to run; auto: JAX_COMPILATION_CACHE_DIR or "
          "fednas_jax/xla in the user's cache folder; off: none", False),
    Field("dataset.name", "cifar10", _TEXT, _filled, "a known data set, or a path to an .npz"),
    Field("dataset.data_dir", "", _TEXT, _anything,
          "where TensorFlow Datasets lie; empty: TFDS_DATA_DIR or the default folder", False),
    Field("dataset.test_path", "", _TEXT, _anything,
          "an .npz with the test examples of an own .npz; empty: cut from the first"),
    Field("dataset.test_fraction", 0.2, _FLOAT, between(0, 1, "()"),
          "part cut off for the test where a data set has no test split"),
    Field("dataset.max_train_examples", 0, _INT, at_least(0), "use so many at most; 0: all"),
    Field("dataset.max_test_examples", 0, _INT, at_least(0), "use so many at most; 0: all"),
    Field("partition.name", "hetero", _TEXT,
          one_of("homo", "hetero", "table", "shards", "power_law", "natural", "file"),
          "how examples are dealt to clients"),
    Field("partition.num_clients", 16, _INT, at_least(1),
          "clients; natural, table and file bring their own number and do not use this"),
    Field("partition.seed", 0, _INT, between(-1, 2**32),
          "of the partition alone; -1: the generator that made the paper's partition"),
    Field("partition.concentration", 0.5, _FLOAT, above(0, 1e9),
          "hetero: of the Dirichlet over clients; the smaller, the less alike the clients"),
    Field("partition.min_size", 10, _INT, at_least(1),
          "hetero, power_law: examples of the smallest client"),
    Field("partition.max_tries", 1000, _INT, at_least(1), "hetero: draws to reach min_size"),
    Field("partition.table", "fednas_table2", _TEXT, _filled,
          "table: a known table, or a path to a CSV of client x class counts"),
    Field("partition.table_fraction", 1.0, _FLOAT, between(0, 1, "(]"),
          "table: part of each count to use"),
    Field("partition.shards_per_client", 2, _INT, at_least(1), "shards: label-sorted shards each"),
    Field("partition.labels_per_client", 2, _INT, at_least(1), "power_law: classes each"),
    Field("partition.sigma", 2.0, _FLOAT, above(0, 100),
          "power_law: of the log-normal; the larger, the less equal the clients' sizes"),
    Field("partition.balanced", False, _FLAG, _anything,
          "deal no more examples of a class than the smallest class has; not of table and file"),
    Field("partition.path", "", _TEXT, _anything,
          "file: a saved partition (.npz), of the same training examples: where a test set is cut "
          "off, of the same seed"),
    Field("client.held_out_fraction", 0.1, _FLOAT, between(0, 1),
          "part of a client's examples that selects the best round; 0: the last round is best"),
    Field("client.train_fraction", 0.5, _FLOAT, between(0, 1, "()"),
          "train part: of the others, what trains the weights; the rest, the validation part, "
          "trains alpha. A local epoch is one pass over the train part, and the validation part is "
          "walked along with it: passed fully near 0.5, only in part below, repeatedly above"),
    Field("genotype", "FedNAS_V1", _TEXT, _filled,
          "what a search has found and is trained now: its JSON file, or a published one's name",
          # Not the name: what it stands for is recorded, and must stay as it was.
          False),
    Field("warm_start", "", _TEXT, _anything,
          "a run or a checkpoint whose weights to begin with: of the same network, or of a "
          "supernet, of which a genotype's network takes its operations'; empty: new ones; in a "
          "training that follows a search, 'search': what that ends with"),
    Field("network.name", "cnn", _TEXT, one_of(*NETWORKS),
          "what is trained: the CNN or 2NN of McMahan et al. 2017, pfl-research's small CNN, a "
          "residual network, a densely connected one, or that of `genotype`"),
    Field("network.padding", "same", _TEXT, one_of("same", "flower"),
          "of the CNN: its convolutions keep the size; flower: they lose a pixel a side, which the "
          "pools add, as in Flower's baseline"),
    Field("network.normalization", "batch", _TEXT, one_of("batch", "group"),
          "after each convolution; batch: over the batch, whose statistics unlike clients do not "
          "share; group: inside each example"),
    Field("network.init_channels", 16, _INT, _channels, "channels C of the first cell"),
    Field("network.layers", 8, _INT, at_least(3, 1000), "cells L; those at L//3 and 2L//3 reduce"),
    Field("network.auxiliary", False, _FLAG, _anything,
          "train a second classifier, after two thirds of the cells, beside the last one"),
    Field("supernet.init_channels", 16, _INT, _channels, "channels C of the first cell"),
    Field("supernet.layers", 8, _INT, at_least(3, 1000), "cells L; those at L//3 and 2L//3 reduce"),
    Field("supernet.scan_cells", True, _FLAG, _anything,
          "compile a run of equal cells once: compiles faster, runs a little slower", False),
    Field("supernet.scan_sources", True, _FLAG, _anything,
          "likewise inside a cell; false: compiles half as long again, runs up to a tenth "
          "faster", False),
    Field("supernet.remat", False, _FLAG, _anything,
          "recompute each cell in the backward pass: less memory, more time", False),
    Field("supernet.dtype", "float32", _TEXT, one_of("float32", "bfloat16"),
          "of the maps inside the cells; weights, alphas, statistics and sums stay in float32"),
    Field("search.order", "joint", _TEXT, one_of("joint", "weights_first", "alpha_first"),
          "of the two updates in a local step: at the same weights, as Algorithm 1 says, or as the "
          "authors' code does"),
    Field("search.lambda_train", 1.0, _FLOAT, at_least(0),
          "weight of the train loss in alpha's gradient (Eq. 4)"),
    Field("search.lambda_valid", 1.0, _FLOAT, at_least(0),
          "weight of the valid loss in alpha's gradient (Eq. 4)"),
    Field("optimizer.learning_rate", 0.025, _FLOAT, above(0),
          "of the weights, in the first local epoch of the first round"),
    Field("optimizer.schedule", "within_round", _TEXT,
          one_of("constant", *_FALLING),
          "of the learning rate: a cosine over the local epochs, anew each round, as in search; a "
          "cosine over the rounds; or both, the first from where the second is"),
    Field("optimizer.learning_rate_min", 0.001, _FLOAT, at_least(0), "what the cosine tends to"),
    Field("optimizer.momentum", 0.9, _FLOAT, between(0, 1), "of SGD"),
    Field("optimizer.weight_decay", 3e-4, _FLOAT, at_least(0), "added to the gradient (coupled)"),
    Field("optimizer.clip_norm", 5.0, _FLOAT, at_least(0),
          "greatest norm of the weights' gradient; 0: no clipping"),
    Field("optimizer.auxiliary_weight", 0.4, _FLOAT, at_least(0),
          "of the second classifier's loss"),
    Field("optimizer.drop_path_rate", 0.0, _FLOAT, between(0, 1),
          "probability that an example loses an operation's output, in the last round; it grows "
          "evenly, from 0 in the first"),
    Field("arch_optimizer.learning_rate", 3e-4, _FLOAT, at_least(0), "of alpha, constant"),
    Field("arch_optimizer.beta1", 0.5, _FLOAT, between(0, 1), "of Adam"),
    Field("arch_optimizer.beta2", 0.999, _FLOAT, between(0, 1), "of Adam"),
    Field("arch_optimizer.weight_decay", 1e-3, _FLOAT, at_least(0), "added to the gradient"),
    Field("server.optimizer", "sgd", _TEXT, one_of("sgd", "momentum", *ADAPTIVE),
          "how the server steps to the clients' mean; sgd of learning rate 1 takes it as it is "
          "(FedAvg); momentum: FedAvgM; adam: FedAdam; yogi: FedYogi"),
    Field("server.learning_rate", 1.0, _FLOAT, above(0),
          "of that step; less than 1 with adam and yogi, which move every weight by about as much: "
          "0.01 is usual"),
    Field("server.momentum", 0.9, _FLOAT, between(0, 1), "share of earlier steps that stays"),
    Field("server.beta1", 0.9, _FLOAT, between(0, 1), "share of the steps' mean that stays"),
    Field("server.beta2", 0.99, _FLOAT, between(0, 1), "share of their squares' mean that stays"),
    Field("server.epsilon", 1e-3, _FLOAT, above(0), "added to the root of the squares"),
    Field("server.batch_stats", "recalibrated", _TEXT, one_of("averaged", "recalibrated"),
          "BatchNorm statistics: the clients' mean, or taken anew with the averaged weights"),
    Field("server.recalibration_fraction", 1.0, _FLOAT, between(0.001, 1, "[]"),
          "part of each client's train batches that recalibrated statistics are taken from; all of "
          "them cost 3 % of a search's round of 5 local epochs"),
    Field("augment.crop_padding", 4, _INT, at_least(0, _MANY),
          "pixels padded before a random crop; less than the images' shorter side"),
    Field("augment.flip", True, _FLAG, _anything, "flip left and right at random"),
    Field("augment.cutout", 16, _INT, at_least(0, _MANY),
          "side of the erased square, pixels, less than the images' shorter side; 0: none"),
    Field("report.progress", True, _FLAG, _anything, "a progress bar", False),
    Field("report.tensorboard", True, _FLAG, _anything, "write TensorBoard events", False),
    Field("report.wandb", "off", _TEXT, one_of("off", "offline", "online"),
          "track the run with Weights & Biases, which the group wandb installs", False),
    Field("report.wandb_project", "fednas_jax", _TEXT, _filled, "of Weights & Biases", False),
    Field("report.names", "ours", _TEXT, one_of("ours", "originals"),
          "of metrics in TensorBoard and W&B: those of metrics.jsonl, or the authors'", False),
    Field("report.plots", True, _FLAG, _anything, "draw the pictures", False),
    Field("report.page", True, _FLAG, _anything,
          "write report.html, the run's page, at its end", False),
)  # fmt: skip
