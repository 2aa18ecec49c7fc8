"""The fields of a config that do not belong to one algorithm.

Those that are `optional` are read by algorithms that name them in their `reads`.
"""

from typing import Any

from fednas_jax.fields import (
    FLAG,
    FLOAT,
    INT,
    INT32_MAX,
    MANY,
    TEXT,
    Field,
    above,
    anything,
    at_least,
    between,
    channels,
    filled,
    one_of,
    several,
)  # fmt: skip

RESNETS = ("resnet20", "resnet32", "resnet56", "resnet56_fedml")
DENSENETS = ("densenet201", "densenet_small")
NETWORKS = ("cnn", "2nn", "pfl_cnn", *RESNETS, *DENSENETS, "genotype")
"""What `network.name` may be; `networks.py` builds them."""

FALLING = ("within_round", "across_rounds", "both")
"""Schedules of the learning rate that tend to `optimizer.learning_rate_min`."""

NORMALIZED = (*RESNETS, *DENSENETS, "genotype")
"""Networks with a normalisation to choose."""

ADAPTIVE = ("adam", "yogi")
"""Optimisers of the server whose steps are about as large as its learning rate."""

_SEED = between(0, 2**32)


def _chunk(value: Any) -> str:
    named = ("auto", "measured")
    right = value in named if isinstance(value, str) else 1 <= value <= INT32_MAX
    return "" if right else "'auto', 'measured' or a whole number of at least 1 is needed"


