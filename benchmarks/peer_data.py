"""The same examples and the same partition for everyone: a file that peers read."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fednas_jax.data.datasets import Dataset


def write_examples(path: Path, dataset: Dataset, clients: Sequence[np.ndarray]) -> None:
    """Writes a data set and who has what, for `benchmarks.peers.learning.read_examples`.

    Args:
      path: of the .npz to write; plain arrays, nothing pickled.
      dataset: uint8 images; peers divide them by 255 and normalise them by mean and std.
      clients: indices into the train split, equally many each.
    """
    np.savez(
        path,
        train_images=dataset.train.images,
        train_labels=dataset.train.labels,
        test_images=dataset.test.images,
        test_labels=dataset.test.labels,
        clients=np.stack(clients),
        mean=np.asarray(dataset.mean),
        std=np.asarray(dataset.std),
    )
