"""The pictures of any run: its partition, and its metrics over rounds.

The plotting code is imported at its first use: Matplotlib and SciPy take a second, which would
delay the first round.
"""

from pathlib import Path
from typing import Any

import numpy as np

from fednas_jax.data.partition import Partition, class_counts


def draw_partition(
    folder: Path,
    partition: Partition,
    labels: np.ndarray,
    class_names: tuple[str, ...],
    client_ids: list[int] | None = None,
    client_names: list[str] | None = None,
) -> None:
    """Draws how many examples of each class every client holds.

    Clients are named by their names or ids in the data, if it has any.
    """
    from fednas_jax.report import plots

    counts = class_counts(partition, labels, len(class_names))
    plots.partition(
        counts, class_names, folder / "partition.png", client_ids=client_names or client_ids
    )


def draw_progress(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Draws the metrics so far.

    Args:
      folder: the folder of the picture.
      rows: metrics of the rounds so far.
    """
    from fednas_jax.report import plots

    plots.accuracy_and_loss(rows, folder / "accuracy_and_loss.png")
