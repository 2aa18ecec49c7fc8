"""Words that people type for fields and values: of other frameworks, of papers, misspelt.

A field names its other words itself (`Field.also`). This file has the words for values, the words
for what is set without a field, and the search for the field that was meant.
"""

from collections.abc import Callable, Mapping, Sequence

from fednas_jax.fields.field import Field
from fednas_jax.runtime.errors import closest, plain

_PARTITIONS = {
    **dict.fromkeys(
        ("hetero", "dirichlet", "lda", "dir", "non_iid", "niid", "heterogeneous", "hetero_dir",
         "label_skew", "latent_dirichlet", "noniid_labeldir", "label_dir"),
        "hetero",
    ),
    **dict.fromkeys(("homo", "iid", "uniform", "random", "homogeneous", "equal", "even"), "homo"),
    **dict.fromkeys(
        ("natural", "natural_id", "by_client", "by_user", "by_writer", "client", "user", "writer",
         "real", "own"),
        "natural",
    ),
    **dict.fromkeys(
        ("shards", "pathological", "shard", "label_shards", "sort_and_partition"), "shards"
    ),
    **dict.fromkeys(
        ("power_law", "quantity_skew", "lognormal", "log_normal", "powerlaw"), "power_law"
    ),
    **dict.fromkeys(("file", "npz", "saved", "load"), "file"),
    **dict.fromkeys(("table", "csv", "counts", "fednas", "paper"), "table"),
}  # fmt: skip

PARTITIONS = {
    word + end: right for word, right in _PARTITIONS.items() for end in ("", "_partitioner")
}
"""Word -> `partition.name`. Flower's classes end with `Partitioner`."""

ALGORITHMS = dict.fromkeys(
    ("fednova", "fedper", "fedbn", "fedrep", "feddyn", "fedgen", "fedmd", "fedma", "fedala",
     "fedpm", "fedpac", "fedbabu", "fedasync", "fedbuff", "fednasnet", "scaffold", "moon", "ditto",
     "apfl", "pfedme", "perfedavg", "lgfedavg", "qfedavg", "fednag", "fedadagrad", "fedproto"),
    "",
)  # fmt: skip
"""Algorithms that the package does not have, and to which none of its own is near."""

NETWORKS = {
    **dict.fromkeys(("lenet", "lenet5", "convnet", "simple_cnn", "fedavg_cnn"), "cnn"),
    **dict.fromkeys(("mlp", "dnn", "fc", "fully_connected", "linear", "two_nn"), "2nn"),
    **dict.fromkeys(("resnet", "resnet18", "resnet34"), "resnet20"),
    **dict.fromkeys(("resnet44", "resnet50", "resnet110"), "resnet56"),
    **dict.fromkeys(("densenet121", "densenet169"), "densenet201"),
    "densenet": "densenet_small",
    "pfl": "pfl_cnn",
    **dict.fromkeys(("searched", "nas", "derived"), "genotype"),
    **dict.fromkeys(("supernet", "search"), "'genotype', or config.algorithm=fednas to search"),
    "darts": "'genotype' with config.genotype=DARTS_V2",
    "darts_v1": "'genotype' with config.genotype=DARTS_V1",
    "darts_v2": "'genotype' with config.genotype=DARTS_V2",
    "fednas": "'genotype' with config.genotype=FedNAS_V1",
    "fednas_v1": "'genotype' with config.genotype=FedNAS_V1",
}  # fmt: skip
"""Word -> `network.name`."""

FLAG_OF_NETWORKS = (
    "model", "models", "net", "nets", "arch", "archs", "architecture", "architectures", "genotype",
    "genotypes", "backbones", "networkname", "modelname",
)  # fmt: skip
"""Words for the flag `--networks` of `compare`, as `plain` writes them."""

OWN_DATA = "the path of your own data, see docs/data.md"

