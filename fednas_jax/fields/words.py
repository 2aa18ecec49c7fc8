"""Words that people type for fields and values: of other frameworks, of papers, misspelt.

A field names its other words itself (`Field.also`). This file has the words for values, the words
for what is set without a field, and the search for the field that was meant.
"""

from collections.abc import Callable, Mapping, Sequence

from fednas_jax.fields.field import Field
from fednas_jax.runtime.errors import closest, plain

PARTITIONS = {
    **dict.fromkeys(
        ("dirichlet", "lda", "dir", "non_iid", "heterogeneous", "hetero_dir", "label_skew",
         "latent_dirichlet", "noniid_labeldir", "label_dir"),
        "hetero",
    ),
    **dict.fromkeys(("iid", "uniform", "random", "homogeneous", "equal", "even"), "homo"),
    **dict.fromkeys(
        ("by_client", "by_user", "by_writer", "client", "user", "writer", "real", "own"), "natural"
    ),
    **dict.fromkeys(("pathological", "shard", "label_shards", "sort_and_partition"), "shards"),
    **dict.fromkeys(("quantity_skew", "lognormal", "log_normal", "powerlaw"), "power_law"),
    **dict.fromkeys(("npz", "saved", "load"), "file"),
    **dict.fromkeys(("csv", "counts", "fednas", "paper"), "table"),
}  # fmt: skip
"""Word -> `partition.name`."""

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

_OWN = "an .npz file with data of your own, see docs/data.md"

