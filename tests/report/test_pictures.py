"""The pictures of any run."""

from pathlib import Path

import numpy as np

from fednas_jax.data.partition import Partition
from fednas_jax.report import pictures


def test_every_picture_appears(tmp_path: Path) -> None:
    pictures.draw_progress(tmp_path, [{"round": 1, "test_loss": 1.0}])
    clients = Partition((np.array([0, 2], np.int32), np.array([1], np.int32)))
    pictures.draw_partition(tmp_path, clients, np.array([0, 1, 1]), ("a", "b"), [10, 55])
    names = ["accuracy_and_loss", "partition"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{n}.png" for n in names]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in tmp_path.iterdir())