DATASETS = {
    **dict.fromkeys(("cifar", "cifar_10"), "cifar10"),
    "cifar_100": "cifar100",
    **dict.fromkeys(("fashion", "fmnist", "fashionmnist"), "fashion_mnist"),
    **dict.fromkeys(("sklearn", "sklearn_digits", "load_digits"), "digits"),
    **dict.fromkeys(
        ("femnist", "emnist", "kmnist", "qmnist", "notmnist", "mnist_m", "svhn", "imagenet",
         "tiny_imagenet", "cinic10", "cifar20", "celeba", "gld23k", "shakespeare", "stackoverflow",
         "medmnist", "custom", "own"),
        OWN_DATA,
    ),
}  # fmt: skip
"""Word -> `dataset.name`."""

SERVER_OPTIMIZERS = {
    **dict.fromkeys(("fedavg", "none", "mean"), "sgd"),
    **dict.fromkeys(("fedavgm", "avgm", "sgdm", "heavy_ball"), "momentum"),
    **dict.fromkeys(("fedadam", "adamw"), "adam"),
    "fedyogi": "yogi",
}
"""Word -> `server.optimizer`."""

SCHEDULES = {
    **dict.fromkeys(("none", "fixed", "const", "off"), "constant"),
    **dict.fromkeys(
        ("cosine", "cosine_decay", "cosine_annealing", "cos"),
        "'across_rounds' (one cosine over all rounds) or 'within_round' (one in each round)",
    ),
}
"""Word -> `optimizer.schedule`."""

NORMALIZATIONS = {
    **dict.fromkeys(("bn", "batchnorm", "batch_normalization"), "batch"),
    **dict.fromkeys(("gn", "groupnorm", "group_normalization"), "group"),
}
"""Word -> `network.normalization`."""

DTYPES = {
    **dict.fromkeys(("fp32", "float", "f32", "single"), "float32"),
    **dict.fromkeys(("bf16", "fp16", "float16", "half", "mixed", "amp"), "bfloat16"),
    **dict.fromkeys(("float64", "f64", "fp64", "double", "fp8", "float8", "int8"), ""),
}
"""Word -> `supernet.dtype`; "" for a type that it cannot be."""

TRACKING = {
    **dict.fromkeys(("true", "yes", "on", "enabled", "1"), "online"),
    **dict.fromkeys(("false", "no", "none", "disabled", "0"), "off"),
}
"""Word -> `report.wandb`."""

_DEVICE = (
    "JAX chooses the device, a GPU where it finds one: `fednas-jax doctor` says what it finds, "
    "JAX_PLATFORMS=cuda or JAX_PLATFORMS=cpu before the command sets it"
)
_WHICH_GPU = "CUDA_VISIBLE_DEVICES=0 before the command chooses the GPU, see docs/running.md"
_RANKS = "`bash scripts/launch_mpi.sh -n N` starts N processes, see docs/ranks.md"
_WORKDIR = "did you mean --workdir?"
_RESUME = "the same command with the same --workdir resumes a run"
_OF_CLIENTS = (
    "clients step by SGD with config.optimizer.momentum; config.server.optimizer is the server's"
)
_DROPOUT = (
    "no field sets the dropout of a network; config.optimizer.drop_path_rate drops operations of a "
    "genotype's network, config.faults.dropout_share is for clients that drop out"
)
_NO_WORKERS = "nothing is set, since all examples are in memory and no worker loads them"
_FROM_DATA = "the data set determines it"

_DEVICES = ("device", "devices", "gpu", "cuda", "cpu", "tpu", "platform", "accelerator", "backend",
            "use_gpu", "use_cuda", "no_cuda", "client_resources", "on_gpu")  # fmt: skip
_GPUS = ("gpus", "gpu_id", "gpu_ids", "device_id", "device_ids", "num_gpus", "n_gpus", "gpu_num",
         "gpu_num_per_server")  # fmt: skip

