"""The sizes at which the search is measured, and federations of those sizes with random images."""

from typing import Any, NamedTuple

import jax
import numpy as np

from fednas_jax import config as schema
from fednas_jax.data.datasets import Dataset, Split
from fednas_jax.data.partition import Partition
from fednas_jax.experiment import assembly
from fednas_jax.runtime.errors import UserError, suggest

NUM_CLASSES = 10


class Case(NamedTuple):
    """The sizes of a supernet and of a batch."""

    name: str
    init_channels: int
    layers: int
    batch_size: int
    side: int

    def peer_arguments(self) -> list[str]:
        """For `benchmarks.pytorch.serve`."""
        return [
            f"--channels={self.init_channels}",
            f"--layers={self.layers}",
            f"--batch={self.batch_size}",
            f"--side={self.side}",
            f"--classes={NUM_CLASSES}",
            f"--device={'cuda' if jax.default_backend() == 'gpu' else 'cpu'}",
        ]


CASES = {
    case.name: case
    for case in (
        Case("tiny", 8, 3, 16, 8),
        Case("middle", 8, 5, 16, 32),
        Case("paper", 16, 8, 16, 32),
        Case("paper64", 16, 8, 64, 32),
    )
}
PARAMETERS = {"tiny": 209_442, "middle": 394_210, "paper": 1_930_618, "paper64": 1_930_618}
"""Number of weights of each case, as counted by PyTorch."""


def find(name: str) -> Case:
    """Finds a case by name.

    Raises:
      UserError: there is no such case.
    """
    if name not in CASES:
        raise UserError(f"--only: no case {name!r}{suggest(name, CASES)}")
    return CASES[name]


def check_parameters(case: Case, found: int) -> None:
    """Refuses to compare networks with different numbers of weights.

    Raises:
      UserError: `found` differs from the number of weights of the case.
    """
    if found != PARAMETERS[case.name]:
        raise UserError(
            f"{case.name}: {found} weights; {PARAMETERS[case.name]} are needed to compare"
        )


def config(case: Case, **fields: Any) -> schema.Config:
    """The default config at this size, without augmentation and with one local epoch.

    Args:
      case: the size.
      fields: further fields to set, with two underscores in place of a dot.
    """
    sizes = {"init_channels": case.init_channels, "layers": case.layers}
    chosen = {
        "batch_size": case.batch_size,
        "local_epochs": 1,
        "client__held_out_fraction": 0.0,
        "augment__crop_padding": 0,
        "augment__flip": False,
        "augment__cutout": 0,
        **{f"supernet__{name}": value for name, value in sizes.items()},
        **fields,
    }
    texts = {name.replace("__", "."): str(value) for name, value in chosen.items()}
    return schema.resolve(schema.default(), texts)


def population(case: Case, settings: schema.Config, clients: int, steps: int) -> Any:
    """Clients with random images, each with enough images for `steps` local steps per epoch.

    Returns:
      An `assembly.Population`.
    """
    each = 2 * steps * case.batch_size
    rng = np.random.RandomState(0)
    shape = (clients * each, case.side, case.side, 3)
    labels = np.arange(shape[0], dtype=np.int32) % NUM_CLASSES
    split = Split(rng.randint(0, 256, shape, np.uint8), labels, None)
    test = Split(split.images[: case.batch_size], labels[: case.batch_size], None)
    names = tuple(str(i) for i in range(NUM_CLASSES))
    dataset = Dataset("random", split, test, NUM_CLASSES, names, (0.5,) * 3, (0.25,) * 3)
    parts = np.split(np.arange(shape[0], dtype=np.int32), clients)
    return assembly.populate(settings, dataset, Partition(tuple(parts)))
