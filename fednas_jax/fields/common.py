"""The fields of a config that do not belong to one algorithm.

Fields that are `optional` are read only by the algorithms that name them in their `reads`.
"""

from typing import Any

from fednas_jax.fields import words
from fednas_jax.fields.field import (
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
"""What `network.name` may be; `networks/registry.py` builds them."""

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
    Field("seed", 0, INT, _SEED,
          "Seed of all randomness of a run except the partition, which has a seed of its own",
          also=("random_seed", "rng_seed", "manual_seed", "random_state")),
    Field("algorithm", "fednas", TEXT, filled,
          "Name of the algorithm: what clients and server compute",
          also=("algo", "method", "strategy", "federated_optimizer", "fl_algorithm",
                "aggregator")),
    Field("rounds", 50, INT, at_least(1, INT32_MAX),
          "Number of federated rounds; a run can go on to another number",
          also=("num_rounds", "n_rounds", "comm_round", "comm_rounds",
                "communication_rounds", "global_rounds", "global_epochs", "num_server_rounds",
                "server_rounds", "max_rounds", "total_rounds", "T")),
    Field("local_epochs", 5, INT, at_least(1, MANY),
          "Number of local epochs E, passes over a client's train part, in each round; in FedAvg "
          "the train part is all that the client does not hold out",
          also=("epochs", "num_epochs", "n_epochs", "local_epoch", "local_ep", "E",
                "max_epochs", "epochs_per_round", "num_local_epochs", "client_epochs")),
    Field("batch_size", 64, INT, at_least(0, 2**20),
          "Number of examples in a local step, McMahan's B; 0: all examples of a client at once, B "
          "of infinity (FedAvg without batch normalisation only)",
          besides="0 for all of a client's examples at once",
          also=("batch", "bs", "B", "local_bs", "local_batch_size", "train_batch_size",
                "minibatch_size")),
    Field("clients_per_chunk", "auto", (int, str), _chunk,
          "Number of clients computed side by side; auto: as many as the memory of the GPU holds, "
          "1 on a CPU; measured: the fastest of 1, 2, 4, ..., each compiled and timed when the run "
          "begins", False,
          also=("clients_per_gpu", "num_parallel_clients", "parallel_clients", "chunk",
                "chunk_size", "vmap_size")),
    Field("clients_per_round", 0, INT, at_least(0),
          "Number of clients selected in each round; 0: clients_fraction decides",
          also=("client_num_per_round", "num_clients_per_round", "clients_per_iteration",
                "sampled_clients", "cohort_size", "min_fit_clients", "num_selected_clients",
                "per_round", "m")),
    Field("clients_fraction", 1.0, FLOAT, above(0, 1),
          "Share of all clients selected in each round, McMahan's C, at least one client; 1: every "
          "client takes part in every round",
          also=("fraction", "fraction_fit", "fraction_train", "C", "frac", "participation",
                "participation_rate", "client_fraction", "sample_fraction", "sampling_rate",
                "join_ratio", "client_sample_ratio")),
    Field("unreachable_share", 0.0, FLOAT, between(0, 1, "[]"),
          "Probability that a selected client cannot be reached; a round that reaches no client "
          "changes nothing",
          also=("unavailable_share",)),
    Field("faults.dropout_share", 0.0, FLOAT, between(0, 1, "[]"),
          "Probability that a client drops out during the round, after a random share of its local "
          "steps",
          also=("client_dropout",)),
    Field("faults.dropouts", "lose", TEXT, one_of("lose", "keep"),
          "Treatment of the partial work of clients that drop out; lose: it is discarded; keep: it "
          "is averaged like any other"),
    Field("faults.deadline_steps", 0, INT, at_least(0),
          "Deadline of a round, in the local steps that a client of speed 1 makes before it; 0: no "
          "deadline"),
    Field("faults.late", "drop", TEXT, one_of("drop", "keep"),
          "Treatment of clients that have not finished at the deadline; drop: their work is "
          "discarded; keep: what they have computed until then is averaged"),
    Field("faults.speed_sigma", 0.0, FLOAT, between(0, 10, "[]"),
          "Standard deviation of the logarithm of a client's speed, which is log-normal with "
          "median 1 and drawn anew in each round; the speed decides which clients miss the "
          "deadline and which return first; 0: all have speed 1"),
    Field("faults.extra_share", 0.0, FLOAT, between(0, 100, "[]"),
          "Share of additional clients selected in each round (over-selection), relative to the "
          "number of clients whose results are used; the first to return are used; 0: none"),
    Field("faults.min_clients", 0, INT, at_least(0),
          "Minimum number of clients whose results a round needs; a round with fewer is discarded; "
          "0: no minimum",
          also=("min_available_clients",)),
    Field("faults.too_few", "skip", TEXT, one_of("skip", "repeat"),
          "Treatment of a round with fewer clients than faults.min_clients; skip: it changes "
          "nothing; repeat: it is run again with other clients, up to 10 times in all"),
    Field("faults.not_finite", "stop", TEXT, one_of("stop", "leave_out"),
          "Treatment of a client whose loss or weights are not finite; stop: the run ends with an "
          "error; leave_out: the client is left out of that round, and reported"),
    Field("transforms", "", TEXT, several,
          "Transforms of what clients send, such as clipping, applied in this order: each of your "
          "own, as path/to/file.py:Name, separated by commas; empty: none",
          default_recorded=False),
    Field("reducer", "sum", TEXT, one_of("sum", brought=True),
          "Reducer of what clients send; of your own: path/to/file.py:Name",
          default_recorded=False),
    Field("callbacks", "", TEXT, several,
          "Functions that are called after each round, once it is recorded: each of your own, as "
          "path/to/file.py:Name, separated by commas; empty: none", False,
          default_recorded=False),
    Field("test_every", 1, INT, at_least(0),
          "Number of rounds from one evaluation on the test set to the next; 0: only after the "
          "last round",
          also=("eval_every", "frequency_of_the_test", "test_freq", "eval_freq",
                "evaluate_every", "eval_interval")),
    Field("held_out_every", 1, INT, at_least(0),
          "Number of rounds from one evaluation on the clients' held-out examples to the next; the "
          "best round is the one with the highest accuracy on them; 0: only after the last round"),
    Field("checkpoint_every", 1, INT, at_least(1),
          "Number of rounds from one checkpoint to the next; more are saved after the last round "
          "and, where clients hold examples out, after each round that is the best so far", False,
          also=("save_every", "save_freq", "save_interval", "checkpoint_freq")),
    Field("checkpoints_to_keep", 2, INT, at_least(1),
          "Number of latest checkpoints to keep, in addition to that of the best round", False),
    Field("compilation_cache", "auto", TEXT, filled,
          "Path of the folder that keeps compiled programs between runs; auto: "
          "JAX_COMPILATION_CACHE_DIR if set, else fednas_jax/xla in the user's cache folder; off: "
          "none", False,
          also=("cache", "cache_dir", "jax_cache")),
    Field("dataset.name", "cifar10", TEXT, filled,
          "Name of a data set, or path of your own data (an .npz file, a .csv file, or a folder of "
          "images or of a Hugging Face data set), or path/to/file.py:Name of a function that "
          "returns it",
          also=("dataset", "data", "data_name", "data_set", "dataset_path", "dataset_file")),
    Field("dataset.data_dir", "", TEXT, anything,
          "Path of the folder of TensorFlow Datasets; empty: TFDS_DATA_DIR or the default folder",
          False,
          also=("data_dir", "datadir", "data_path", "data_root", "root", "tfds_dir",
                "data_cache_dir")),
    Field("dataset.test_path", "", TEXT, anything,
          "Path of the test set, of the same kinds as your own data, where dataset.name is a path "
          "too; empty: the test set is in that file or folder, or is split off from it"),
    Field("dataset.test_fraction", 0.2, FLOAT, between(0, 1, "()"),
          "Share of the examples that is split off as the test set, where the data set has none",
          also=("test_size", "test_split", "test_ratio")),
    Field("dataset.max_train_examples", 0, INT, at_least(0),
          "Maximum number of training examples to use; 0: all",
          also=("max_train", "n_train", "num_train", "train_size", "max_samples", "max_examples",
                "num_samples")),
    Field("dataset.max_test_examples", 0, INT, at_least(0),
          "Maximum number of test examples to use; 0: all",
          also=("max_test", "n_test", "num_test")),
    Field("partition.name", "hetero", TEXT,
          one_of("homo", "hetero", "table", "shards", "power_law", "natural", "file", brought=True,
                 also=words.PARTITIONS),
          "Name of the partition: how examples are distributed over clients; of your own: "
          "path/to/file.py:Name",
          also=("partition", "partition_method", "partitioner", "partitioning", "split",
                "distribution", "partition_type", "non_iid", "iid", "niid")),
    Field("partition.num_clients", 16, INT, at_least(1),
          "Number of clients; not read by natural, table and file, which determine it themselves",
          also=("num_clients", "n_clients", "clients", "num_users", "n_parties",
                "num_parties", "parties", "client_num_in_total", "total_clients", "num_partitions",
                "num_supernodes", "clients_num", "K")),
    Field("partition.seed", 0, INT, between(-1, 2**32),
          "Seed of the partition; -1: the random generator that made the FedNAS paper's partition"),
    Field("partition.concentration", 0.5, FLOAT, above(0, 1e9),
          "Concentration of the Dirichlet distribution over clients (hetero); the smaller, the "
          "more the clients differ",
          also=("alpha", "beta", "dirichlet_alpha", "partition_alpha", "dir_alpha",
                "lda_alpha", "diralpha", "dirichlet")),
    Field("partition.min_size", 10, INT, at_least(1),
          "Minimum number of examples of a client (hetero, power_law)",
          also=("min_partition_size", "min_samples", "min_require_size")),
    Field("partition.max_tries", 1000, INT, at_least(1),
          "Maximum number of draws until every client has partition.min_size examples (hetero)"),
    Field("partition.table", "fednas_table2", TEXT, filled,
          "Name of a known table, or path of a CSV file, with the number of examples of each class "
          "that each client has (table)"),
    Field("partition.table_fraction", 1.0, FLOAT, between(0, 1, "(]"),
          "Share of each number in the table to use (table)"),
    Field("partition.shards_per_client", 2, INT, at_least(1),
          "Number of shards of each client, cut from the examples sorted by label (shards)",
          also=("num_shards", "shards", "num_shards_per_client")),
    Field("partition.labels_per_client", 2, INT, at_least(1),
          "Number of classes of each client (power_law)",
          also=("classes_per_client", "n_classes_per_client", "num_classes_per_client",
                "class_per_client", "num_classes_per_partition", "partition_classes",
                "partition_num_classes")),
    Field("partition.sigma", 2.0, FLOAT, above(0, 100),
          "Standard deviation of the logarithm of the log-normal weights by which the examples of "
          "a class are shared out (power_law); the larger, the more the sizes of clients differ"),
    Field("partition.balanced", False, FLAG, anything,
          "Whether to distribute only as many examples of each class as the smallest class has; "
          "not possible with table and file"),
    Field("partition.path", "", TEXT, anything,
          "Path of a saved partition, an .npz file (file), made for the same training examples; "
          "these depend on the seed where a test set is split off",
          also=("partition_file", "partition_path")),
    Field("client.held_out_fraction", 0.1, FLOAT, between(0, 1),
          "Share of a client's examples that is held out to select the best round; 0: none, and "
          "the last round counts as the best",
          also=("val_fraction", "val_split", "validation_split", "validation_fraction",
                "held_out", "holdout")),
    Field("genotype", "FedNAS_V1", TEXT, filled,
          "Name of a published genotype to train, or path of a genotype's file: JSON, or as DARTS "
          "prints it, Genotype(normal=[...], ...); or such a text itself",
          # Not the name: what it stands for is recorded, and must stay as it was.
          False,
          needs=("network.name", ("genotype",)), optional=True,
          also=("arch", "genotype_path", "architecture")),
    Field("warm_start", "", TEXT, anything,
          "Path of a run or checkpoint to take the initial weights from: one of the same network, "
          "or of a supernet, from which the network of a genotype takes the weights of its "
          "operations; in a training stage after a search, 'search' takes those of the search; "
          "empty: random weights",
          optional=True,
          also=("pretrained", "pretrained_path", "init_from", "init_weights",
                "from_checkpoint")),
    Field("network.name", "cnn", TEXT, one_of(*NETWORKS, brought=True, also=words.NETWORKS),
          "Name of the network to train: the CNN or 2NN of McMahan et al. 2017, the small CNN of "
          "pfl-research, a residual or densely connected network, the network of a genotype, or "
          "one of your own, as path/to/file.py:Name",
          optional=True,
          also=("model", "model_name", "network", "net", "architecture_name", "backbone")),
    Field("network.padding", "same", TEXT, one_of("same", "flower"),
          "Padding of the convolutions; same: they keep the image size; flower: they lose a pixel "
          "on each side and the pools pad instead, as in Flower's baseline",
          needs=("network.name", ("cnn",)), optional=True),
    Field("network.normalization", "batch", TEXT,
          one_of("batch", "group", also=words.NORMALIZATIONS),
          "Kind of normalisation after each convolution; batch: over the batch, with statistics "
          "that differ between clients with different data; group: within each example",
          needs=("network.name", NORMALIZED), optional=True,
          also=("norm", "norm_layer", "normalisation", "normalization_layer", "use_gn",
                "group_norm")),
    Field("network.init_channels", 16, INT, channels,
          "Number of channels C of the first cell",
          needs=("network.name", ("genotype",)), optional=True,
          also=("channels", "width", "network_C")),
    Field("network.layers", 8, INT, at_least(3, 1000),
          "Number of cells L; those at L//3 and 2L//3 are reduction cells",
          needs=("network.name", ("genotype",)), optional=True,
          also=("network_L", "num_layers", "n_layers", "depth", "cells", "num_cells")),
    Field("network.auxiliary", False, FLAG, anything,
          "Whether to train an auxiliary classifier, after two thirds of the cells, besides the "
          "final one",
          needs=("network.name", ("genotype",)), optional=True,
          also=("aux", "aux_head", "auxiliary_head")),
    Field("optimizer.learning_rate", 0.025, FLOAT, above(0),
          "Learning rate of the weights in the first local epoch of the first round",
          also=("lr", "learning_rate", "client_lr", "local_lr", "eta", "step_size",
                "client_learning_rate")),
    Field("optimizer.schedule", "within_round", TEXT,
          one_of("constant", *FALLING, also=words.SCHEDULES),
          "Schedule of the learning rate; within_round: a cosine over the local epochs, anew in "
          "each round, as in the search of FedNAS; across_rounds: a cosine over the rounds; both: "
          "the first, starting at the value of the second",
          optional=True,
          also=("scheduler", "lr_schedule", "lr_scheduler", "lr_decay", "schedule")),
    Field("optimizer.learning_rate_min", 0.001, FLOAT, at_least(0),
          "Learning rate that the cosine approaches at its end",
          needs=("optimizer.schedule", FALLING),
          also=("lr_min", "min_lr", "eta_min", "learning_rate_end")),
    Field("optimizer.momentum", 0.9, FLOAT, between(0, 1), "Momentum of SGD",
          also=("momentum", "client_momentum", "mom")),
    Field("optimizer.weight_decay", 3e-4, FLOAT, at_least(0),
          "Factor of the weights that is added to the gradient (coupled weight decay); 0: none",
          also=("wd", "weight_decay", "l2", "decay", "l2_reg")),
    Field("optimizer.clip_norm", 5.0, FLOAT, at_least(0),
          "Maximum norm of the gradient of the weights; 0: no clipping",
          also=("clip", "grad_clip", "gradient_clip", "max_grad_norm", "gradient_clipping",
                "clip_grad", "max_norm")),
    Field("optimizer.auxiliary_weight", 0.4, FLOAT, at_least(0),
          "Weight of the auxiliary classifier's loss",
          needs=("network.auxiliary", (True,)), optional=True,
          also=("auxiliary_loss_weight", "aux_weight")),
    Field("optimizer.drop_path_rate", 0.0, FLOAT, between(0, 1),
          "Probability in the last round that an example loses the output of an operation; it "
          "grows linearly from 0 in the first round",
          needs=("network.name", ("genotype",)), optional=True,
          also=("drop_path_prob", "drop_path", "droppath", "drop_path_rate")),
    Field("server.optimizer", "sgd", TEXT,
          one_of("sgd", "momentum", *ADAPTIVE, also=words.SERVER_OPTIMIZERS),
          "Optimiser of the server, which steps towards the mean of the clients' weights; sgd with "
          "learning rate 1: FedAvg, which takes the mean as it is; momentum: FedAvgM; adam: "
          "FedAdam; yogi: FedYogi",
          optional=True,
          also=("server_optimizer", "server_opt")),
    Field("server.learning_rate", 1.0, FLOAT, above(0),
          "Learning rate of the server; must be below 1 with adam and yogi, for which 0.01 is "
          "usual, since they move all weights by about the learning rate",
          optional=True,
          also=("server_lr", "slr", "global_lr", "eta_g", "server_step_size")),
    Field("server.momentum", 0.9, FLOAT, between(0, 1),
          "Momentum of the server: share of the earlier steps that is kept",
          needs=("server.optimizer", ("momentum",)), optional=True,
          also=("server_momentum", "server_mom")),
    Field("server.beta1", 0.9, FLOAT, between(0, 1),
          "Decay rate of the mean of the server's steps",
          needs=("server.optimizer", ADAPTIVE), optional=True),
    Field("server.beta2", 0.99, FLOAT, between(0, 1),
          "Decay rate of the mean of the squares of the server's steps",
          needs=("server.optimizer", ADAPTIVE), optional=True),
    Field("server.epsilon", 1e-3, FLOAT, above(0),
          "Constant added to the root of the mean of the squares, tau of Reddi et al. 2021",
          needs=("server.optimizer", ADAPTIVE), optional=True,
          also=("eps", "tau", "adam_eps", "server_eps")),
    Field("server.batch_stats", "recalibrated", TEXT, one_of("averaged", "recalibrated"),
          "Source of the server's BatchNorm statistics; averaged: the mean of those of the "
          "clients; recalibrated: computed anew with the averaged weights",
          needs=("network.normalization", ("batch",))),
    Field("server.recalibration_fraction", 1.0, FLOAT, between(0.001, 1, "[]"),
          "Share of each client's train batches from which statistics are recalibrated; with all "
          "of them, a search's round of 5 local epochs takes 3 % longer",
          needs=("server.batch_stats", ("recalibrated",))),
    Field("augment.crop_padding", 4, INT, at_least(0, MANY),
          "Number of black pixels added on each side before a random crop; must be less than the "
          "shorter side of the images; 0: no crop",
          also=("crop", "random_crop", "pad", "padding_pixels")),
    Field("augment.flip", True, FLAG, anything, "Whether to mirror images left to right at random",
          also=("horizontal_flip", "random_flip", "hflip")),
    Field("augment.cutout", 16, INT, at_least(0, MANY),
          "Side of the square that cutout erases, in pixels; must be less than the shorter side of "
          "the images; 0: no cutout",
          also=("cutout_length", "cutout_size")),
    Field("report.progress", True, FLAG, anything, "Whether to show a progress bar", False,
          also=("progress_bar", "tqdm")),
    Field("report.tensorboard", True, FLAG, anything, "Whether to write TensorBoard events", False,
          also=("tb", "tensorboard_dir")),
    Field("report.wandb", "off", TEXT, one_of("off", "offline", "online", also=words.TRACKING),
          "Whether to track the run with Weights & Biases, which needs the dependency group wandb",
          False,
          also=("use_wandb", "enable_wandb")),
    Field("report.wandb_project", "fednas_jax", TEXT, filled,
          "Name of the Weights & Biases project", False,
          also=("project", "project_name")),
    Field("report.names", "ours", TEXT, one_of("ours", "originals"),
          "Names of the metrics in TensorBoard and Weights & Biases; ours: those of metrics.jsonl; "
          "originals: those of the authors' code", False),
    Field("report.plots", True, FLAG, anything, "Whether to draw plots", False),
    Field("report.page", True, FLAG, anything,
          "Whether to write report.html, the page of the run, at its end", False),
)  # fmt: skip