ANYWHERE: dict[str, str] = {
    plain(word): advice
    for words, advice in (
        (_DEVICES, _DEVICE),
        (_GPUS, _WHICH_GPU),
        (("workers", "num_workers", "n_workers", "dataloader_workers", "pin_memory", "num_cpus"),
         _NO_WORKERS),
        (("num_classes", "num_labels", "image_size", "img_size", "input_shape", "in_channels"),
         _FROM_DATA),
        (("dropout", "dropout_rate", "drop_rate", "dropout_prob", "dropout_p"), _DROPOUT),
    )
    for word in words
}  # fmt: skip
"""Word -> what to do, where no field sets it, in whatever section the word is typed."""

ELSEWHERE: dict[str, str] = {
    plain(word): advice
    for words, advice in (
        (("world_size", "num_processes", "n_proc", "nodes", "num_nodes", "num_hosts", "ranks",
          "mpi", "rank", "local_rank", "gpu_server_num"), _RANKS),
        (("workdir", "work_dir", "output_dir", "output", "out", "out_dir", "logdir", "log_dir",
          "log_path", "save", "save_dir", "save_path", "results_dir", "run_name", "exp_name",
          "run_dir", "experiment", "model_dir", "checkpoint_dir"), _WORKDIR),
        (("resume", "resume_from", "restore", "ckpt", "checkpoint", "load", "load_path",
          "resume_training"), _RESUME),
        (("optimizer", "client_optimizer", "optim", "opt", "optimizer_type", "optimizer_name",
          "client_opt", "optimizer_betas", "optimizer_beta1", "optimizer_beta2", "optimizer_eps",
          "optimizer_epsilon"), _OF_CLIENTS),
        (("classes",), _FROM_DATA),
        (("unrolled", "second_order", "bilevel", "arch_search_method"),
         "FedNAS has no second-order step; config.search.order sets the order of its two updates"),
    )
    for word in words
} | ANYWHERE  # fmt: skip
"""Word -> what to do, where no field sets it."""


def flag_of_results(name: str) -> str:
    """The advice about an unknown flag of a command that reads results; "" if there is none."""
    known = {plain(word) for word in (*_DEVICES, *_GPUS)}
    return ANYWHERE[plain(name)] if plain(name) in known else ""


def field_meant(
    name: str,
    fields: Sequence[Field],
    is_read: Callable[[Field], bool],
    before: str = "config.",
    readers: Callable[[Field], Sequence[str]] = lambda field: (),
) -> str:
    """What somebody who typed an unknown field meant.

    Args:
      name: the unknown field, such as "lr" or "optimizer.lr".
      fields: the known fields.
      is_read: whether the config's algorithm reads a field; among several, these are suggested.
      before: what stands before a field where it is set.
      readers: the names of the algorithms that read a field, for those that this one does not.

    Returns:
      "did you mean config.optimizer.learning_rate?", or what to do instead; "" if it is not clear.
    """
    by_name = {field.name: field for field in fields}
    found = _same(name, by_name) or _by_word(name, by_name)
    section, leaf = _section(name, by_name, is_read), _leaf(name)
    if not found and (advice := ELSEWHERE.get(plain(name))):
        return advice
    if not found and plain(leaf) in _WHAT_ALL_HAVE:
        found = _itself(name.rpartition(".")[0], section, by_name)
    elif not found and section:
        inside = {other: by_name[other] for other in by_name if other.startswith(f"{section}.")}
        found = _by_word(leaf, inside) or _near(leaf, inside)
        found = found or _outside(leaf, section, by_name)
        advice = ANYWHERE.get(plain(leaf))
    elif not found:
        found = _by_word(leaf, by_name) or _same_leaf(leaf, by_name)
        advice = ELSEWHERE.get(plain(leaf))
        found = found or ([] if advice else _near(leaf, by_name, everywhere=True))
    if not found:
        return advice or ""
    read = [other for other in found if is_read(by_name[other])]
    of = sorted({one for other in found for one in readers(by_name[other])})
    only = f", which only {' and '.join(of)} reads" if of and not read else ""
    return f"did you mean {' or '.join(before + x for x in read or found)}{only}?"


_WHAT_ALL_HAVE = ("name", "type", "kind", "class")
"""Last parts that say nothing alone: `model.name` stands for `model`."""