COMMON: tuple[Field, ...] = (
    Field("seed", 0, INT, _SEED, "all randomness of a run but the partition comes from it"),
    Field("algorithm", "fednas", TEXT, filled, "what clients and server compute"),
    Field("rounds", 50, INT, at_least(1, INT32_MAX), "federated rounds"),
    Field("local_epochs", 5, INT, at_least(1, MANY),
          "passes over a client's train part; in FedAvg that is all it does not hold out"),
    Field("batch_size", 64, INT, at_least(0, 2**20),
          "examples in a local step; 0 (fedavg, no batch normalisation): all of a client's, "
          "McMahan's B of infinity", besides="0 for all of a client's examples at once"),
    Field("clients_per_chunk", "auto", (int, str), _chunk,
          "clients computed side by side; auto: what a GPU's memory holds, one on a CPU; measured: "
          "the fastest of 1, 2, 4, ..., each compiled and timed when a run begins", False),
    Field("clients_per_round", 0, INT, at_least(0),
          "clients drawn for a round; 0: as many as clients_fraction says"),
    Field("clients_fraction", 1.0, FLOAT, above(0, 1),
          "part of all clients that is drawn for a round, McMahan's C, at least one of them; 1: "
          "every client takes part in every round"),
    Field("unreachable_share", 0.0, FLOAT, between(0, 1, "[]"),
          "probability that a client drawn for a round is not reached; a round that reaches nobody "
          "changes nothing"),
    Field("faults.dropout_share", 0.0, FLOAT, between(0, 1, "[]"),
          "probability that a client breaks off during the round, after any part of its local "
          "steps"),
    Field("faults.dropouts", "lose", TEXT, one_of("lose", "keep"),
          "what is done with what such clients, if there are any, have come to"),
    Field("faults.deadline_steps", 0, INT, at_least(0),
          "local steps that a client of speed 1 makes before the server takes no more answers; 0: "
          "it waits"),
    Field("faults.late", "drop", TEXT, one_of("drop", "keep"),
          "what is done with what clients have come to at the deadline, if there is one"),
    Field("faults.speed_sigma", 0.0, FLOAT, between(0, 10, "[]"),
          "of the log-normal around 1 that a client's speed is drawn from, anew each round; it "
          "decides who is late, and who comes first"),
    Field("faults.extra_share", 0.0, FLOAT, between(0, 100, "[]"),
          "over-selection: so many more clients are drawn for a round, as a part of those wanted, "
          "and the first to come back count"),
    Field("faults.min_clients", 0, INT, at_least(0),
          "a round with answers of fewer clients does not count"),
    Field("faults.too_few", "skip", TEXT, one_of("skip", "repeat"),
          "such a round changes nothing, or is begun again with other clients, up to 10 times in "
          "all"),
    Field("faults.not_finite", "stop", TEXT, one_of("stop", "leave_out"),
          "a client whose loss or weights are not finite stops the run, or is left out of its "
          "round and named"),
    Field("transforms", "", TEXT, several,
          "what is done to what clients send, such as clipping: your own, as path/to/file.py:Name, "
          "several with commas between, which are applied in this order",
          default_recorded=False),
    Field("reducer", "sum", TEXT, one_of("sum", brought=True),
          "how the server puts together what clients send; your own: as path/to/file.py:Name",
          default_recorded=False),
    Field("callbacks", "", TEXT, several,
          "what is called after each round, when it is recorded: functions of your own, as "
          "path/to/file.py:Name, with commas between", False,
          default_recorded=False),
    Field("test_every", 1, INT, at_least(0),
          "rounds between tests on the test set; 0: only after the last round"),
    Field("held_out_every", 1, INT, at_least(0),
          "rounds between scores on the examples that clients hold out, if they do, of which the "
          "best round is the one with the highest; 0: only after the last round"),
    Field("checkpoint_every", 1, INT, at_least(1),
          "rounds between checkpoints; one more after the last and, where examples are held out, "
          "after each best so far", False),
    Field("checkpoints_to_keep", 2, INT, at_least(1),
          "latest checkpoints to keep; the best is kept besides", False),
    Field("compilation_cache", "auto", TEXT, filled,
          "folder that keeps compiled programs from run to run; auto: JAX_COMPILATION_CACHE_DIR or "
          "fednas_jax/xla in the user's cache folder; off: none", False),
    Field("dataset.name", "cifar10", TEXT, filled,
          "a known data set, a path to an .npz, or your own, as path/to/file.py:Name"),
    Field("dataset.data_dir", "", TEXT, anything,
          "where TensorFlow Datasets lie; empty: TFDS_DATA_DIR or the default folder", False),
    Field("dataset.test_path", "", TEXT, anything,
          "an .npz with the test examples of an own .npz; empty: cut from the first"),
    Field("dataset.test_fraction", 0.2, FLOAT, between(0, 1, "()"),
          "part cut off for the test where a data set has no test split"),
    Field("dataset.max_train_examples", 0, INT, at_least(0), "use so many at most; 0: all"),
    Field("dataset.max_test_examples", 0, INT, at_least(0), "use so many at most; 0: all"),
    Field("partition.name", "hetero", TEXT,
          one_of("homo", "hetero", "table", "shards", "power_law", "natural", "file", brought=True),
          "how examples are dealt to clients; your own: as path/to/file.py:Name"),
    Field("partition.num_clients", 16, INT, at_least(1),
          "clients; natural, table and file bring their own number and do not use this"),
    Field("partition.seed", 0, INT, between(-1, 2**32),
          "of the partition alone; -1: the generator that made the paper's partition"),
    Field("partition.concentration", 0.5, FLOAT, above(0, 1e9),
          "hetero: of the Dirichlet over clients; the smaller, the less alike the clients"),
    Field("partition.min_size", 10, INT, at_least(1),
          "hetero, power_law: examples of the smallest client"),
    Field("partition.max_tries", 1000, INT, at_least(1), "hetero: draws to reach min_size"),
    Field("partition.table", "fednas_table2", TEXT, filled,
          "table: a known table, or a path to a CSV of client x class counts"),
    Field("partition.table_fraction", 1.0, FLOAT, between(0, 1, "(]"),
          "table: part of each count to use"),
    Field("partition.shards_per_client", 2, INT, at_least(1), "shards: label-sorted shards each"),
    Field("partition.labels_per_client", 2, INT, at_least(1), "power_law: classes each"),
    Field("partition.sigma", 2.0, FLOAT, above(0, 100),
          "power_law: of the log-normal; the larger, the less equal the clients' sizes"),
    Field("partition.balanced", False, FLAG, anything,
          "deal no more examples of a class than the smallest class has; not of table and file"),
    Field("partition.path", "", TEXT, anything,
          "file: a saved partition (.npz), of the same training examples: where a test set is cut "
          "off, of the same seed"),
    Field("client.held_out_fraction", 0.1, FLOAT, between(0, 1),
          "part of a client's examples that selects the best round; 0: the last round is best"),
    Field("genotype", "FedNAS_V1", TEXT, filled,
          "what a search has found and is trained now: its JSON file, or a published one's name",
          # Not the name: what it stands for is recorded, and must stay as it was.
          False,
          needs=("network.name", ("genotype",)), optional=True),
    Field("warm_start", "", TEXT, anything,
          "a run or a checkpoint whose weights to begin with: of the same network, or of a "
          "supernet, of which a genotype's network takes its operations'; empty: new ones; in a "
          "training that follows a search, 'search': what that ends with",
          optional=True),
    Field("network.name", "cnn", TEXT, one_of(*NETWORKS, brought=True),
          "what is trained: the CNN or 2NN of McMahan et al. 2017, pfl-research's small CNN, a "
          "residual network, a densely connected one, that of `genotype`, or your own, as "
          "path/to/file.py:Name",
          optional=True),
    Field("network.padding", "same", TEXT, one_of("same", "flower"),
          "of the CNN: its convolutions keep the size; flower: they lose a pixel a side, which the "
          "pools add, as in Flower's baseline",
          needs=("network.name", ("cnn",)), optional=True),
    Field("network.normalization", "batch", TEXT, one_of("batch", "group"),
          "after each convolution; batch: over the batch, whose statistics unlike clients do not "
          "share; group: inside each example",
          needs=("network.name", NORMALIZED), optional=True),
    Field("network.init_channels", 16, INT, channels, "channels C of the first cell",
          needs=("network.name", ("genotype",)), optional=True),
    Field("network.layers", 8, INT, at_least(3, 1000), "cells L; those at L//3 and 2L//3 reduce",
          needs=("network.name", ("genotype",)), optional=True),
    Field("network.auxiliary", False, FLAG, anything,
          "train a second classifier, after two thirds of the cells, beside the last one",
          needs=("network.name", ("genotype",)), optional=True),
    Field("optimizer.learning_rate", 0.025, FLOAT, above(0),
          "of the weights, in the first local epoch of the first round"),
    Field("optimizer.schedule", "within_round", TEXT,
          one_of("constant", *FALLING),
          "of the learning rate: a cosine over the local epochs, anew each round, as in search; a "
          "cosine over the rounds; or both, the first from where the second is",
          optional=True),
    Field("optimizer.learning_rate_min", 0.001, FLOAT, at_least(0), "what the cosine tends to",
          needs=("optimizer.schedule", FALLING)),
    Field("optimizer.momentum", 0.9, FLOAT, between(0, 1), "of SGD"),
    Field("optimizer.weight_decay", 3e-4, FLOAT, at_least(0), "added to the gradient (coupled)"),
    Field("optimizer.clip_norm", 5.0, FLOAT, at_least(0),
          "greatest norm of the weights' gradient; 0: no clipping"),
    Field("optimizer.auxiliary_weight", 0.4, FLOAT, at_least(0),
          "of the second classifier's loss",
          needs=("network.auxiliary", (True,)), optional=True),
    Field("optimizer.drop_path_rate", 0.0, FLOAT, between(0, 1),
          "probability that an example loses an operation's output, in the last round; it grows "
          "evenly, from 0 in the first",
          needs=("network.name", ("genotype",)), optional=True),
    Field("server.optimizer", "sgd", TEXT, one_of("sgd", "momentum", *ADAPTIVE),
          "how the server steps to the clients' mean; sgd of learning rate 1 takes it as it is "
          "(FedAvg); momentum: FedAvgM; adam: FedAdam; yogi: FedYogi",
          optional=True),
    Field("server.learning_rate", 1.0, FLOAT, above(0),
          "of that step; less than 1 with adam and yogi, which move every weight by about as much: "
          "0.01 is usual",
          optional=True),
    Field("server.momentum", 0.9, FLOAT, between(0, 1), "share of earlier steps that stays",
          needs=("server.optimizer", ("momentum",)), optional=True),
    Field("server.beta1", 0.9, FLOAT, between(0, 1), "share of the steps' mean that stays",
          needs=("server.optimizer", ADAPTIVE), optional=True),
    Field("server.beta2", 0.99, FLOAT, between(0, 1), "share of their squares' mean that stays",
          needs=("server.optimizer", ADAPTIVE), optional=True),
    Field("server.epsilon", 1e-3, FLOAT, above(0), "added to the root of the squares",
          needs=("server.optimizer", ADAPTIVE), optional=True),
    Field("server.batch_stats", "recalibrated", TEXT, one_of("averaged", "recalibrated"),
          "BatchNorm statistics: the clients' mean, or taken anew with the averaged weights",
          needs=("network.normalization", ("batch",))),
    Field("server.recalibration_fraction", 1.0, FLOAT, between(0.001, 1, "[]"),
          "part of each client's train batches that recalibrated statistics are taken from; all of "
          "them cost 3 % of a search's round of 5 local epochs",
          needs=("server.batch_stats", ("recalibrated",))),
    Field("augment.crop_padding", 4, INT, at_least(0, MANY),
          "pixels padded before a random crop; less than the images' shorter side"),
    Field("augment.flip", True, FLAG, anything, "flip left and right at random"),
    Field("augment.cutout", 16, INT, at_least(0, MANY),
          "side of the erased square, pixels, less than the images' shorter side; 0: none"),
    Field("report.progress", True, FLAG, anything, "a progress bar", False),
    Field("report.tensorboard", True, FLAG, anything, "write TensorBoard events", False),
    Field("report.wandb", "off", TEXT, one_of("off", "offline", "online"),
          "track the run with Weights & Biases, which the group wandb installs", False),
    Field("report.wandb_project", "fednas_jax", TEXT, filled, "of Weights & Biases", False),
    Field("report.names", "ours", TEXT, one_of("ours", "originals"),
          "of metrics in TensorBoard and W&B: those of metrics.jsonl, or the authors'", False),
    Field("report.plots", True, FLAG, anything, "draw the pictures", False),
    Field("report.page", True, FLAG, anything,
          "write report.html, the run's page, at its end", False),
)  # fmt: skip
