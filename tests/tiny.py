"""The smallest runs there are, one an algorithm, for tests of whole runs and of what they leave."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from fednas_jax import config as schema
from fednas_jax.checkpoints import model_file
from fednas_jax.checkpoints.checkpoint import Checkpoints
from fednas_jax.data import vision
from fednas_jax.data.augment import Augmentation
from fednas_jax.data.task import Task
from fednas_jax.experiment import assembly, provenance
from fednas_jax.federated.ranks.communicator import LOCAL
from fednas_jax.fields import config_file
from fednas_jax.runtime.files import read_json
from tests.quick import quick_jit

ROOT = Path(__file__).resolve().parents[1]


def search_config() -> Any:
    """3 rounds, 3 unlike clients, 90 digits, C = 2, L = 3: a round takes a fraction of a second."""
    config = config_file.load(str(ROOT / "configs/digits_quick.py:quick"))
    config.rounds = 3
    config.local_epochs = 2
    config.batch_size = 8
    config.dataset.max_train_examples = 90
    config.dataset.max_test_examples = 40
    config.partition.num_clients = 3
    config.partition.min_size = 5
    config.supernet.init_channels = 2
    config.report.progress = False
    config.report.page = False
    config.report.tensorboard = False
    config.report.plots = False
    return config


def fedavg_config() -> Any:
    """5 rounds, 6 clients of 14 or 15 digits, 4 of them a round, the 2NN."""
    config = schema.default()
    config.algorithm = "fedavg"
    config.network.name = "2nn"
    config.rounds = 5
    config.local_epochs = 1
    config.batch_size = 4
    config.clients_per_round = 4
    config.optimizer.learning_rate = 0.1
    config.optimizer.schedule = "constant"
    config.optimizer.momentum = config.optimizer.weight_decay = config.optimizer.clip_norm = 0.0
    config.held_out_every = 2
    config.test_every = 3
    config.checkpoint_every = 3
    config.dataset.name = "digits"
    config.dataset.max_train_examples = 88
    config.dataset.max_test_examples = 30
    config.partition.name = "homo"
    config.partition.num_clients = 6
    config.augment.crop_padding = config.augment.cutout = 0
    config.augment.flip = False
    config.report.progress = False
    config.report.page = False
    return config


def image_task(shape: tuple[int, int, int]) -> Task:
    """Images of a shape, as they are."""
    augmentation = Augmentation(0, False, 0, (0.5,), (1.0,))
    return vision.task(jax.ShapeDtypeStruct(shape, np.uint8), augmentation)


def genotype_config(**fields: Any) -> Any:
    """Trains FedNAS_V1 with the sizes of the smallest search, with fields set by dotted names."""
    config = fedavg_config()
    config.network.name = "genotype"
    config.network.init_channels = 2
    config.network.layers = 3
    config.update_from_flattened_dict(fields)
    return config


def final_state(workdir: Path) -> dict[str, bytes]:
    """The arrays of a run's last checkpoint, as bytes."""
    config = schema.resolve(read_json(workdir / "run.json")["config"])
    algorithm = assembly.build_algorithm(config, assembly.load_dataset(config))
    shapes = jax.eval_shape(algorithm.init, jax.random.key(0))
    state = Checkpoints(workdir / "checkpoints").restore_latest(shapes).state
    return {
        jax.tree_util.keystr(path): np.asarray(leaf).tobytes()
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
    }


def first_checkpoint(config: Any, workdir: Path) -> Path:
    """A checkpoint of the state that a run begins with, as the run would write it."""
    resolved = schema.resolve(config)
    dataset = assembly.load_dataset(resolved)
    state = quick_jit(assembly.build_algorithm(resolved, dataset).init)(jax.random.key(0))
    return _save(state, resolved, workdir)


def any_checkpoint(config: Any, workdir: Path) -> Path:
    """A checkpoint of the shapes of a run's, without compiling: of numbers that no run begins with.

    So what takes a running statistic or a scale for its first value is found out.
    """
    resolved = schema.resolve(config)
    shapes = abstract_state(resolved)
    rng = np.random.RandomState(0)

    def drawn(path: Any, leaf: Any) -> np.ndarray:
        if leaf.ndim < 2 or "batch_stats" in jax.tree_util.keystr(path):
            return (rng.rand(*leaf.shape) + 0.5).astype(leaf.dtype)
        return (rng.randn(*leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1]))).astype(leaf.dtype)

    return _save(jax.tree_util.tree_map_with_path(drawn, shapes), resolved, workdir)


def abstract_state(config: Any) -> Any:
    """The shapes and types of what a run's server holds."""
    resolved = schema.resolve(config)
    algorithm = assembly.build_algorithm(resolved, assembly.load_dataset(resolved))
    return jax.eval_shape(lambda: algorithm.init(jax.random.key(0)))


def _save(state: Any, config: Any, workdir: Path) -> Path:
    dataset = assembly.load_dataset(config)
    model = model_file.to_json(assembly.describe_model(config, dataset))
    partition = assembly.make_partition(config, dataset)
    about = {
        "model": model,
        "examples": provenance.to_keep(LOCAL, config, dataset, partition, None),
    }
    Checkpoints(workdir / "checkpoints").save(1, state, None, is_best=True, **about)
    return workdir / "checkpoints" / "000001"