DATASETS = {
    **dict.fromkeys(("cifar", "cifar_10"), "cifar10"),
    "cifar_100": "cifar100",
    **dict.fromkeys(("fashion", "fmnist", "fashionmnist"), "fashion_mnist"),
    **dict.fromkeys(("sklearn", "sklearn_digits", "load_digits"), "digits"),
    **dict.fromkeys(
        ("femnist", "emnist", "svhn", "imagenet", "tiny_imagenet", "cinic10", "celeba", "gld23k",
         "shakespeare", "stackoverflow", "medmnist", "custom", "own"),
        _OWN,
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
}
"""Word -> `supernet.dtype`."""

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

ELSEWHERE: Mapping[str, str] = {
    plain(word): advice
    for words, advice in (
        (("device", "devices", "gpu", "cuda", "cpu", "tpu", "platform", "accelerator", "backend",
          "use_gpu", "use_cuda", "no_cuda", "client_resources", "on_gpu"), _DEVICE),
        (("gpus", "gpu_id", "gpu_ids", "device_id", "device_ids", "num_gpus", "n_gpus", "gpu_num",
          "gpu_num_per_server"), _WHICH_GPU),
        (("world_size", "num_processes", "n_proc", "nodes", "num_nodes", "num_hosts", "ranks",
          "mpi", "rank", "local_rank", "gpu_server_num"), _RANKS),
        (("workers", "num_workers", "n_workers", "dataloader_workers", "pin_memory", "num_cpus"),
         "nothing is set, since all examples are in memory and no worker loads them"),
        (("workdir", "work_dir", "output_dir", "output", "out", "out_dir", "logdir", "log_dir",
          "log_path", "save", "save_dir", "save_path", "results_dir", "run_name", "exp_name",
          "run_dir", "experiment", "model_dir", "checkpoint_dir"), _WORKDIR),
        (("resume", "resume_from", "restore", "ckpt", "checkpoint", "load", "load_path",
          "resume_training"), _RESUME),
        (("optimizer", "client_optimizer", "optim", "opt", "optimizer_type", "optimizer_name",
          "client_opt"), _OF_CLIENTS),
        (("num_classes", "classes", "num_labels", "image_size", "img_size", "input_shape",
          "in_channels"), "the data set determines it"),
        (("unrolled", "second_order", "bilevel", "arch_search_method"),
         "FedNAS has no second-order step; config.search.order sets the order of its two updates"),
    )
    for word in words
}  # fmt: skip
"""Word -> what to do, where no field sets it."""


def field_meant(
    name: str, fields: Sequence[Field], is_read: Callable[[Field], bool], before: str = "config."
) -> str:
    """What somebody who typed an unknown field meant.

    Args:
      name: the unknown field, such as "lr" or "optimizer.lr".
      fields: the known fields.
      is_read: whether the config's algorithm reads a field; among several, these are suggested.
      before: what stands before a field where it is set.

    Returns:
      "did you mean config.optimizer.learning_rate?", or what to do instead; "" if it is not clear.
    """
    by_name = {field.name: field for field in fields}
    section, leaf = _section(name, by_name), _leaf(name)
    inside = {other: by_name[other] for other in by_name if other.startswith(f"{section}.")}
    found = _same(name, by_name) or _by_word(name, by_name)
    if not found and (advice := ELSEWHERE.get(plain(name))):
        return advice
    if not found and section:
        found = _by_word(leaf, inside) or _near(leaf, inside)
    if not found:
        found = _moved(_by_word(leaf, by_name), section, by_name) or _same_leaf(leaf, by_name)
    if not found and (advice := ELSEWHERE.get(plain(leaf))):
        return advice
    found = found or _near(leaf, by_name)
    read = [other for other in found if is_read(by_name[other])]
    return f"did you mean {' or '.join(before + x for x in read or found)}?" if found else ""


def _leaf(name: str) -> str:
    return name.rpartition(".")[2]


def _section(name: str, by_name: Mapping[str, Field]) -> str:
    """The known section that a name was meant to lie in, such as "optimizer"; "" if none."""
    sections = {other.rpartition(".")[0] for other in by_name} - {""}
    given = name.rpartition(".")[0]
    return given if given in sections else closest(given, sections) if given else ""


def _same(name: str, by_name: Mapping[str, Field]) -> list[str]:
    """Fields that differ only in case, hyphens, underscores and dots."""
    return [other for other in by_name if plain(other) == plain(name)]


def _by_word(word: str, by_name: Mapping[str, Field]) -> list[str]:
    """Fields that have the word as another name."""
    return [other for other, field in by_name.items() if plain(word) in map(plain, field.also)]


def _moved(found: Sequence[str], section: str, by_name: Mapping[str, Field]) -> list[str]:
    """Fields of the typed section with the same last part, if there are any; else the fields."""
    beside = dict.fromkeys(f"{section}.{_leaf(other)}" for other in found)
    return [other for other in beside if other in by_name] or list(found)


def _same_leaf(leaf: str, by_name: Mapping[str, Field]) -> list[str]:
    """Fields with the same last part in any section."""
    return [other for other in by_name if plain(_leaf(other)) == plain(leaf)]


def _near(leaf: str, by_name: Mapping[str, Field]) -> list[str]:
    """Fields whose last part begins with a word, is similar to it, or has its parts.

    Another name of a field counts too, if it is very similar: of so many names, some would often
    be a little similar.
    """
    letters = leaf.lower()
    long = max(map(len, letters.split("_"))) >= _LEAST
    begun = [other for other in by_name if long and _leaf(other).startswith(letters)]
    if 0 < len(begun) <= _MOST:
        return begun
    if close := closest(leaf, map(_leaf, by_name)):
        found = [other for other in by_name if _leaf(other) == close]
        return [close] if close in found else found
    also = [word for field in by_name.values() for word in field.also]
    if close := closest(leaf, also, _WORD_CLOSE):
        return _by_word(close, by_name)
    parts = set(letters.split("_"))
    having = [other for other in by_name if long and parts <= set(_leaf(other).split("_"))]
    return having if len(having) <= _MOST else []


_WORD_CLOSE = 0.85
"""Least similarity to another name of a field."""

_MOST, _LEAST = 3, 3
"""Number of fields that are suggested at most; letters of a word that is searched in names."""