def _itself(of: str, section: str, by_name: Mapping[str, Field]) -> list[str]:
    """The field meant by `OF.name`: the name in its section, else `OF`, a field or a word for one.

    Args:
      of: what stands before the last dot.
      section: the known section that it stands for, or "".
      by_name: the known fields.
    """
    if f"{section}.name" in by_name:
        return [f"{section}.name"]
    return (_same(of, by_name) or _by_word(of, by_name)) if of else []


def _leaf(name: str) -> str:
    return name.rpartition(".")[2]


def _section(name: str, by_name: Mapping[str, Field], is_read: Callable[[Field], bool]) -> str:
    """The known section that a name was meant to lie in, such as "optimizer"; "" if none.

    A word for the name in a section, such as `model` for `network.name`, stands for the section if
    the algorithm reads it.
    """
    sections = {other.rpartition(".")[0] for other in by_name} - {""}
    given = name.rpartition(".")[0]
    if not given or given in sections:
        return given
    words = [other for other in _by_word(given, by_name) if is_read(by_name[other])]
    named = [other for other in words if other.endswith(".name")]
    return named[0].rpartition(".")[0] if named else closest(given, sections)


def _same(name: str, by_name: Mapping[str, Field]) -> list[str]:
    """Fields that differ only in case, hyphens, underscores and dots."""
    return [other for other in by_name if plain(other) == plain(name)]


def _by_word(word: str, by_name: Mapping[str, Field]) -> list[str]:
    """Fields that have the word as another name."""
    return [other for other, field in by_name.items() if plain(word) in map(plain, field.also)]


def _outside(leaf: str, section: str, by_name: Mapping[str, Field]) -> list[str]:
    """Fields outside of the typed section that a word certainly stands for.

    These are those that have it as another name, and one of no section that has this name. If the
    typed section has fields with the same last part, it is those.
    """
    if len(leaf) < 2:  # C, E, B: of a paper, in which they stand alone
        return []
    found = _by_word(leaf, by_name) or [o for o in _same(leaf, by_name) if "." not in o]
    beside = dict.fromkeys(f"{section}.{_leaf(other)}" for other in found)
    return [other for other in beside if other in by_name] or found


def _same_leaf(leaf: str, by_name: Mapping[str, Field]) -> list[str]:
    """Fields with the same last part in any section."""
    return [other for other in by_name if plain(_leaf(other)) == plain(leaf)]


def _near(leaf: str, by_name: Mapping[str, Field], everywhere: bool = False) -> list[str]:
    """Fields whose last part begins with a word, is similar to it, or has its parts.

    Args:
      leaf: the word.
      by_name: the fields.
      everywhere: whether these are the fields of all sections; then a single part, such as "steps",
        is not enough.
    """
    letters = leaf.lower()
    parts = set(letters.split("_"))
    long = max(map(len, parts)) >= _LEAST
    single = letters.removesuffix("s")  # `betas`: beta1, beta2
    for beginning in (letters, *([] if single in map(_leaf, by_name) else [single])):
        begun = [other for other in by_name if long and _leaf(other).startswith(beginning)]
        if 0 < len(begun) <= _MOST:
            return begun
    leaves = {_leaf(other) for other in by_name}
    alike = {other for other in leaves if other[0] == letters[:1] and not everywhere}
    if close := closest(leaf, alike) or closest(leaf, leaves, _LEAF_CLOSE):
        found = [other for other in by_name if _leaf(other) == close]
        return [close] if close in found else found
    also = [word for field in by_name.values() for word in field.also]
    if close := closest(leaf, also, _WORD_CLOSE):
        return _by_word(close, by_name)
    if not long or (everywhere and len(parts) < 2):
        return []
    having = [other for other in by_name if parts <= set(_leaf(other).split("_"))]
    return having if len(having) <= _MOST else []


_LEAF_CLOSE, _WORD_CLOSE = 0.8, 0.9
"""Least similarity to the last part of a field, and to another name of a field."""

_MOST, _LEAST = 4, 3
"""Number of fields that are suggested at most; letters of a word that is searched in names."""
